"""FIFO depths, derived. All depths are in beats of the FIFO's own lanes.

Links. The stages form a chain: a link has one producer and one consumer, so no depth can deadlock; depth only buys throughput. (A bypass is no such link:
hardware/bypass.py.) A link holds
1. one pixel (at least two beats): the producer may finish a pixel while the consumer is still inside the one before;
2. behind a max pool of stride s, OW - floor(OW / s) pixels: the pool emits a whole output row while the last input row of its windows passes,
   then nothing for s - 1 input rows. A consumer that needs the full s row times for the row takes floor(OW / s) pixels during the burst, the rest waits here,
   and the engine before the pool never stops;
3. with an engine of p_px > 1 at one end, P + Q - 1 pixels in place of one, P and Q being the two engines' p_px: the producer lets go of P pixels
   at once, when its group is done; the consumer takes none while it works on its own (its line buffer is full while a group reaches into the next row),
   then Q. P + Q - gcd(P, Q) is the smallest queue with which a producer of P and a consumer of Q can go on for ever; this is no less;
4. before the global sum, what the producer makes while the sum sends its C class sums and takes nothing in: ceil(C / cycles per beat) beats.

Inside an expand stage. One window reader feeds both engines; per pixel the concat sends all 1x1 channels and then all KxK channels, in order.
- `centre` (reader -> 1x1 engine): one pixel of words. The 1x1 engine itself holds two pixels, so the reader never waits for it as long as the
  1x1 engine is no slower a pixel than the KxK engine, which the folding guarantees.
- `e1_out`: the 1x1 channels of pixel n are made while the KxK channels of pixel n - 1 may still be leaving: one pixel, plus what is in flight in
  the pipeline.
- `e3_out`: the 1x1 engine may run a pixel behind the reader, so the KxK channels of pixel n may be complete, and those of n + 1 begun, before the
  first of n may leave: two pixels, plus what is in flight.
With these, an engine is blocked only by the stage behind; the concat waits for one branch only while the other has room for all it can make: no
cycle of waiting can close.

Groups of p_px > 1 pixels. For "pixel" read "group": both engines of an expand stage have the same p_px, `centre` carries the words of a group side by
side, and e1_out and e3_out hold p_px times as many beats. Two FIFOs more belong to each such engine:
- `groups` (pixels gathered -> 1x1 reader): one group. The reader takes a group's words in its first pass only; what comes during the others waits here.
- `results` (multipliers -> pixel order): one group of beats. The order sends a group's first pixel as it comes in and keeps the rest; while the rest
  leaves, at most the next group is made. A group takes no less time than its pixels need to leave, so it is never overtaken.
That no depth can deadlock does not change (docs/hls.md has the argument in full).
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
    depth = max(2, (_together(producer) + _together(consumer) - 1) * beats_a_pixel)
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
    group = e3.fold.p_px
    return (
        InternalFifo("centre", group * e3.fold.p_ic, e3.in_fmt.bits, max(2, e3.ic_folds)),
        InternalFifo("e1_out", e1.fold.p_oc, e1.out_fmt.bits, max(2, group * e1.oc_folds + _in_flight(e1))),
        InternalFifo("e3_out", e3.fold.p_oc, e3.out_fmt.bits, max(2, 2 * group * e3.oc_folds + _in_flight(e3))),
    )


def group_fifo(engine: Engine) -> int:
    """Depth in group words of the FIFO in front of a 1x1 engine's reader, p_px > 1: a group."""
    return max(2, engine.ic_folds)


def results_fifo(engine: Engine) -> int:
    """Depth in group beats of the FIFO in front of an engine's pixel order, p_px > 1: a group."""
    return max(2, engine.oc_folds)


def _together(stage: Stage | None) -> int:
    """Pixels that a stage takes in or lets go of together."""
    return max((e.fold.p_px for e in stage.engines), default=1) if stage else 1


def _in_flight(engine: Engine) -> int:
    """Beats an engine still delivers after its reader stops: p_px a result of its pipeline."""
    return engine.fold.p_px * ceil(PIPELINE_CYCLES / (engine.ic_folds * engine.k_folds))


def _beats_per_cycle_bound(producer: Stage, shape: Shape, out_lanes: int) -> float:
    """Most beats of `out_lanes` that `producer` makes a cycle, at most one."""
    if isinstance(producer, ConvStage):
        e = producer.engine
        return min(1.0, e.fold.p_px * ceil(shape[0] / out_lanes) / (e.oc_folds * e.ic_folds * e.k_folds))
    return 1.0
