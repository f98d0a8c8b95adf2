"""What the HLS templates print: every number and name computed and checked here, so that a template does no arithmetic."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil

from fpga_squeeze.emit.hls_stage import converter_function, lane_type, stage_context, word_type
from fpga_squeeze.emit.hls_types import (
    Call,
    CheckContext,
    DesignContext,
    ModuleContext,
    Stream,
)
from fpga_squeeze.emit.hls_types import (
    HlsOptions as HlsOptions,
)
from fpga_squeeze.emit.idents import Namer, checked_identifier
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.dsp_packing import MAX_BITS
from fpga_squeeze.hardware.plan import Engine, FoldPlan, GlobalSumStage, JoinStage, Link, Stage
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph


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
    if plan.bypasses:
        digest.update(repr(plan.bypasses).encode())
    codings = [(e.node, e.coding) for stage in plan.stages for e in stage.engines if e.coding is not None]
    if codings:
        digest.update(repr(codings).encode())
    for node in qgraph.nodes:
        digest.update(repr((node.name, node.inputs, node.shape, node.fmt)).encode())
        if isinstance(node.op, QConv):
            for values in (node.op.weight, node.op.bias, node.op.shift):
                digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _check_plan(qgraph: QuantGraph, plan: FoldPlan) -> None:
    if len(plan.links) != len(plan.stages) + 1:
        raise InputError(f"plan: {len(plan.stages)} stages need {len(plan.stages) + 1} links, got {len(plan.links)}")
    for link in (*plan.links, *plan.bypasses):
        if link.tensor not in qgraph.by_name:
            raise InputError(f"plan: link {link.name} carries {link.tensor!r}, which is no layer of the network; plan it again")
    for stage in plan.stages:
        for engine in stage.engines:
            _check_engine(engine)
    if not isinstance(plan.stages[-1], GlobalSumStage):
        raise InputError(f"layer {plan.stages[-1].name}: the last stage must be the global sum, got {type(plan.stages[-1]).__name__}")
    if plan.links[0].fmt != TensorFormat(8, plan.links[0].fmt.frac, signed=False):
        raise InputError(f"plan: the image link must carry unsigned 8-bit pixels, got {plan.links[0].fmt}")


def _check_engine(engine: Engine) -> None:
    where = f"layer {engine.node}"
    if engine.padding[0] > engine.kernel:
        raise InputError(f"{where}: padding {engine.padding} is larger than the kernel {engine.kernel}; no engine covers this")
    if min(engine.padding) < 0:
        raise InputError(f"{where}: negative padding {engine.padding}; no engine covers this")
    if not 1 <= engine.fold.p_px <= engine.out_shape[2]:
        raise InputError(f"{where}: p_px must be 1 to {engine.out_shape[2]}, the pixels of an output row, got {engine.fold.p_px}")
    bits = max(engine.weight_bits, engine.in_fmt.bits)
    if engine.packing != "none" and (engine.in_fmt.signed or bits > MAX_BITS):
        raise InputError(f"{where}: packing {engine.packing} needs unsigned activations and at most {MAX_BITS} bits, got {engine.in_fmt} and {bits} bits")


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
        if len(group) > 1 and any(isinstance(s, JoinStage) for s in group):
            raise InputError(f"plan: module {group[0].module}: a join is a module of its own, it takes two streams in; give it a name of its own")
        contexts = tuple(stage_context(s, plan.link_into(s.name), plan.link_from(s.name), names[s.name], namer, _bypass(plan, s)) for s in group)
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


def _bypass(plan: FoldPlan, stage: Stage) -> Link | None:
    return plan.bypass_into(stage.name) if isinstance(stage, JoinStage) else None


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
    calls.append(Call(converter_function(link.fmt, link.shape[0], link.shape[1] * link.shape[2], link.in_lanes, link.out_lanes), (source, _stream_name(link))))
    return _stream_name(link)


def _fork(plan: FoldPlan, link: Link, streams: list[Stream], calls: list[Call], met: dict[str, str]) -> tuple[str, str]:
    """(the stream that `link`'s producer writes, the stream that goes on to its consumer's side): the same, or with a fork between for each link forked
    off it.

    The forks' calls come after the producer's: they are returned through `calls` by the caller in that order. `met`: a forked link's name -> its end, converter
    included.
    """
    main = _producer_end(link, streams)
    written = main
    for bypass in reversed(plan.forked_off(link)):
        before = f"{_stream_name(bypass)}_fork"
        streams.append(Stream(before, word_type(link.fmt, link.in_lanes), 2))
        forked: list[Call] = []
        end = _producer_end(bypass, streams)
        beats = link.shape[1] * link.shape[2] * ceil(link.shape[0] / link.in_lanes)
        forked.append(Call(f"fsq::fork_beats<{word_type(link.fmt, link.in_lanes)}, {beats}>", (before, written, end)))
        met[bypass.name] = _join(bypass, end, streams, forked)
        calls[:0] = forked
        written = before
    return written, main


def _top_graph(plan: FoldPlan, modules: tuple[ModuleContext, ...]) -> tuple[tuple[Stream, ...], tuple[Call, ...]]:
    streams: list[Stream] = []
    calls: list[Call] = []
    first, last = plan.links[0], plan.links[-1]
    if first.in_lanes != first.shape[0]:
        raise InputError(f"plan: link {first.name} must take a whole pixel a beat, {first.shape[0]} lanes, got {first.in_lanes}")
    if last.in_lanes != 1 or last.out_lanes != 1:
        raise InputError(f"plan: link {last.name} must carry one class sum a beat, got {last.in_lanes} to {last.out_lanes} lanes")
    met: dict[str, str] = {}
    begun: dict[str, str] = {}  # a tensor's first link -> what comes of its producer: its converter stands where it is read
    forks: list[Call] = []
    written, begun[first.name] = _fork(plan, first, streams, forks, met)
    calls.append(Call(f"fsq::receive_pixels<{first.shape[0]}, {first.shape[1] * first.shape[2]}>", ("s_axis", written)))
    calls += forks

    def end_of(link: Link) -> str:
        return _join(link, begun[link.name], streams, calls) if link.name in begun else met[link.name]

    for module in modules:
        name = module.stages[0].name
        source = end_of(plan.link_into(name))
        second = [end_of(b) for b in plan.bypasses if b.consumer == name and b.name in begun]
        forks = []
        outof = plan.link_from(module.stages[-1].name)
        written, begun[outof.name] = _fork(plan, outof, streams, forks, met)
        second = second or [met[b.name] for b in plan.bypasses if b.consumer == name]
        calls.append(Call(module.ident, (source, *second, written)))
        calls += forks
    source = begun[last.name]
    wide = last.fmt.bits + (0 if last.fmt.signed else 1) > 32
    calls.append(Call(f"fsq::send_scores<{lane_type(last.fmt)}, {64 if wide else 32}, {last.shape[0]}>", (source, "m_axis")))
    return tuple(streams), tuple(calls)


def _checks(plan: FoldPlan, modules: tuple[ModuleContext, ...]) -> tuple[CheckContext, ...]:
    checks = []
    for s in (s for m in modules for s in m.stages):
        into, outof = plan.link_into(s.name), plan.link_from(s.name)
        files = file_stem(into.tensor), file_stem(outof.tensor)
        check = CheckContext(s.name, s.ident, s.in_word, s.out_word, into.out_lanes, outof.in_lanes, *files, into.shape, outof.shape)
        if s.bypass_word:
            bypass = plan.bypass_into(s.name)
            check = replace(check, bypass_lanes=bypass.out_lanes, bypass_file=file_stem(bypass.tensor), bypass_shape=bypass.shape)
        checks.append(check)
    return tuple(checks)
