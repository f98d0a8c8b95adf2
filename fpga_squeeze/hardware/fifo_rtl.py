"""FIFO depths of the RTL, derived to the beat. The HLS machine needs more (hardware/fifo.py): its squeeze engine holds one pixel, not two.

Every RTL stage has storage of its own that absorbs uneven arrival: a line buffer the rows that are not being read, a 1x1 engine two pixels, the
global sum a second set of sums. What is left to a FIFO:

- A link: two beats, a register slice. The second beat is what registers ready, so that no combinational path runs through several stages;
  one beat would pass as many beats a second.
- A link from a max pool of stride > 1 into a 1x1 engine. The pool makes its pixels in bursts, one output row while the last input row of its
  windows passes, so pixel k comes at t_k, known from the geometry when the input comes evenly over the frame. The engine takes cycles / pixels
  for each and holds two: pixel k is done at d_k = max(t_k, d_(k-1)) + service and leaves the FIFO at max(t_k, d_(k-2)). The largest number
  of pixels inside, in beats, less the one beat in the pool's output register, is the depth.
- In front of a Fire's concat, which sends B1 beats of a pixel from the 1x1 engine, then B3 from the other, and is busy every cycle at worst.
  While it sends the B3, the 1x1 engine makes B1 * B3 / (B1 + B3) beats, and one is in flight. The KxK engine's beats of a pixel wait until
  the 1x1 engine's last one has gone: B3 beats.
- In front of a concat with a bypass likewise: the main stream's FIFO holds M beats of a pixel when the B beats of the bypass leave first, M * B / (M + B) + 1
  when they leave last. The former is more than speed: the bypass may need all of a pixel of the forked stream that the main branch takes only when its own
  pixel has somewhere to go (docs/bypass.md).
- The centre words of an expand pair: a register slice where the 1x1 engine takes them as they are or wider; its two pixels are the elastic part. Where
  it takes p1 of the p3 channels of a word, the reader sends a pixel's w words one a cycle and w * p1 / p3 of them go meanwhile: w - w * p1 / p3 + 1.

Behind a pool and in front of a concat, one beat less costs cycles in a machine whose stages are all equally slow: tests/test_fifo_rtl.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import numpy as np

from fpga_squeeze.hardware.flow import rtl_flow_depth
from fpga_squeeze.hardware.plan import ConcatStage, ConvStage, ExpandStage, FoldPlan, JoinStage, Link, PoolStage, Stage

LINK_BEATS = 2
HELD_PIXELS = 2
FRAMES = 4
"""Frames after which the queue behind a pool repeats itself."""


@dataclass(frozen=True)
class ExpandDepths:
    """FIFOs of an expand stage: `centre` in words of the reader, `e1` and `e3` in beats of the stage's out_lanes."""

    centre: int
    e1: int
    e3: int


def rtl_link_depth(plan: FoldPlan, link: Link) -> int:
    """Depth of `link` in beats of its out_lanes."""
    producer = next((s for s in plan.stages if s.name == link.producer), None)
    consumer = next((s for s in plan.stages if s.name == link.consumer), None)
    depth = busy_link_depth(producer, consumer, link.shape[0], link.out_lanes, plan.interval_cycles)
    return max(depth, rtl_flow_depth(plan, link)) if plan.general else depth


def busy_link_depth(producer: Stage | None, consumer: Stage | None, channels: int, out_lanes: int, interval_cycles: int) -> int:
    """Depth, in beats of `out_lanes`, of the link between two stages of a machine that takes a frame every `interval_cycles`.

    It falls as the interval grows."""
    if isinstance(consumer, JoinStage):
        return _join_depth(producer, consumer, out_lanes, interval_cycles)
    if not isinstance(producer, PoolStage) or producer.stride < 2 or not isinstance(consumer, ConvStage) or not consumer.engine.pixel_buffered:
        return LINK_BEATS
    beats = ceil(channels / out_lanes)
    return max(LINK_BEATS, queued_pixels(replace(producer, lanes=1), consumer.cycles / interval_cycles) * beats - 1)


def _join_depth(producer: Stage | None, consumer: JoinStage, out_lanes: int, interval_cycles: int) -> int:
    main, side = (ceil(shape[0] / out_lanes) for shape in (consumer.in_shape, consumer.side_shape))
    depth = LINK_BEATS
    if isinstance(consumer, ConcatStage):
        depth = max(depth, main * side // (main + side) + 1 if consumer.main_first else main)
    if isinstance(producer, PoolStage) and consumer.engines:
        # A burst of the pool is taken no faster than the engines on the bypass work.
        depth = max(depth, queued_pixels(replace(producer, lanes=1), consumer.cycles / interval_cycles) * main)
    return depth


@lru_cache(maxsize=4096)
def queued_pixels(pool: PoolStage, load: float) -> int:
    """Most pixels that wait between `pool` and a consumer that holds two and is busy for the share `load` of the time."""
    (_, in_h, in_w), (_, out_h, out_w) = pool.in_shape, pool.out_shape
    rows = np.minimum(np.arange(out_h) * pool.stride + pool.kernel - 1 - pool.padding[0], in_h - 1)
    columns = np.minimum(np.arange(out_w) * pool.stride + pool.kernel - 1 - pool.padding[1], in_w - 1)
    frame = ((rows[:, None] * in_w + columns[None, :] + 1) / (in_h * in_w)).ravel()
    arrival = np.concatenate([frame + n for n in range(FRAMES)])
    service = load / len(frame)
    number = np.arange(len(arrival))
    done = service * (number + 1) + np.maximum.accumulate(arrival - service * number)
    left = np.maximum(arrival, np.concatenate([np.full(HELD_PIXELS, -1.0), done[:-HELD_PIXELS]]))
    return int((number + 1 - np.searchsorted(left, arrival, side="right")).max())


def rtl_expand_depths(stage: ExpandStage) -> ExpandDepths:
    """Depths of the FIFOs inside an expand stage."""
    e1, e3 = stage.engines
    one, three = (ceil(e.out_shape[0] / stage.out_lanes) for e in (e1, e3))
    words = e3.ic_folds
    centre = max(LINK_BEATS, words - words * min(e1.fold.p_ic, e3.fold.p_ic) // e3.fold.p_ic + 1)
    return ExpandDepths(centre, max(LINK_BEATS, one * three // (one + three) + 1), max(LINK_BEATS, three))
