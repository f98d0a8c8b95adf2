"""One stage as the HLS templates print it: its engines' constants and processes, the streams between them with their depths, the calls in order."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from fpga_squeeze.emit.hls_types import Call, EngineContext, StageContext, Stream
from fpga_squeeze.emit.idents import Namer
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo import group_fifo, internal_fifos, results_fifo
from fpga_squeeze.hardware.plan import ConvStage, Engine, ExpandStage, JoinStage, Link, PoolStage, Stage
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
    """The context of one stage; `namer` gives the engines of an expand stage and of a bypass their names. `bypass`: a join's second input."""
    base = StageContext(
        kind="conv", ident=ident, name=stage.name, in_type=lane_type(link_in.fmt), out_type=lane_type(link_out.fmt),
        in_word=word_type(link_in.fmt, link_in.out_lanes), out_word=word_type(link_out.fmt, link_out.in_lanes),
    )  # fmt: skip
    if isinstance(stage, ConvStage):
        return _conv_context(stage.engine, base)
    if isinstance(stage, ExpandStage):
        return _expand_context(stage, namer, base)
    if isinstance(stage, JoinStage):
        assert bypass is not None
        from fpga_squeeze.emit.hls_join import join_context

        return join_context(stage, namer, replace(base, bypass_word=word_type(bypass.fmt, bypass.out_lanes), bypass_type=lane_type(stage.bypass_fmt)))
    if isinstance(stage, PoolStage):
        return replace(base, kind="pool", constants=pool_constants(stage), function="max_pool", describe=describe_pool(stage))
    u = "unsigned"
    c, h, w = stage.in_shape
    function = "global_sum_in_registers" if ceil(c / stage.lanes) <= REGISTER_FOLDS else "global_sum_in_memory"
    counts = ((u, "C", c), (u, "PIXELS", h * w), (u, "LANES", stage.lanes))
    return replace(base, kind="sum", constants=counts, function=function, describe=f"sum of {h}x{w} positions for each of {c} classes")


def pool_constants(stage: PoolStage) -> tuple[tuple[str, str, int], ...]:
    """Constants of a pool's configuration struct."""
    u = "unsigned"
    c, h, w = stage.in_shape
    return (
        (u, "C", c), (u, "IH", h), (u, "IW", w), (u, "OH", stage.out_shape[1]), (u, "OW", stage.out_shape[2]), (u, "K", stage.kernel),
        (u, "STRIDE", stage.stride), (u, "PAD_TOP", stage.padding[0]), (u, "PAD_LEFT", stage.padding[1]), (u, "LANES", stage.lanes),
        ("int", "LOWEST", stage.fmt.qmin),
    )  # fmt: skip


def describe_pool(stage: PoolStage) -> str:
    """A pool in words."""
    return f"max pool {stage.kernel}x{stage.kernel}, stride {stage.stride}, {size_text(stage.in_shape)} to {size_text(stage.out_shape)}"


def engine_context(ident: str, engine: Engine, with_centre: bool) -> EngineContext:
    """The constants of an engine and what reads its windows; `with_centre`: the reader of an expand pair."""
    e, u, i = engine, "unsigned", "int"
    constants = (
        (u, "IC", e.in_shape[0]), (u, "IH", e.in_shape[1]), (u, "IW", e.in_shape[2]),
        (u, "OC", e.out_shape[0]), (u, "OH", e.out_shape[1]), (u, "OW", e.out_shape[2]),
        (u, "K", e.kernel), (u, "STRIDE", e.stride), (u, "PAD_TOP", e.padding[0]), (u, "PAD_LEFT", e.padding[1]),
        (u, "P_OC", e.fold.p_oc), (u, "P_IC", e.fold.p_ic), (u, "P_K", e.fold.p_k), (u, "P_PX", e.fold.p_px),
        (u, "IN_SIGNED", int(e.in_fmt.signed)), (u, "PACKING", PACKINGS[e.packing]), (u, "PACK_SHIFT", e.pack_shift),
        (u, "WEIGHT_BITS", e.weight_bits), (u, "BIAS_BITS", e.bias_bits), (i, "ACC_BITS", e.acc_bits), (u, "SHIFT_BITS", e.shift_bits),
        (i, "SHIFT_MIN", e.shift_min), (i, "SHIFT_MAX", e.shift_max), (i, "QMIN", e.out_fmt.qmin), (i, "QMAX", e.out_fmt.qmax),
        *_coding_constants(e),
    )  # fmt: skip
    if e.pixel_buffered and not with_centre:
        reader = "pixel_reader"
    else:
        reader = f"{'window' if e.fold.p_px == 1 else 'group'}_reader{'_with_centre' if with_centre else ''}"
    grouped = e.fold.p_px > 1
    return EngineContext(ident, e.node, e, lane_type(e.in_fmt), lane_type(e.out_fmt), constants, reader, grouped, STORAGES[e.weight_storage])


def _coding_constants(e: Engine) -> tuple[tuple[str, str, int], ...]:
    """What lib/weight_reader.h needs to know of coded weights."""
    c = e.coding
    if c is None:
        return ()
    found = [("VALUE_BITS", c.value_bits), ("CODEBOOK", int(bool(c.codebook)))]
    if c.sparse:
        found += [("GROUPS", c.groups), ("GROUP_LANES", c.group), ("READ", c.read), ("COLUMNS", c.columns), ("VALUE_WORDS", c.words)]
    return tuple(("unsigned", name, value) for name, value in found)


def size_text(shape: Shape) -> str:
    """A shape in words."""
    return f"{shape[0]} channels of {shape[1]}x{shape[2]}"


def describe_engine(e: Engine) -> str:
    """An engine in words."""
    f = e.fold
    pixels = f", P_px {f.p_px}" if f.p_px > 1 else ""
    packed = f", two to a DSP by {e.packing}" if e.packing != "none" else ""
    return (
        f"{e.kernel}x{e.kernel} convolution, stride {e.stride}, {size_text(e.in_shape)} to {size_text(e.out_shape)}; "
        f"P_oc {f.p_oc}, P_ic {f.p_ic}, P_k {f.p_k}{pixels}: {f.multipliers} multipliers{packed}, {e.cycles} cycles a frame"
    )


def _conv_context(engine: Engine, base: StageContext) -> StageContext:
    context = engine_context(base.ident, engine, with_centre=False)
    streams, calls = engine_calls(context, "in", "out")
    return replace(base, engines=(context,), streams=streams, calls=calls, describe=describe_engine(engine))


def engine_calls(context: EngineContext, source: str, sink: str, prefix: str = "") -> tuple[tuple[Stream, ...], tuple[Call, ...]]:
    """The streams and processes of an engine on its own, from stream `source` to stream `sink`; `prefix` tells the streams of several engines apart."""
    ident, engine = context.ident, context.engine
    groups, windows, results = (f"{prefix}{name}" for name in ("groups", "windows", "results"))
    streams, calls = [], []
    if context.grouped and engine.pixel_buffered:
        streams.append(Stream(groups, f"{ident}_group", group_fifo(engine)))
        calls.append(Call(f"{ident}_gather", (source, groups)))
        source = groups
    streams.append(Stream(windows, f"{ident}_window", WINDOW_DEPTH))
    calls.append(Call(f"{ident}_read", (source, windows)))
    target = sink
    if context.grouped:
        streams.append(Stream(results, f"{ident}_result_group", results_fifo(engine)))
        target = results
    calls.append(Call(f"{ident}_multiply", (windows, target)))
    if context.grouped:
        calls.append(Call(f"{ident}_order", (target, sink)))
    return tuple(streams), tuple(calls)


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
        base, kind="expand", engines=(engine_context(one, e1, with_centre=False), engine_context(three, e3, with_centre=True)),
        streams=tuple(streams), calls=tuple(calls),
        describe=f"1x1: {describe_engine(e1)}\n// {e3.kernel}x{e3.kernel}: {describe_engine(e3)}",
    )  # fmt: skip
