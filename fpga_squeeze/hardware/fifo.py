"""FIFO depths, derived. All depths are in beats of the FIFO's own lanes.

Links. The stages form a chain: a link has one producer and one consumer, so no depth can deadlock; depth only buys throughput. A link holds
1. one pixel (at least two beats): the producer may finish a pixel while the consumer is still inside the one before;
2. behind a max pool of stride s, OW - floor(OW / s) pixels: the pool emits a whole output row while the last input row of its windows passes,
   then nothing for s - 1 input rows. A consumer that needs the full s row times for the row takes floor(OW / s) pixels during the burst, the rest waits here,
   and the engine before the pool never stops;
3. before the global sum, what the producer makes while the sum sends its C class sums and takes nothing in: ceil(C / cycles per beat) beats.

Inside an expand stage. One window reader feeds both engines; per pixel the concat sends all 1x1 channels and then all KxK channels, in order.
- `centre` (reader -> 1x1 engine): one pixel of words. The 1x1 engine itself holds two pixels, so the reader never waits for it as long as the
  1x1 engine is no slower a pixel than the KxK engine, which the folding guarantees.
- `e1_out`: the 1x1 channels of pixel n are made while the KxK channels of pixel n - 1 may still be leaving: one pixel, plus what is in flight in
  the pipeline.
- `e3_out`: the 1x1 engine may run a pixel behind the reader, so the KxK channels of pixel n may be complete, and those of n + 1 begun, before the
  first of n may leave: two pixels, plus what is in flight.
With these, an engine is blocked only by the stage behind; the concat waits for one branch only while the other has room for all it can make: no
cycle of waiting can close.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fpga_squeeze.hardware.plan import ConvStage, Engine, ExpandStage, GlobalSumStage, PoolStage, Stage
from fpga_squeeze.ir import Shape

PIPELINE_CYCLES = 32
"""Upper bound of an engine's pipeline, from a word read to its channel requantized: memory 2, multiplier 4, adder tree up to 12,
accumulator 2, requantize 4; rounded up."""


@dataclass(frozen=True)
class InternalFifo:
    """A FIFO inside a stage: `depth` beats of `lanes` x `bits` bits."""

    name: str
    lanes: int
    bits: int
    depth: int


def link_depth(producer: Stage | None, consumer: Stage | None, shape: Shape, out_lanes: int) -> int:
    """Depth of a link in beats of `out_lanes`; None stands for the chip's own input or output."""
    beats_a_pixel = ceil(shape[0] / out_lanes)
    depth = max(2, beats_a_pixel)
    if producer is None or consumer is None:
        # The outside world paces these two; a register slice is all they need.
        return 2
    if isinstance(producer, PoolStage):
        depth += (shape[2] - shape[2] // producer.stride) * beats_a_pixel
    if isinstance(consumer, GlobalSumStage):
        depth += ceil(consumer.in_shape[0] * _beats_per_cycle_bound(producer, shape, out_lanes))
    return depth


def internal_fifos(stage: Stage) -> tuple[InternalFifo, ...]:
    """FIFOs inside `stage`: centre, e1_out and e3_out of an expand stage; none elsewhere."""
    if not isinstance(stage, ExpandStage):
        return ()
    e1, e3 = stage.expand1x1, stage.expand3x3
    return (
        InternalFifo("centre", e3.fold.p_ic, e3.in_fmt.bits, max(2, e3.ic_folds)),
        InternalFifo("e1_out", e1.fold.p_oc, e1.out_fmt.bits, max(2, e1.oc_folds + _in_flight(e1))),
        InternalFifo("e3_out", e3.fold.p_oc, e3.out_fmt.bits, max(2, 2 * e3.oc_folds + _in_flight(e3))),
    )


def _in_flight(engine: Engine) -> int:
    """Beats an engine still delivers after its reader stops."""
    return ceil(PIPELINE_CYCLES / (engine.ic_folds * engine.k_folds))


def _beats_per_cycle_bound(producer: Stage, shape: Shape, out_lanes: int) -> float:
    """Most beats of `out_lanes` that `producer` makes a cycle, at most one."""
    if isinstance(producer, ConvStage):
        e = producer.engine
        return min(1.0, ceil(shape[0] / out_lanes) / (e.oc_folds * e.ic_folds * e.k_folds))
    return 1.0
