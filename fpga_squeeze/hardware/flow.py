"""Depths of the FIFOs of a machine that is no chain, from a schedule of all its stages (docs/bypass.md has the proof).

The schedule says when every pixel of every tensor is sent and when every reader takes it, frames back to back at the plan's interval, FIFOs without end. It
keeps every rule of the modules (hardware/flow_stage.py). What waits in a FIFO in this schedule, at most, is the FIFO's depth: so the machine with these depths
can work by the schedule, and a machine that does everything as soon as it can is never later than any schedule that its FIFOs allow. It can neither stand
still nor be slower than the interval.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np

from fpga_squeeze.hardware.fifo import link_depth
from fpga_squeeze.hardware.flow_stage import Pixels, frame_cycles, image_cycles, image_pixels, run_stage
from fpga_squeeze.hardware.plan import FoldPlan, Link, Stage

FIRST_FRAMES = 6
MOST_FRAMES = 6 * 64
"""Frames looked at: until every stage does in the last frames what it did in those before. A stage that is busy all the time does so a frame after what it
reads, so no more than a few frames more than there are stages."""

SAME = 1e-3
"""Cycles that may lie between two frames' times and their pace: rounding."""

REGISTERS = 2
"""Beats by which a FIFO in which pixels wait is deeper than they are: its output register and the beat that is on its way into the fork."""


def schedule_pace(plan: FoldPlan) -> int:
    """Cycles between frames in the RTL's schedule: those of the slowest stage, or what a stage takes that must wait for its own buffer (a line buffer without
    padding has room for `stride` rows of the next frame until this one's windows are read) or walk over padding."""
    return ceil(_waits(plan.stages, *_edges(plan), True)[0] - SAME)


Waits = tuple[int, ...]
"""Pixels that wait, at most, in front of a stage: of its main input and, at a join, of the second one."""


def rtl_flow_depth(plan: FoldPlan, link: Link) -> int:
    """Depth of `link` of a general plan in the RTL, in beats of its out_lanes, as far as the schedule asks for one; 1 where nothing waits."""
    return _beats(plan, link, rtl=True)


def hls_flow_depth(plan: FoldPlan, link: Link) -> int:
    """Depth of `link` of a general plan in the HLS machine: the largest of what a chain's link has (hardware/fifo.py), what waits while readers take whole rows
    and a frame after the other, and what waits at the RTL's rate."""
    producer = next((s for s in plan.stages if s.name == link.producer), None)
    consumer = next((s for s in plan.stages if s.name == link.consumer), None)
    chain = link_depth(producer, consumer, link.shape, link.out_lanes)
    return max(chain, _beats(plan, link, rtl=False), _beats(plan, link, rtl=True))


def _beats(plan: FoldPlan, link: Link, *, rtl: bool) -> int:
    names = [s.name for s in plan.stages]
    if link.consumer not in names:
        return 1
    _, waits = _waits(plan.stages, *_edges(plan), rtl)
    second = any(b.name == link.name for b in plan.bypasses)
    waiting = waits[names.index(link.consumer)][int(second)]
    return waiting * ceil(link.shape[0] / link.out_lanes) + REGISTERS if waiting else 1


def _edges(plan: FoldPlan) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """(for each stage what it reads: 0 the image, i + 1 what stage i makes, at a join the second operand behind the main one; for the image and for each stage
    the cycles in which a pixel of it leaves, one beat a cycle through the width converter of every reader)."""
    number = {"s_axis": 0, **{s.name: i + 1 for i, s in enumerate(plan.stages)}}
    second = {b.consumer: number[b.producer] for b in plan.bypasses}
    edges = tuple(
        (number[link.producer], *((second[stage.name],) if stage.name in second else ())) for stage, link in zip(plan.stages, plan.links, strict=False)
    )
    spacing = [1] * len(number)
    for link in (*plan.links, *plan.bypasses):
        spacing[number[link.producer]] = max(spacing[number[link.producer]], ceil(link.shape[0] / link.out_lanes))
    return edges, tuple(spacing)


@lru_cache(maxsize=64)
def _waits(stages: tuple[Stage, ...], edges: tuple[tuple[int, ...], ...], spacing: tuple[int, ...], rtl: bool) -> tuple[float, tuple[Waits, ...]]:
    """(cycles between frames, for each stage the pixels that wait in front of it, at most)."""
    # HLS readers fill their buffers anew in each frame, which takes longer than the plan's interval: there the slowest of them paces the image.
    pace = float(max(image_cycles(stages[0], spacing[0]), *(frame_cycles(s, beats, rtl=rtl) for s, beats in zip(stages, spacing[1:], strict=True))))
    frames = FIRST_FRAMES
    while True:
        made: list[Pixels] = [image_pixels(stages[0], pace, frames)]
        found: list[Waits] = []
        slower = pace
        for stage, reads, beats in zip(stages, edges, spacing[1:], strict=True):
            inputs = tuple(made[i] for i in reads)
            out, taken = run_stage(stage, inputs, frames, beats, rtl=rtl)
            made.append(out)
            found.append(tuple(_waiting(pixels, times) for pixels, times in zip(inputs, taken, strict=True)))
            if all(_repeats(pixels, pace, frames) for pixels in inputs) and not _repeats(out, pace, frames):
                slower = max(slower, _falls_behind(out, frames))
        if all(_repeats(pixels, pace, frames) for pixels in made):
            return pace, tuple(found)
        if slower > pace + SAME:
            pace, frames = slower, FIRST_FRAMES
        elif frames < MOST_FRAMES:
            frames *= 2
        else:
            raise AssertionError(f"no schedule of {pace} cycles a frame within {frames} frames")


def _waiting(pixels: Pixels, taken: np.ndarray) -> int:
    """Most pixels that have begun to come and are not taken."""
    number = np.arange(1, len(taken) + 1)
    return int((number - np.searchsorted(np.maximum.accumulate(taken), pixels.sent, side="right")).max())


def _repeats(pixels: Pixels, pace: float, frames: int) -> bool:
    """Whether each of the last three frames came as the one before, an interval later."""
    return bool(np.abs(np.diff(pixels.came.reshape(frames, -1)[-4:], axis=0) - pace).max() < SAME)


def _falls_behind(pixels: Pixels, frames: int) -> float:
    """Cycles between the last frames where they are the same twice: what a stage takes by itself when all it reads comes in time; else 0."""
    before, last = np.diff(pixels.came.reshape(frames, -1)[-3:], axis=0).max(axis=1)
    return float(last) if abs(last - before) < SAME else 0.0


__all__ = ["hls_flow_depth", "rtl_flow_depth", "schedule_pace"]
