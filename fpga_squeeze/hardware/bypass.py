"""Depths of bypass FIFOs, derived (docs/bypass.md has the proof).

A bypass leaves the main stream at a fork and meets it again in a join: fork -> width converter -> FIFO (-> convolutions and pools) -> adder or concat. The
main branch must take in a number of beats before it makes its first one (and its next one, in the middle of a frame); meanwhile the bypass must take the same
beats although the join takes none. `least` is the depth below which the machine stands still for ever and at which it never does. `full_rate` is deeper by
what waits in the FIFO while all stages work at the plan's interval (hardware/schedule.py).
"""

from __future__ import annotations

from math import ceil

import numpy as np

from fpga_squeeze.hardware.flow import hls_flow_depth, rtl_flow_depth
from fpga_squeeze.hardware.need import Beats, compose, converter_need, converter_takes, main_need, side_beats, side_need, stage_need
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, ConvStage, Engine, FoldPlan, JoinStage, Link
from fpga_squeeze.hardware.schedule import FRAMES, pixel_need, pixel_times

MOST_FRAMES = 96
"""Frames looked at, at most: more than a main branch has stages."""

REGISTERS = 2
"""Beats by which a FIFO at full rate is deeper than the pixels that wait in it: its output register and the beat that is on its way into the fork."""


def rtl_bypass_depth(plan: FoldPlan, bypass: Link) -> int:
    """Depth of `bypass` in the RTL, in beats of its out_lanes."""
    if plan.general:
        return max(REGISTERS, rtl_flow_depth(plan, bypass))
    return max(least_depth(plan, bypass, rtl=True) + REGISTERS, full_rate_depth(plan, bypass))


def hls_bypass_depth(plan: FoldPlan, bypass: Link) -> int:
    """Depth of `bypass` in the HLS machine: what it needs to go on, and as much more as the RTL takes for its rate."""
    if plan.general:
        return hls_flow_depth(plan, bypass)
    more = rtl_bypass_depth(plan, bypass) - least_depth(plan, bypass, rtl=True)
    return least_depth(plan, bypass, rtl=False) + more


def least_depth(plan: FoldPlan, bypass: Link, *, rtl: bool) -> int:
    """The least depth with which nothing can stand still for ever.

    RTL: exact for an identity and for an engine that takes one pixel at a time: with a beat less the machine stops in the first frame, whatever the
    timing (a line-buffered engine's last beats may or may not end a row, which depends on it: there the depth is exact unless just that row decides).
    For p_px > 1, a pool or more than one stage on the bypass, and for HLS, a bound: what these (the fork, the converter) hold is not counted on.
    """
    stage = _join(plan, bypass)
    need = main_need(plan, bypass, rtl=rtl)
    left = _left_fifo(stage, side_beats(stage), rtl=rtl)
    channels = bypass.shape[0]
    # The RTL's fork gives the main branch one beat more than the bypass has taken.
    entered = converter_takes(channels, bypass.in_lanes, bypass.out_lanes, need - 1) if rtl else _beats_holding(bypass, need)
    return max(1, int((entered - left).max()))


def bypass_ahead(plan: FoldPlan, bypass: Link) -> bool:
    """Whether the main branch needs as much of the forked stream as the bypass does, in RTL and HLS: `least_depth` relies on it. An addition wants that for
    every beat, a concat for every whole pixel: the FIFO in front of its main input holds one (hardware/fifo_rtl.py)."""
    stage = _join(plan, bypass)
    shape = bypass.shape
    fifo = converter_need(shape[0], shape[1] * shape[2], bypass.in_lanes, bypass.out_lanes)
    for rtl in (True, False):
        own, main = compose(fifo, side_need(stage, rtl=rtl)), main_need(plan, bypass, rtl=rtl)
        if isinstance(stage, ConcatStage):
            pixels = stage.in_shape[1] * stage.in_shape[2]
            own, main = (beats.reshape(pixels, -1)[:, -1] for beats in (own, main))
        if (main < own).any():
            return False
    return True


def full_rate_depth(plan: FoldPlan, bypass: Link) -> int:
    """The depth that holds all that waits in the FIFO while every stage works at the plan's interval."""
    stage = _join(plan, bypass)
    start = next(i for i, link in enumerate(plan.links) if link.tensor == bypass.tensor)
    end = next(i for i, s in enumerate(plan.stages) if s.name == bypass.consumer)
    pixels, per_frame = stage.in_shape[1] * stage.in_shape[2], bypass.shape[1] * bypass.shape[2]
    used = np.arange(1, pixels + 1)
    for own in reversed(stage.side):
        used = compose(pixel_need(own), used)
    # A pixel comes into the FIFO beat by beat, from when its producer begins to send it.
    sending = plan.stages[start - 1].cycles / per_frame if start else 0.0
    # Before result k + 1 the bypass has given up what result k needed, in whichever frame.
    before = np.concatenate([[0], used[:-1]])
    frames = FRAMES
    while True:
        times = pixel_times(plan.stages, plan.links, plan.interval_cycles, frames)
        given = (np.arange(frames)[:, None] * per_frame + before[None, :]).ravel()
        arrived = np.searchsorted(times[start] - sending, times[end], side="right")[: (frames - 1) * pixels]
        # On a map of few pixels every stage of the main branch keeps one for most of an interval: frames lie between fork and adder.
        if arrived.max() < len(times[start]) or frames >= MOST_FRAMES:
            break
        frames *= 2
    # In front of a concat a pixel waits while the other operand's channels leave.
    waiting = int((arrived - given[: len(arrived)]).max()) + isinstance(stage, ConcatStage)
    return waiting * ceil(bypass.shape[0] / bypass.out_lanes) + REGISTERS


def side_fifo_depth(plan: FoldPlan, bypass: Link) -> int:
    """Depth of the FIFO between the last stage on the bypass and the join, in the join's beats; 0 where none is needed.

    What is on the bypass works at its own pace: a pool takes whole rows in and then lets a row go at once, a convolution takes the same time for each pixel.
    The main branch comes unevenly: nothing at a frame's start, the last rows at once. Here wait, at most and at least, the pixels that must have been made
    while nothing was joined for the bypass not to hold the join up. Only an addition with a convolution alone has no such FIFO (fsq_conv_adder.sv).
    """
    stage = _join(plan, bypass)
    if not stage.side or (isinstance(stage, AddStage) and len(stage.side) == 1 and isinstance(stage.side[0], ConvStage)):
        return 0
    pixels = stage.in_shape[1] * stage.in_shape[2]
    used = np.arange(1, pixels + 1, dtype=np.int64)
    work = np.zeros(pixels)
    buffered = False
    for own in reversed(stage.side):
        if isinstance(own, ConvStage):
            # The slowest sets the pace.
            work = np.maximum(work, own.cycles / pixels)
            buffered = buffered or not own.engine.pixel_buffered
        elif not buffered:
            # From result to result: the input beats between them, at least the result's own; a frame's first one also waits for the rest of the frame before.
            # A line buffer behind a pool evens this out.
            folds = ceil(own.in_shape[0] / own.lanes)
            need = stage_need(own, rtl=True)[used * folds - 1]
            taken = np.diff(need, prepend=need[-1] - own.in_shape[1] * own.in_shape[2] * folds)
            work = np.maximum(work, np.maximum(taken, folds))
        used = compose(pixel_need(own), used)
    end = next(i for i, s in enumerate(plan.stages) if s.name == bypass.consumer)
    times = pixel_times(plan.stages, plan.links, plan.interval_cycles, FRAMES)[end]
    done = np.cumsum(np.tile(work, FRAMES))

    def late(room: int) -> float:
        """Most cycles by which a result comes after the main branch's, when `room` results may wait in front of the join."""
        freed = np.concatenate([np.full(room, -np.inf), times[:-room]])
        ready = done + np.maximum.accumulate(freed - done)
        return float((ready - times)[pixels:].max())

    low, high = 1, pixels
    allowed = max(0.0, late(high))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if late(middle) <= allowed else (middle + 1, high)
    return (low + 1) * ceil(stage.side_shape[0] / stage.lanes)


def _join(plan: FoldPlan, bypass: Link) -> JoinStage:
    stage = next(s for s in plan.stages if s.name == bypass.consumer)
    assert isinstance(stage, JoinStage)
    return stage


def _beats_holding(bypass: Link, beats: Beats) -> Beats:
    """FIFO beats that the first `beats` beats of the forked stream fill or begin."""
    pixel, rest = np.divmod(beats, ceil(bypass.shape[0] / bypass.in_lanes))
    channels = np.minimum(rest * bypass.in_lanes, bypass.shape[0])
    return np.asarray(pixel * ceil(bypass.shape[0] / bypass.out_lanes) + -(-channels // bypass.out_lanes), dtype=np.int64)


def _left_fifo(stage: JoinStage, taken: Beats, *, rtl: bool) -> Beats:
    """Beats that have left the bypass FIFO for good when the join has taken `taken` beats of the second operand and waits for the main stream: at least,
    and where `least_depth` is called exact, at most."""
    if not stage.side:
        return taken
    only = stage.side[0]
    if rtl and len(stage.side) == 1 and isinstance(only, ConvStage) and only.engine.fold.p_px == 1:
        # The unit spends all its credits, takes what needs none, and one beat waits in the buffer's register.
        e = only.engine
        folds = e.ic_folds * e.k_folds
        read = (_engine_beats_out(stage, e, taken + stage.side_depth) + mvu_depth(e)) * folds + folds
        return _buffer_takes(e, read // (e.oc_folds * folds))
    need = np.concatenate([np.zeros(1, dtype=np.int64), side_need(stage, rtl=rtl)])
    return need[taken]


def _buffer_takes(e: Engine, done: Beats) -> Beats:
    """Input beats that an engine's buffer has taken in when the windows of `done` output pixels, of frames one after the other, have been read."""
    if e.pixel_buffered:
        return (done + 2) * e.ic_folds
    (_, in_h, in_w), (_, out_h, out_w) = e.in_shape, e.out_shape
    used = min(in_h, (out_h - 1) * e.stride - e.padding[0] + e.kernel)
    frames, rows = np.divmod(done // out_w, out_h)
    held = frames * used + np.clip(rows * e.stride - e.padding[0], 0, used) + e.buffer_rows
    # Rows below the last window are taken in and dropped.
    whole, more = np.divmod(held, used)
    return np.asarray((whole * in_h + more) * in_w * e.ic_folds, dtype=np.int64)


def _engine_beats_out(stage: JoinStage, e: Engine, taken: Beats) -> Beats:
    """Beats that the engine's converter to the join's lanes has taken when `taken` have left it and the next one may not."""
    channels, height, width = stage.side_shape
    wanted = np.arange(1, (height * width + 4 + stage.side_depth) * e.oc_folds + 4, dtype=np.int64)
    gone = converter_takes(channels, e.fold.p_oc, stage.lanes, wanted)
    return np.asarray(np.searchsorted(gone, taken, side="right"), dtype=np.int64)


def mvu_depth(e: Engine) -> int:
    """Beats of the output FIFO of an engine's fsq_mvu: its DEPTH_NEEDED (templates/rtl/lib/fsq_mvu.sv)."""
    lanes, folds = e.fold.p_ic * e.fold.p_k, e.ic_folds * e.k_folds
    tree = (lanes - 1).bit_length()
    levels = tree
    if e.packing != "none":
        product = e.weight_bits + e.in_fmt.bits
        grouped = 0 if e.pack_shift <= product else min(e.pack_shift - product, tree)
        groups = (lanes + (1 << grouped) - 1) >> grouped
        levels = grouped + (groups - 1).bit_length() + 1 + (2 if e.pack_shift < product else 0)
    done = 3 + levels + 4
    return (done + 4 + folds - 1) // folds + 1


__all__ = ["bypass_ahead", "full_rate_depth", "hls_bypass_depth", "least_depth", "mvu_depth", "rtl_bypass_depth", "side_fifo_depth"]
