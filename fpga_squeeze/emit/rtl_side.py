"""Instances on a bypass, behind its FIFO, and stages in words, as the RTL templates print them."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.emit.rtl_parameters import EngineRtl, Parameters, conv_parameters, converter_parameters, literal, pool_parameters
from fpga_squeeze.hardware.need import side_lanes, side_shapes
from fpga_squeeze.hardware.plan import ConvStage, Engine, JoinStage, PoolStage, SideStage


@dataclass(frozen=True)
class SideRtl:
    """An instance on a bypass: library module `library`, named `ident` as its output stream is; it takes stream `source`, and sends beats of `out_bits`.
    `ports`: its outputs that nothing reads."""

    ident: str
    source: str
    library: str
    parameters: tuple[tuple[str, str], ...]
    out_bits: int
    has_memories: bool = False
    loaded: bool = False
    ports: tuple[str, ...] = ()


def rtl_side(stage: JoinStage, engines: dict[str, EngineRtl]) -> tuple[SideRtl, ...]:
    """What is on a bypass behind its FIFO: engines and pools, with width converters where lanes differ."""
    found: list[SideRtl] = []
    source = "s_bypass_axis"
    for i, own in enumerate(stage.side):
        ident = f"side{i}"
        made, wanted = side_lanes(own)[1], side_lanes(stage.side[i + 1])[0] if i + 1 < len(stage.side) else stage.lanes
        if isinstance(own, ConvStage):
            fmt, library, parameters = own.engine.out_fmt, "fsq_conv_engine", conv_parameters(own.engine, engines)
        else:
            fmt, library, parameters = own.fmt, "fsq_max_pool", pool_parameters(own)
        loaded = any(e.loaded for e in own.engines)
        found.append(SideRtl(ident, source, library, literals(parameters), made * fmt.bits, bool(own.engines), loaded, ("high_water",) if own.engines else ()))
        source = ident
        if made != wanted:
            source = f"{ident}_wide"
            converter = literals(converter_parameters(side_shapes(own)[1][0], fmt.bits, made, wanted))
            found.append(SideRtl(source, ident, "fsq_width_converter", converter, wanted * fmt.bits))
    if stage.side_depth:
        bits = stage.lanes * stage.bypass_fmt.bits
        fifo = literals([("WIDTH", bits), ("DEPTH", stage.side_depth)])
        found.append(SideRtl("side_fifo", source, "fsq_fifo", fifo, bits, ports=("occupancy", "high_water")))
    return tuple(found)


def literals(parameters: Parameters) -> tuple[tuple[str, str], ...]:
    """Parameters as (name, SystemVerilog)."""
    return tuple((n, literal(v)) for n, v in parameters)


def side_text(stage: SideStage) -> str:
    """A stage on a bypass in words."""
    return engine_text(stage.engine) if isinstance(stage, ConvStage) else pool_text(stage)


def pool_text(s: PoolStage) -> str:
    """A max pool in words."""
    return f"max pool {s.kernel}x{s.kernel}/{s.stride}, {shape_text(s.in_shape)} to {shape_text(s.out_shape)}"


def shape_text(shape: tuple[int, int, int]) -> str:
    """A shape in words."""
    return "x".join(map(str, shape))


def engine_text(e: Engine) -> str:
    """An engine in words."""
    return (
        f"{e.node}: {e.kernel}x{e.kernel}/{e.stride}, {shape_text(e.in_shape)} to {shape_text(e.out_shape)}, "
        f"{e.fold.p_oc} x {e.fold.p_ic} x {e.fold.p_k} multipliers{f' for each of {e.fold.p_px} pixels' if e.fold.p_px > 1 else ''}"
    )
