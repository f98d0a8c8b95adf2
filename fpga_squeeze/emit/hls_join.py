"""A stage where a bypass ends, as the HLS templates print it: what is on the bypass, one process after the other, then the addition or the concat."""

from __future__ import annotations

from dataclasses import replace

from fpga_squeeze.emit.hls_stage import (
    converter_function,
    describe_engine,
    describe_pool,
    engine_calls,
    engine_context,
    lane_type,
    pool_constants,
    size_text,
    word_type,
)
from fpga_squeeze.emit.hls_types import Call, EngineContext, PoolContext, StageContext, Stream
from fpga_squeeze.emit.idents import Namer
from fpga_squeeze.hardware.need import side_lanes, side_shapes
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, ConvStage, JoinStage

JOIN_DEPTH = 2
"""Beats between two stages on a bypass: what they must hold to go on, they hold themselves."""


def join_context(stage: JoinStage, namer: Namer, base: StageContext) -> StageContext:
    """The context of an addition or a concat; `base` has the words of its three streams."""
    context = _add(stage, base) if isinstance(stage, AddStage) else _concat(stage, base)
    if not stage.side:
        return context
    engines: list[EngineContext] = []
    pools: list[PoolContext] = []
    streams: list[Stream] = []
    calls: list[Call] = []
    described: list[str] = []
    source = "bypass"
    for i, own in enumerate(stage.side):
        last = i + 1 == len(stage.side)
        prefix = "" if len(stage.side) == 1 else f"side{i}_"
        channels, height, width = side_shapes(own)[1]
        _, made = side_lanes(own)
        wanted = stage.lanes if last else side_lanes(stage.side[i + 1])[0]
        sink = f"{prefix}conv" if isinstance(own, ConvStage) else f"{prefix}pool"
        if isinstance(own, ConvStage):
            fmt = own.engine.out_fmt
            engines.append(engine_context(namer.take(own.engine.node), own.engine, with_centre=False))
            inner, processes = engine_calls(engines[-1], source, sink, prefix)
            streams += inner
            calls += processes
            described.append(describe_engine(own.engine))
        else:
            fmt = own.fmt
            pools.append(PoolContext(namer.take(own.node), lane_type(fmt), pool_constants(own)))
            calls.append(Call(f"fsq::max_pool<{pools[-1].ident}_cfg>", (source, sink)))
            described.append(describe_pool(own))
        streams.append(Stream(sink, word_type(fmt, made), JOIN_DEPTH))
        source = sink
        if made != wanted:
            source = f"{sink}_regrouped"
            streams.append(Stream(source, word_type(fmt, wanted), JOIN_DEPTH))
            calls.append(Call(converter_function(fmt, channels, height * width, made, wanted), (sink, source)))
    streams[-1] = replace(streams[-1], depth=max(JOIN_DEPTH, stage.side_depth))
    calls.append(Call(f"fsq::{context.function}<{base.ident}_cfg>", ("in", source, "out")))
    what = "".join(f"\n// On the bypass: {text}" for text in described)
    return replace(
        context, engines=tuple(engines), pools=tuple(pools), streams=tuple(streams), calls=tuple(calls), describe=f"{context.describe}{what}"
    )


def _add(stage: AddStage, base: StageContext) -> StageContext:
    u, i = "unsigned", "int"
    c, h, w = stage.in_shape
    wide = [f.bits + (0 if f.signed else 1) + a for f, a in zip((stage.in_fmt, stage.bypass_fmt), stage.align, strict=True)]
    constants = (
        (u, "C", c), (u, "PIXELS", h * w), (u, "LANES", stage.lanes), (i, "ALIGN_MAIN", stage.align[0]), (i, "ALIGN_BYPASS", stage.align[1]),
        (i, "ACC_BITS", max(wide) + 1), (i, "SHIFT_MIN", stage.shift), (i, "SHIFT_MAX", stage.shift), (i, "QMIN", stage.out_fmt.qmin),
        (i, "QMAX", stage.out_fmt.qmax),
    )  # fmt: skip
    return replace(base, kind="add", constants=constants, function="add", describe=f"sum of the main branch and the bypass, {size_text(stage.in_shape)}")


def _concat(stage: ConcatStage, base: StageContext) -> StageContext:
    u = "unsigned"
    _, h, w = stage.in_shape
    constants = ((u, "MAIN", stage.in_shape[0]), (u, "BYPASS", stage.side_shape[0]), (u, "PIXELS", h * w), (u, "LANES", stage.lanes))
    order = ("the main branch", "the bypass") if stage.main_first else ("the bypass", "the main branch")
    what = f"channels of {order[0]}, then of {order[1]}, {size_text(stage.out_shape)}"
    return replace(base, kind="concat", constants=constants, function="concat_main_first" if stage.main_first else "concat_bypass_first", describe=what)
