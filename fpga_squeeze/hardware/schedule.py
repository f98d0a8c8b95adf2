"""When each pixel of each stage leaves, frames back to back at the plan's interval: the schedule that a bypass must not disturb.

Time is in cycles. The image comes evenly, a frame an interval; a stage sends pixel k once its last input pixel is there and the pixel before it has left
for a pixel's work, a pipeline's length later. The schedule keeps every dependence of the machine and moves a frame an interval, so a bypass FIFO that holds
what waits in it never stops the fork in it. A machine that does everything as early as it can is no slower than any schedule that its buffers allow.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.hardware.fifo import PIPELINE_CYCLES
from fpga_squeeze.hardware.need import Beats, stage_need, window_pixels
from fpga_squeeze.hardware.plan import ConcatStage, ConvStage, ExpandStage, Link, Stage

Times = NDArray[np.float64]

FRAMES = 3
"""Frames after which the schedule repeats itself: bursts and refills reach no further than into the next one."""


@lru_cache(maxsize=64)
def pixel_times(stages: tuple[Stage, ...], links: tuple[Link, ...], interval: int, total: int = FRAMES) -> tuple[Times, ...]:
    """The time at which each pixel of each link's tensor has left its producer, `total` frames, link for link (the class sums' is left out)."""
    shape = links[0].shape
    count = shape[1] * shape[2]
    arrival = np.arange(1, total * count + 1, dtype=np.float64) * (interval / count)
    times = [arrival]
    for stage in stages[:-1]:
        arrival = _leaves(stage, arrival, total)
        times.append(arrival)
    return tuple(times)


def _leaves(stage: Stage, arrival: Times, total: int) -> Times:
    need = np.asarray(pixel_need(stage), dtype=np.int64)
    in_pixels = stage_in_pixels(stage)
    frames = np.arange(total)[:, None] * in_pixels
    ready = arrival[(frames + need[None, :]).ravel() - 1]
    # d(k) = max(ready(k), d(k - 1)) + service, solved for all k at once.
    service = stage.cycles / len(need)
    number = np.arange(len(ready))
    done = np.maximum.accumulate(ready - service * number) + service * (number + 1)
    group = max((e.fold.p_px for e in stage.engines), default=1)
    return np.asarray(done + PIPELINE_CYCLES + service * (group - 1), dtype=np.float64)


def pixel_need(stage: Stage) -> Beats:
    """Input pixels that each output pixel of `stage` needs in the RTL."""
    if isinstance(stage, ConvStage):
        return window_pixels(stage.engine, rtl=True)
    if isinstance(stage, ExpandStage):
        return window_pixels(stage.expand3x3, rtl=True)
    if isinstance(stage, ConcatStage):
        return np.arange(1, stage.in_shape[1] * stage.in_shape[2] + 1, dtype=np.int64)
    beats = stage_need(stage, rtl=True)
    folds = -(-stage.in_shape[0] // stage.lanes)
    return np.asarray(-(-beats[folds - 1 :: folds] // folds), dtype=np.int64)


def stage_in_pixels(stage: Stage) -> int:
    """Pixels that `stage` takes in a frame."""
    shape = stage.engines[-1].in_shape if isinstance(stage, ConvStage | ExpandStage) else stage.in_shape
    return shape[1] * shape[2]
