"""One stage as the HLS templates print it: its engines' constants and processes, the streams between them with their depths, the calls in order."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from fpga_squeeze.emit.hls_types import Call, EngineContext, StageContext, Stream
from fpga_squeeze.emit.idents import Namer
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo import group_fifo, internal_fifos, results_fifo
from fpga_squeeze.hardware.plan import AddStage, ConvStage, Engine, ExpandStage, Link, PoolStage, Stage
from fpga_squeeze.ir import Shape

WINDOW_DEPTH = 2
"""Beats between a window reader and its multipliers: both run a beat a cycle, the FIFO only decouples their stalls."""

REGISTER_FOLDS = 8
"""A global sum of at most this many beats a pixel keeps its sums in registers: a memory could not return one in time."""

PACKINGS = {"none": 0, "channels": 1, "pixels": 2}
"""fsq::PACK_NONE, PACK_CHANNELS and PACK_PIXELS of lib/dot_products.h."""

STORAGES = {"auto": "", "lut": "lutram", "bram": "bram", "uram": "uram"}
"""`impl` of the weights' BIND_STORAGE; without one the synthesizer chooses."""


def lane_type(fmt: TensorFormat) -> str:
    """C++ type of one activation."""
    return f"ap_{'int' if fmt.signed else 'uint'}<{fmt.bits}>"


def word_type(fmt: TensorFormat, lanes: int) -> str:
    """C++ type of one stream beat."""
    return f"fsq::beat<{lane_type(fmt)}, {lanes}>"


def group_format(fmt: TensorFormat, p_px: int) -> TensorFormat:
    """Format whose lane type is that of a channel of `p_px` pixels side by side: for one pixel `fmt` itself, else all their bits, unsigned."""
    return fmt if p_px == 1 else TensorFormat(p_px * fmt.bits, 0, signed=False)


def converter_function(fmt: TensorFormat, channels: int, pixels: int, in_lanes: int, out_lanes: int) -> str:
    """The width converter for `pixels` pixels of `channels` channels, template arguments included."""
    if in_lanes % out_lanes == 0:
        name = "split_beats"
    elif out_lanes % in_lanes == 0:
        name = "merge_beats"
    else:
        name = "regroup_beats"
    return f"fsq::{name}<{lane_type(fmt)}, {in_lanes}, {out_lanes}, {channels}, {pixels}>"


def stage_context(stage: Stage, link_in: Link, link_out: Link, ident: str, namer: Namer, bypass: Link | None = None) -> StageContext:
    """The context of one stage; `namer` gives the engines of an expand stage and of a bypass their names. `bypass`: an addition's second input."""
    base = StageContext(
        kind="conv", ident=ident, name=stage.name, in_type=lane_type(link_in.fmt), out_type=lane_type(link_out.fmt),
        in_word=word_type(link_in.fmt, link_in.out_lanes), out_word=word_type(link_out.fmt, link_out.in_lanes),
    )  # fmt: skip
    if isinstance(stage, ConvStage):
        return _conv_context(stage.engine, base)
    if isinstance(stage, ExpandStage):
        return _expand_context(stage, namer, base)
    if isinstance(stage, AddStage):
        assert bypass is not None
        return _add_context(stage, namer, replace(base, bypass_word=word_type(bypass.fmt, bypass.out_lanes), bypass_type=lane_type(stage.bypass_fmt)))
    u = "unsigned"
    c, h, w = stage.in_shape
    if isinstance(stage, PoolStage):
        sizes = (
            (u, "C", c), (u, "IH", h), (u, "IW", w), (u, "OH", stage.out_shape[1]), (u, "OW", stage.out_shape[2]), (u, "K", stage.kernel),
            (u, "STRIDE", stage.stride), (u, "PAD_TOP", stage.padding[0]), (u, "PAD_LEFT", stage.padding[1]), (u, "LANES", stage.lanes),
            ("int", "LOWEST", stage.fmt.qmin),
        )  # fmt: skip
        what = f"max pool {stage.kernel}x{stage.kernel}, stride {stage.stride}, {_size(stage.in_shape)} to {_size(stage.out_shape)}"
        return replace(base, kind="pool", constants=sizes, function="max_pool", describe=what)
    function = "global_sum_in_registers" if ceil(c / stage.lanes) <= REGISTER_FOLDS else "global_sum_in_memory"
    counts = ((u, "C", c), (u, "PIXELS", h * w), (u, "LANES", stage.lanes))
    return replace(base, kind="sum", constants=counts, function=function, describe=f"sum of {h}x{w} positions for each of {c} classes")


def _engine_context(ident: str, engine: Engine, with_centre: bool) -> EngineContext:
    e, u, i = engine, "unsigned", "int"
    constants = (
        (u, "IC", e.in_shape[0]), (u, "IH", e.in_shape[1]), (u, "IW", e.in_shape[2]),
        (u, "OC", e.out_shape[0]), (u, "OH", e.out_shape[1]), (u, "OW", e.out_shape[2]),
        (u, "K", e.kernel), (u, "STRIDE", e.stride), (u, "PAD_TOP", e.padding[0]), (u, "PAD_LEFT", e.padding[1]),
        (u, "P_OC", e.fold.p_oc), (u, "P_IC", e.fold.p_ic), (u, "P_K", e.fold.p_k), (u, "P_PX", e.fold.p_px),
        (u, "IN_SIGNED", int(e.in_fmt.signed)), (u, "PACKING", PACKINGS[e.packing]), (u, "PACK_SHIFT", e.pack_shift),
        (u, "WEIGHT_BITS", e.weight_bits), (u, "BIAS_BITS", e.bias_bits), (i, "ACC_BITS", e.acc_bits), (u, "SHIFT_BITS", e.shift_bits),
        (i, "SHIFT_MIN", e.shift_min), (i, "SHIFT_MAX", e.shift_max), (i, "QMIN", e.out_fmt.qmin), (i, "QMAX", e.out_fmt.qmax),
    )  # fmt: skip
    if e.pixel_buffered and not with_centre:
        reader = "pixel_reader"
    else:
        reader = f"{'window' if e.fold.p_px == 1 else 'group'}_reader{'_with_centre' if with_centre else ''}"
    grouped = e.fold.p_px > 1
    return EngineContext(ident, e.node, e, lane_type(e.in_fmt), lane_type(e.out_fmt), constants, reader, grouped, STORAGES[e.weight_storage])


def _size(shape: Shape) -> str:
    return f"{shape[0]} channels of {shape[1]}x{shape[2]}"


def _describe_engine(e: Engine) -> str:
    f = e.fold
    pixels = f", P_px {f.p_px}" if f.p_px > 1 else ""
    packed = f", two to a DSP by {e.packing}" if e.packing != "none" else ""
    return (
        f"{e.kernel}x{e.kernel} convolution, stride {e.stride}, {_size(e.in_shape)} to {_size(e.out_shape)}; "
        f"P_oc {f.p_oc}, P_ic {f.p_ic}, P_k {f.p_k}{pixels}: {f.multipliers} multipliers{packed}, {e.cycles} cycles a frame"
    )


def _conv_context(engine: Engine, base: StageContext) -> StageContext:
    context = _engine_context(base.ident, engine, with_centre=False)
    streams, calls = _engine_calls(context, "in", "out")
    return replace(base, engines=(context,), streams=streams, calls=calls, describe=_describe_engine(engine))


def _engine_calls(context: EngineContext, source: str, sink: str) -> tuple[tuple[Stream, ...], tuple[Call, ...]]:
    """The streams and processes of an engine on its own, from stream `source` to stream `sink`."""
    ident, engine = context.ident, context.engine
    streams, calls = [], []
    if context.grouped and engine.pixel_buffered:
        streams.append(Stream("groups", f"{ident}_group", group_fifo(engine)))
        calls.append(Call(f"{ident}_gather", (source, "groups")))
        source = "groups"
    streams.append(Stream("windows", f"{ident}_window", WINDOW_DEPTH))
    calls.append(Call(f"{ident}_read", (source, "windows")))
    target = sink
    if context.grouped:
        streams.append(Stream("results", f"{ident}_result_group", results_fifo(engine)))
        target = "results"
    calls.append(Call(f"{ident}_multiply", ("windows", target)))
    if context.grouped:
        calls.append(Call(f"{ident}_order", (target, sink)))
    return tuple(streams), tuple(calls)


def _add_context(stage: AddStage, namer: Namer, base: StageContext) -> StageContext:
    u, i = "unsigned", "int"
    c, h, w = stage.in_shape
    wide = [f.bits + (0 if f.signed else 1) + a for f, a in zip((stage.in_fmt, stage.bypass_fmt), stage.align, strict=True)]
    constants = (
        (u, "C", c), (u, "PIXELS", h * w), (u, "LANES", stage.lanes), (i, "ALIGN_MAIN", stage.align[0]), (i, "ALIGN_BYPASS", stage.align[1]),
        (i, "ACC_BITS", max(wide) + 1), (i, "SHIFT_MIN", stage.shift), (i, "SHIFT_MAX", stage.shift), (i, "QMIN", stage.out_fmt.qmin),
        (i, "QMAX", stage.out_fmt.qmax),
    )  # fmt: skip
    what = f"sum of the main branch and the bypass, {_size(stage.in_shape)}"
    context = replace(base, kind="add", constants=constants, function="add", describe=what)
    if stage.engine is None:
        return context
    e = stage.engine
    engine = _engine_context(namer.take(e.node), e, with_centre=False)
    streams, calls = _engine_calls(engine, "bypass", "conv")
    streams = (*streams, Stream("conv", word_type(e.out_fmt, e.fold.p_oc), 2))
    operand = "conv"
    if e.fold.p_oc != stage.lanes:
        operand = "conv_regrouped"
        streams = (*streams, Stream(operand, word_type(e.out_fmt, stage.lanes), 2))
        calls = (*calls, Call(converter_function(e.out_fmt, c, h * w, e.fold.p_oc, stage.lanes), ("conv", operand)))
    calls = (*calls, Call(f"fsq::add<{base.ident}_cfg>", ("in", operand, "out")))
    return replace(context, engines=(engine,), streams=streams, calls=calls, describe=f"{what}\n// On the bypass: {_describe_engine(e)}")


def _expand_context(stage: ExpandStage, namer: Namer, base: StageContext) -> StageContext:
    e1, e3 = stage.expand1x1, stage.expand3x3
    one, three = namer.take(e1.node), namer.take(e3.node)
    depth = {f.name: f.depth for f in internal_fifos(stage)}
    p_px = e3.fold.p_px
    centre_fmt = group_format(e3.in_fmt, p_px)
    streams = [
        Stream("windows", f"{three}_window", WINDOW_DEPTH),
        Stream("centre", word_type(centre_fmt, e3.fold.p_ic), depth["centre"]),
        Stream("windows_1x1", f"{one}_window", WINDOW_DEPTH),
        Stream("out_1x1", word_type(e1.out_fmt, e1.fold.p_oc), depth["e1_out"]),
        Stream("out_kxk", word_type(e3.out_fmt, e3.fold.p_oc), depth["e3_out"]),
    ]
    converters: dict[str, Call] = {}
    for label, fmt, channels, pixels, lanes, wanted in (
        ("centre", centre_fmt, e1.in_shape[0], e1.pixel_groups, e3.fold.p_ic, e1.fold.p_ic),
        ("out_1x1", e1.out_fmt, e1.out_shape[0], e1.out_shape[1] * e1.out_shape[2], e1.fold.p_oc, stage.out_lanes),
        ("out_kxk", e3.out_fmt, e3.out_shape[0], e3.out_shape[1] * e3.out_shape[2], e3.fold.p_oc, stage.out_lanes),
    ):
        if lanes != wanted:
            streams.append(Stream(f"{label}_regrouped", word_type(fmt, wanted), 2))
            converters[label] = Call(converter_function(fmt, channels, pixels, lanes, wanted), (label, f"{label}_regrouped"))
    ends = {label: converters[label].arguments[1] if label in converters else label for label in ("centre", "out_1x1", "out_kxk")}
    multiply: list[Call] = []
    for ident, engine, windows, label in ((one, e1, "windows_1x1", "1x1"), (three, e3, "windows", "kxk")):
        if p_px == 1:
            multiply.append(Call(f"{ident}_multiply", (windows, f"out_{label}")))
        else:
            streams.append(Stream(f"results_{label}", f"{ident}_result_group", results_fifo(engine)))
            multiply.append(Call(f"{ident}_multiply", (windows, f"results_{label}")))
            multiply.append(Call(f"{ident}_order", (f"results_{label}", f"out_{label}")))
    pixels = e3.out_shape[1] * e3.out_shape[2]
    concat = f"fsq::concat<{base.ident}_out, {stage.out_lanes}, {e1.out_shape[0]}, {e3.out_shape[0]}, {pixels}>"
    calls = [
        Call(f"{three}_read", ("in", "windows", "centre")), *(c for k, c in converters.items() if k == "centre"),
        Call(f"{one}_read", (ends["centre"], "windows_1x1")), *multiply, *(c for k, c in converters.items() if k != "centre"),
        Call(concat, (ends["out_1x1"], ends["out_kxk"], "out")),
    ]  # fmt: skip
    return replace(
        base, kind="expand", engines=(_engine_context(one, e1, with_centre=False), _engine_context(three, e3, with_centre=True)),
        streams=tuple(streams), calls=tuple(calls),
        describe=f"1x1: {_describe_engine(e1)}\n// {e3.kernel}x{e3.kernel}: {_describe_engine(e3)}",
    )  # fmt: skip
