"""What a machine takes of a device: DSP blocks, memory blocks, LUTs and flip-flops, from the parameters of its modules. Pure functions.

Structural: a stage is the sum of the modules that the RTL library (templates/rtl/lib) builds it of: cost_mvu.py (matrix-vector unit), cost_stream.py
(memories, FIFOs, converters, buffers). LUTs and flip-flops are those of an open synthesizer; a vendor's tool needs fewer.
`fpga-squeeze synth` holds the model against synthesis (docs/resources.md).
"""

from __future__ import annotations

from math import ceil

from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.cost_mvu import DEFAULT_MULTIPLIER_BITS, engine_dsp, mvu_resources
from fpga_squeeze.hardware.cost_stream import (
    concat_resources,
    converter_resources,
    fifo_resources,
    global_sum_resources,
    line_buffer_resources,
    memory_resources,
    pixel_buffer_resources,
    pixel_order_resources,
    skid_resources,
    window_max_resources,
)
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fabric import Resources
from fpga_squeeze.hardware.fifo_rtl import rtl_expand_depths, rtl_link_depth
from fpga_squeeze.hardware.need import side_shapes
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, JoinStage, PoolStage, Stage
from fpga_squeeze.hardware.structure import line_buffer_banks, stage_in_lanes, stage_out_lanes

__all__ = [
    "DEFAULT_MULTIPLIER_BITS", "Resources", "converter_resources", "engine_dsp", "engine_resources", "fifo_resources", "memory_resources", "plan_dsp",
    "plan_resources", "stage_resources",
]  # fmt: skip


def plan_dsp(plan: FoldPlan, device: Device | None = None) -> int:
    """DSP blocks of all engines."""
    return sum(engine_dsp(e, device) for s in plan.stages for e in s.engines)


def engine_resources(engine: Engine, device: Device | None = None) -> Resources:
    """Everything of one engine: input buffer, memories, multipliers, adder trees, accumulators, requantizers, output FIFO, pixel order."""
    return _input_buffer(engine, device) + mvu_resources(engine, device) + _pixel_order(engine, device)


def stage_resources(stage: Stage, device: Device | None = None) -> Resources:
    """A stage: its engines and what joins them, a pool, or a global sum."""
    if isinstance(stage, ExpandStage):
        return _expand(stage, device)
    if isinstance(stage, PoolStage):
        return _pool(stage, device)
    if isinstance(stage, GlobalSumStage):
        return _global_sum(stage, device)
    if isinstance(stage, JoinStage):
        return _side(stage, device) + (_adder(stage) if isinstance(stage, AddStage) else _concat(stage))
    return engine_resources(stage.engine, device)


TOP = Resources(lut=150, ff=150)
"""The top's own logic."""

LOADER = Resources(lut=500, ff=600)
"""The load port, where any weights are loaded."""


def plan_resources(plan: FoldPlan, device: Device | None = None) -> Resources:
    """The whole machine: stages, converters, link FIFOs, and the top's own logic."""
    total = TOP
    for stage in plan.stages:
        total = total + stage_resources(stage, device)
    for link in plan.links:
        total = total + converter_resources(link.shape[0], link.fmt.bits, link.in_lanes, link.out_lanes, device)
        total = total + fifo_resources(link.out_lanes * link.fmt.bits, rtl_link_depth(plan, link), device)
    forks = sum(len(plan.forked_off(link)) for link in (*plan.links, *plan.bypasses))
    total = total + Resources(lut=4, ff=2).times(forks)  # a fork: two flags, valid and ready; the data is wires
    for bypass in plan.bypasses:
        total = total + converter_resources(bypass.shape[0], bypass.fmt.bits, bypass.in_lanes, bypass.out_lanes, device)
        total = total + fifo_resources(bypass.out_lanes * bypass.fmt.bits, rtl_bypass_depth(plan, bypass), device)
    if any(e.loaded for s in plan.stages for e in s.engines):
        total = total + LOADER
    return total


def _input_buffer(e: Engine, device: Device | None, tap: bool = False) -> Resources:
    word, pixels = e.fold.p_ic * e.in_fmt.bits, e.out_shape[1] * e.out_shape[2]
    if e.pixel_buffered:
        return pixel_buffer_resources(word, e.ic_folds, e.oc_folds, e.fold.p_px, pixels, device)
    banks, depth = line_buffer_banks(e)
    row_taps = e.kernel if e.fold.p_k > 1 else 1
    column_taps = e.kernel if e.fold.p_k == e.kernel**2 else 1
    copy = line_buffer_resources(
        word, banks, depth, row_taps, column_taps, e.buffer_rows, max(e.in_shape[1], e.in_shape[2]), e.ic_folds, tap, e.fold.p_px, device
    )
    return copy.times(e.fold.p_px)


def _pixel_order(e: Engine, device: Device | None) -> Resources:
    return pixel_order_resources(e.fold.p_oc * e.out_fmt.bits, e.oc_folds, e.fold.p_px, e.out_shape[1] * e.out_shape[2], device)


def _expand(stage: ExpandStage, device: Device | None) -> Resources:
    e1, e3 = stage.expand1x1, stage.expand3x3
    depth = rtl_expand_depths(stage)
    beat = stage.out_lanes * e3.out_fmt.bits
    # Each of the pixels side by side has its own way from the line buffer to the 1x1 engine.
    way = fifo_resources(e3.fold.p_ic * e3.in_fmt.bits, depth.centre, device)
    way = way + converter_resources(e3.in_shape[0], e3.in_fmt.bits, e3.fold.p_ic, e1.fold.p_ic, device)
    way = way + pixel_buffer_resources(e1.fold.p_ic * e1.in_fmt.bits, e1.ic_folds, e1.oc_folds, 1, 1, device)
    total = _input_buffer(e3, device, tap=True) + way.times(e3.fold.p_px)
    for e, beats in ((e1, depth.e1), (e3, depth.e3)):
        total = total + mvu_resources(e, device) + _pixel_order(e, device)
        total = total + converter_resources(e.out_shape[0], e.out_fmt.bits, e.fold.p_oc, stage.out_lanes, device)
        total = total + fifo_resources(beat, beats, device)
    return total + concat_resources(beat, max(ceil(e.out_shape[0] / stage.out_lanes) for e in (e1, e3)), device)


def _pool(s: PoolStage, device: Device | None) -> Resources:
    word = s.lanes * s.fmt.bits
    folds = ceil(s.in_shape[0] / s.lanes)
    top, left, _, _ = s.padding
    columns = window_max_resources(word, s.in_shape[2], folds, s.kernel, s.stride, left > 0, device)
    rows = window_max_resources(word, s.in_shape[1], s.out_shape[2] * folds, s.kernel, s.stride, top > 0, device)
    return columns + skid_resources(word) + rows


def _global_sum(s: GlobalSumStage, device: Device | None) -> Resources:
    pixels = s.in_shape[1] * s.in_shape[2]
    # Bits of a sum as the RTL has it (emit/rtl_context.py).
    own = s.in_fmt.bits + (0 if s.in_fmt.signed else 1) + (pixels - 1).bit_length()
    sum_bits = max(s.out_fmt.bits + (0 if s.out_fmt.signed else 1), own)
    return global_sum_resources(s.in_shape[0], s.lanes, sum_bits, pixels, device)


def _side(s: JoinStage, device: Device | None) -> Resources:
    """What is on the bypass behind its FIFO, each stage with the width converter behind it."""
    total = Resources()
    for i, own in enumerate(s.side):
        lanes = stage_in_lanes(s.side[i + 1]) if i + 1 < len(s.side) else s.lanes
        channels = side_shapes(own)[1][0]
        fmt = own.fmt if isinstance(own, PoolStage) else own.engine.out_fmt
        total = total + stage_resources(own, device) + converter_resources(channels, fmt.bits, stage_out_lanes(own), lanes, device)
    return total + (fifo_resources(s.lanes * s.bypass_fmt.bits, s.side_depth, device) if s.side_depth else Resources())


def _adder(s: AddStage) -> Resources:
    """fsq_adder: a lane adds, rounds and clamps; registers of the sum and of the result."""
    wide = [f.bits + (0 if f.signed else 1) + a for f, a in zip((s.in_fmt, s.bypass_fmt), s.align, strict=True)]
    sum_bits = max(wide) + 1
    return Resources(lut=s.lanes * (2 * sum_bits + 3 * s.out_fmt.bits) + 10, ff=s.lanes * (sum_bits + s.out_fmt.bits) + 2)


def _concat(s: ConcatStage) -> Resources:
    """fsq_concat_pack: a choice between the operands and, where the first one does not fill its last beat, a register of the second one's rest."""
    beat = s.lanes * s.fmt.bits
    shifted = s.first_channels % s.lanes != 0
    count = 2 * max(ceil(s.out_shape[0] / s.lanes), 2).bit_length()
    return Resources(lut=beat * (2 if shifted else 1) + count + 8, ff=(beat if shifted else 0) + count // 2 + 2)
