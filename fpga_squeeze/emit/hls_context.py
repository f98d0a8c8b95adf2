"""What the HLS templates print: every number and name computed and checked here, so that a template does no arithmetic."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil

from fpga_squeeze.emit.hls_types import (
    Call,
    CheckContext,
    Converter,
    DesignContext,
    EngineContext,
    ModuleContext,
    StageContext,
    Stream,
)
from fpga_squeeze.emit.hls_types import (
    HlsOptions as HlsOptions,
)
from fpga_squeeze.emit.idents import Namer, checked_identifier
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo import internal_fifos
from fpga_squeeze.hardware.plan import ConvStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, Link, PoolStage, Stage
from fpga_squeeze.ir import Shape
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

WINDOW_DEPTH = 2
"""Beats between a window reader and its multipliers: both run a beat a cycle, the FIFO only decouples their stalls."""

REGISTER_FOLDS = 8
"""A global sum of at most this many beats a pixel keeps its sums in registers: a memory could not return one in time."""


def lane_type(fmt: TensorFormat) -> str:
    """C++ type of one activation."""
    return f"ap_{'int' if fmt.signed else 'uint'}<{fmt.bits}>"


def word_type(fmt: TensorFormat, lanes: int) -> str:
    """C++ type of one stream beat."""
    return f"fsq::beat<{lane_type(fmt)}, {lanes}>"


def converter_function(fmt: TensorFormat, shape: Shape, in_lanes: int, out_lanes: int) -> str:
    """The width converter for one tensor, template arguments included."""
    if in_lanes % out_lanes == 0:
        name = "split_beats"
    elif out_lanes % in_lanes == 0:
        name = "merge_beats"
    else:
        name = "regroup_beats"
    return f"fsq::{name}<{lane_type(fmt)}, {in_lanes}, {out_lanes}, {shape[0]}, {shape[1] * shape[2]}>"


def file_stem(node: str) -> str:
    """Stem of a tensor's golden file: the node's name, with what file systems dislike replaced."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in node)


def design_context(qgraph: QuantGraph, plan: FoldPlan, options: HlsOptions) -> DesignContext:
    """Everything the HLS templates print. Raises InputError when plan and network do not fit, or a name is unusable."""
    _check_plan(qgraph, plan)
    top = checked_identifier(options.top, "top function")
    namer = Namer()
    namer.take(top)
    names = {s.name: namer.take(s.name) for s in plan.stages}
    modules = _modules(plan, names, namer)
    first, last = plan.links[0], plan.links[-1]
    streams, calls = _top_graph(plan, modules)
    out_fmt = last.fmt
    wide = out_fmt.bits + (0 if out_fmt.signed else 1) > 32
    return DesignContext(
        top=top, part=options.part, period_ns=f"{1000.0 / plan.clock_mhz:.3f}", digest=options.digest or configuration_digest(qgraph, plan, options),
        modules=modules, streams=streams, calls=calls, checks=_checks(plan, modules),
        in_channels=first.shape[0], in_bits=8 * first.shape[0], in_pixels=first.shape[1] * first.shape[2], out_bits=64 if wide else 32,
        classes=last.shape[0], sum_type=lane_type(out_fmt), in_file=file_stem(first.tensor), out_file=file_stem(last.tensor), in_shape=first.shape,
    )  # fmt: skip


def configuration_digest(qgraph: QuantGraph, plan: FoldPlan, options: HlsOptions) -> str:
    """16 hexadecimal digits over the plan, the options and every integer of the network."""
    digest = hashlib.sha256(repr((plan, options)).encode())
    for node in qgraph.nodes:
        digest.update(repr((node.name, node.inputs, node.shape, node.fmt)).encode())
        if isinstance(node.op, QConv):
            for values in (node.op.weight, node.op.bias, node.op.shift):
                digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _check_plan(qgraph: QuantGraph, plan: FoldPlan) -> None:
    if len(plan.links) != len(plan.stages) + 1:
        raise InputError(f"plan: {len(plan.stages)} stages need {len(plan.stages) + 1} links, got {len(plan.links)}")
    for link in plan.links:
        if link.tensor not in qgraph.by_name:
            raise InputError(f"plan: link {link.name} carries {link.tensor!r}, which is no layer of the network; plan it again")
    for stage in plan.stages:
        for engine in stage.engines:
            if engine.padding[0] > engine.kernel:
                raise InputError(f"layer {engine.node}: padding {engine.padding} is larger than the kernel {engine.kernel}; no engine covers this")
            if min(engine.padding) < 0:
                raise InputError(f"layer {engine.node}: negative padding {engine.padding}; no engine covers this")
    if not isinstance(plan.stages[-1], GlobalSumStage):
        raise InputError(f"layer {plan.stages[-1].name}: the last stage must be the global sum, got {type(plan.stages[-1]).__name__}")
    if plan.links[0].fmt != TensorFormat(8, plan.links[0].fmt.frac, signed=False):
        raise InputError(f"plan: the image link must carry unsigned 8-bit pixels, got {plan.links[0].fmt}")


def _engine_context(ident: str, engine: Engine, with_centre: bool) -> EngineContext:
    e, u, i = engine, "unsigned", "int"
    constants = (
        (u, "IC", e.in_shape[0]), (u, "IH", e.in_shape[1]), (u, "IW", e.in_shape[2]),
        (u, "OC", e.out_shape[0]), (u, "OH", e.out_shape[1]), (u, "OW", e.out_shape[2]),
        (u, "K", e.kernel), (u, "STRIDE", e.stride), (u, "PAD_TOP", e.padding[0]), (u, "PAD_LEFT", e.padding[1]),
        (u, "P_OC", e.fold.p_oc), (u, "P_IC", e.fold.p_ic), (u, "P_K", e.fold.p_k),
        (u, "WEIGHT_BITS", e.weight_bits), (u, "BIAS_BITS", e.bias_bits), (i, "ACC_BITS", e.acc_bits), (u, "SHIFT_BITS", e.shift_bits),
        (i, "SHIFT_MIN", e.shift_min), (i, "SHIFT_MAX", e.shift_max), (i, "QMIN", e.out_fmt.qmin), (i, "QMAX", e.out_fmt.qmax),
    )  # fmt: skip
    buffered = e.pixel_buffered and not with_centre
    return EngineContext(ident, e.node, e, lane_type(e.in_fmt), lane_type(e.out_fmt), constants, buffered, with_centre)


def _stage_context(stage: Stage, link_in: Link, link_out: Link, ident: str, namer: Namer) -> StageContext:
    base = StageContext(
        kind="conv", ident=ident, name=stage.name, in_type=lane_type(link_in.fmt), out_type=lane_type(link_out.fmt),
        in_word=word_type(link_in.fmt, link_in.out_lanes), out_word=word_type(link_out.fmt, link_out.in_lanes),
        out_lanes=link_out.in_lanes, pixels=link_out.shape[1] * link_out.shape[2],
    )  # fmt: skip
    if isinstance(stage, ConvStage):
        return replace(base, engines=(_engine_context(ident, stage.engine, with_centre=False),), describe=_describe_engine(stage.engine))
    if isinstance(stage, ExpandStage):
        return _expand_context(stage, namer, base)
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


def _size(shape: Shape) -> str:
    return f"{shape[0]} channels of {shape[1]}x{shape[2]}"


def _describe_engine(e: Engine) -> str:
    f = e.fold
    return (
        f"{e.kernel}x{e.kernel} convolution, stride {e.stride}, {_size(e.in_shape)} to {_size(e.out_shape)}; "
        f"P_oc {f.p_oc}, P_ic {f.p_ic}, P_k {f.p_k}: {f.multipliers} multipliers, {e.cycles} cycles a frame"
    )


def _expand_context(stage: ExpandStage, namer: Namer, base: StageContext) -> StageContext:
    e1, e3 = stage.expand1x1, stage.expand3x3
    one, three = namer.take(e1.node), namer.take(e3.node)
    depth = {f.name: f.depth for f in internal_fifos(stage)}
    streams = [
        Stream("windows", f"{three}_window", WINDOW_DEPTH),
        Stream("centre", word_type(e3.in_fmt, e3.fold.p_ic), depth["centre"]),
        Stream("windows_1x1", f"{one}_window", WINDOW_DEPTH),
        Stream("out_1x1", word_type(e1.out_fmt, e1.fold.p_oc), depth["e1_out"]),
        Stream("out_kxk", word_type(e3.out_fmt, e3.fold.p_oc), depth["e3_out"]),
    ]
    converters = []
    for label, engine, lanes, wanted in (
        ("centre", e1, e3.fold.p_ic, e1.fold.p_ic),
        ("out_1x1", e1, e1.fold.p_oc, stage.out_lanes),
        ("out_kxk", e3, e3.fold.p_oc, stage.out_lanes),
    ):
        if lanes == wanted:
            continue
        fmt, shape = (engine.in_fmt, engine.in_shape) if label == "centre" else (engine.out_fmt, engine.out_shape)
        streams.append(Stream(f"{label}_regrouped", word_type(fmt, wanted), 2))
        converters.append(Converter(converter_function(fmt, shape, lanes, wanted), label, f"{label}_regrouped"))
    engines = (_engine_context(one, e1, with_centre=False), _engine_context(three, e3, with_centre=True))
    return replace(
        base, kind="expand", engines=engines, streams=tuple(streams), converters=tuple(converters), channels=(e1.out_shape[0], e3.out_shape[0]),
        describe=f"1x1: {_describe_engine(e1)}\n// {e3.kernel}x{e3.kernel}: {_describe_engine(e3)}",
    )  # fmt: skip


def _modules(plan: FoldPlan, names: dict[str, str], namer: Namer) -> tuple[ModuleContext, ...]:
    groups: list[list[Stage]] = []
    for stage in plan.stages:
        if groups and groups[-1][-1].module == stage.module:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    if len({g[0].module for g in groups}) != len(groups):
        raise InputError("plan: the stages of a module must follow each other; give each module one name")
    modules = []
    for group in groups:
        contexts = tuple(_stage_context(s, plan.link_into(s.name), plan.link_from(s.name), names[s.name], namer) for s in group)
        ident = names[group[0].name] if len(group) == 1 else namer.take(group[0].module)
        streams: list[Stream] = []
        calls: list[Call] = []
        source = "in"
        for i, (stage, context) in enumerate(zip(group, contexts, strict=True)):
            if i:
                source = _join(plan.link_into(stage.name), source, streams, calls)
            target = "out" if i + 1 == len(group) else _producer_end(plan.link_from(stage.name), streams)
            calls.append(Call(context.ident, (source, target)))
            source = target
        into, outof = plan.link_into(group[0].name), plan.link_from(group[-1].name)
        modules.append(
            ModuleContext(
                ident, group[0].module, contexts, tuple(streams), tuple(calls), contexts[0].in_word, contexts[-1].out_word, into.out_lanes, outof.in_lanes
            )
        )
    return tuple(modules)


def _stream_name(link: Link) -> str:
    return f"s_{link.name}"


def _producer_end(link: Link, streams: list[Stream]) -> str:
    """Declares the stream a producer writes: the link itself, or a short one ahead of its width converter."""
    name = _stream_name(link)
    if link.in_lanes == link.out_lanes:
        streams.append(Stream(name, word_type(link.fmt, link.out_lanes), link.depth))
        return name
    streams.append(Stream(f"{name}_narrow" if link.in_lanes < link.out_lanes else f"{name}_wide", word_type(link.fmt, link.in_lanes), 2))
    return streams[-1].name


def _join(link: Link, source: str, streams: list[Stream], calls: list[Call]) -> str:
    """The consumer's end of `link`, behind a width converter where the lanes differ."""
    if link.in_lanes == link.out_lanes:
        return source
    streams.append(Stream(_stream_name(link), word_type(link.fmt, link.out_lanes), link.depth))
    calls.append(Call(converter_function(link.fmt, link.shape, link.in_lanes, link.out_lanes), (source, _stream_name(link))))
    return _stream_name(link)


def _top_graph(plan: FoldPlan, modules: tuple[ModuleContext, ...]) -> tuple[tuple[Stream, ...], tuple[Call, ...]]:
    streams: list[Stream] = []
    calls: list[Call] = []
    first, last = plan.links[0], plan.links[-1]
    if first.in_lanes != first.shape[0]:
        raise InputError(f"plan: link {first.name} must take a whole pixel a beat, {first.shape[0]} lanes, got {first.in_lanes}")
    if last.in_lanes != 1 or last.out_lanes != 1:
        raise InputError(f"plan: link {last.name} must carry one class sum a beat, got {last.in_lanes} to {last.out_lanes} lanes")
    source = _producer_end(first, streams)
    calls.append(Call(f"fsq::receive_pixels<{first.shape[0]}, {first.shape[1] * first.shape[2]}>", ("s_axis", source)))
    for module in modules:
        source = _join(plan.link_into(module.stages[0].name), source, streams, calls)
        target = _producer_end(plan.link_from(module.stages[-1].name), streams)
        calls.append(Call(module.ident, (source, target)))
        source = target
    wide = last.fmt.bits + (0 if last.fmt.signed else 1) > 32
    calls.append(Call(f"fsq::send_scores<{lane_type(last.fmt)}, {64 if wide else 32}, {last.shape[0]}>", (source, "m_axis")))
    return tuple(streams), tuple(calls)


def _checks(plan: FoldPlan, modules: tuple[ModuleContext, ...]) -> tuple[CheckContext, ...]:
    checks = []
    for s in (s for m in modules for s in m.stages):
        into, outof = plan.link_into(s.name), plan.link_from(s.name)
        files = file_stem(into.tensor), file_stem(outof.tensor)
        checks.append(CheckContext(s.name, s.ident, s.in_word, s.out_word, into.out_lanes, outof.in_lanes, *files, into.shape, outof.shape))
    return tuple(checks)
