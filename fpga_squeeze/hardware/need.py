"""How much of its input a part of the machine must have taken in before a beat of its output can leave: exact, from the geometry and the folds.

A need is an int64 array over the output beats of a frame: entry k - 1 is the number of input beats, counted from the frame's start, without which beat k
never comes, and with which it comes although no further input does. It does not depend on time: every part of the machine lets go of what it can make
(no part holds a finished beat back, see the modules' headers). Needs of parts in a row are composed by indexing.

RTL and HLS differ in one place: the RTL's windows start with their last pixel, an HLS reader with the last row of an output row's windows.
"""

from __future__ import annotations

from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.hardware.plan import ConcatStage, ConvStage, Engine, ExpandStage, FoldPlan, JoinStage, Link, PoolStage, SideStage, Stage
from fpga_squeeze.ir import Shape

Beats = NDArray[np.int64]


def compose(first: Beats, second: Beats) -> Beats:
    """Need of two parts in a row: `second` counts in the output beats of `first`."""
    return first[second - 1]


def converter_need(channels: int, pixels: int, in_lanes: int, out_lanes: int) -> Beats:
    """A width converter: an output beat needs the input beats that hold its channels.

    >>> converter_need(8, 2, 4, 2).tolist(), converter_need(8, 2, 2, 8).tolist()
    ([1, 1, 2, 2, 3, 3, 4, 4], [4, 8])
    """
    last = np.minimum(np.arange(1, ceil(channels / out_lanes) + 1) * out_lanes, channels)
    return per_pixel(-(-last // in_lanes), ceil(channels / in_lanes), pixels)


def per_pixel(beats: Beats, in_beats: int, pixels: int) -> Beats:
    """`beats`, the need of one pixel's output beats, for every pixel of a frame whose pixels take `in_beats` beats."""
    return np.asarray((np.arange(pixels)[:, None] * in_beats + beats[None, :]).ravel(), dtype=np.int64)


def window_pixels(engine: Engine, *, rtl: bool) -> Beats:
    """Input pixels that each output pixel of `engine` needs, int64 (OH * OW,): up to its window's last one; in HLS up to the end of that row.

    With p_px > 1 a group needs what its last pixel needs.
    """
    (_, in_h, in_w), (_, out_h, out_w) = engine.in_shape, engine.out_shape
    top, left = engine.padding[:2]
    pixels = out_h * out_w
    if engine.pixel_buffered:
        need = np.arange(1, pixels + 1, dtype=np.int64)
    else:
        rows = np.clip(np.arange(out_h) * engine.stride - top + engine.kernel - 1, 0, in_h - 1)
        columns = np.clip(np.arange(out_w) * engine.stride - left + engine.kernel - 1, 0, in_w - 1)
        if not rtl:
            columns = np.full(out_w, in_w - 1)
        need = (rows[:, None] * in_w + columns[None, :] + 1).ravel()
    group = engine.fold.p_px
    ends = np.minimum((np.arange(pixels) // group + 1) * group, pixels)
    return np.asarray(np.maximum.accumulate(need)[ends - 1], dtype=np.int64)


def stage_need(stage: Stage, *, rtl: bool) -> Beats:
    """Input beats of `stage` (its main stream) that each output beat needs."""
    if isinstance(stage, ConvStage):
        return engine_need(stage.engine, rtl=rtl)
    if isinstance(stage, ExpandStage):
        # The centre words of a pixel leave with its window, so both branches need the same (docs/hls.md, "Depths").
        e1, e3 = stage.engines
        out = sum(ceil(e.out_shape[0] / stage.out_lanes) for e in (e1, e3))
        return np.repeat(window_pixels(e3, rtl=rtl) * e3.ic_folds, out)
    if isinstance(stage, PoolStage):
        return _pool_need(stage, rtl=rtl)
    if isinstance(stage, ConcatStage):
        return _concat_need(stage)
    # An addition (a global sum ends the chain): a beat of the sum needs a beat of the main stream.
    return np.arange(1, stage.in_shape[1] * stage.in_shape[2] * ceil(stage.in_shape[0] / stage.lanes) + 1, dtype=np.int64)


def engine_need(engine: Engine, *, rtl: bool) -> Beats:
    """Input beats that each output beat of a convolution engine needs: all folds of its windows' last pixel."""
    return np.repeat(window_pixels(engine, rtl=rtl) * engine.ic_folds, engine.oc_folds)


def _pool_need(pool: PoolStage, *, rtl: bool) -> Beats:
    (_, in_h, in_w), (_, out_h, out_w) = pool.in_shape, pool.out_shape
    folds = ceil(pool.in_shape[0] / pool.lanes)
    ends = [np.arange(n) * pool.stride + pool.kernel - 1 - before for n, before in ((out_h, pool.padding[0]), (out_w, pool.padding[1]))]
    rows, columns = np.minimum(ends[0], in_h - 1), np.minimum(ends[1], in_w - 1)
    pixel = rows[:, None] * in_w + columns[None, :]
    need = pixel[:, :, None] * folds + np.arange(1, folds + 1)
    if not rtl:
        # HLS walks the padding beyond the edge: by then the row, or the map, is in.
        need = np.where((ends[1] >= in_w)[None, :, None], (pixel[:, :, None] + 1) * folds, need)
        need = np.where((ends[0] >= in_h)[:, None, None], in_h * in_w * folds, need)
    return np.asarray(np.maximum.accumulate(need.ravel()), dtype=np.int64)


def _concat_need(stage: ConcatStage) -> Beats:
    """Beats of the main stream: a pixel begins with its first one; what leaves before and after the main stream's channels needs no more of it."""
    main, ahead = ceil(stage.in_shape[0] / stage.lanes), 0 if stage.main_first else stage.side_shape[0] // stage.lanes
    out = np.arange(1, ceil(stage.out_shape[0] / stage.lanes) + 1)
    return per_pixel(np.clip(out - ahead, 1, main), main, stage.in_shape[1] * stage.in_shape[2])


def side_beats(stage: JoinStage) -> Beats:
    """Beats of the second operand, in the join's lanes, that the join has taken when it has `k` beats of the main stream and waits for the next one, for
    every k of a frame. An addition takes the two in step; a concat, a pixel of each in turn."""
    pixels, main = stage.in_shape[1] * stage.in_shape[2], ceil(stage.in_shape[0] / stage.lanes)
    taken = np.arange(pixels * main, dtype=np.int64)
    if not isinstance(stage, ConcatStage):
        return taken
    # Nothing of a pixel is taken before its first main beat is there, so in front of one all pixels before are complete.
    pixel, inside = np.divmod(taken, main)
    return np.asarray((pixel + (0 if stage.main_first else inside > 0)) * ceil(stage.side_shape[0] / stage.lanes), dtype=np.int64)


def side_need(stage: JoinStage, *, rtl: bool) -> Beats:
    """Beats of the bypass FIFO that each beat of the second operand, in the join's lanes, needs: what the stages on the bypass take."""
    channels, height, width = stage.side_shape
    if not stage.side:
        return np.arange(1, height * width * ceil(channels / stage.lanes) + 1, dtype=np.int64)
    need = converter_need(channels, height * width, side_lanes(stage.side[-1])[1], stage.lanes)
    for i in range(len(stage.side) - 1, -1, -1):
        own = stage.side[i]
        need = compose(stage_need(own, rtl=rtl), need)
        if i:
            between = side_shapes(own)[0]
            made, taken = side_lanes(stage.side[i - 1])[1], side_lanes(own)[0]
            need = compose(converter_need(between[0], between[1] * between[2], made, taken), need)
    return need


def side_lanes(stage: SideStage) -> tuple[int, int]:
    """(channels a beat in, channels a beat out) of a stage on a bypass."""
    return (stage.engine.fold.p_ic, stage.engine.fold.p_oc) if isinstance(stage, ConvStage) else (stage.lanes, stage.lanes)


def side_shapes(stage: SideStage) -> tuple[Shape, Shape]:
    """(input shape, output shape) of a stage on a bypass."""
    return (stage.engine.in_shape, stage.engine.out_shape) if isinstance(stage, ConvStage) else (stage.in_shape, stage.out_shape)


def main_need(plan: FoldPlan, bypass: Link, *, rtl: bool) -> Beats:
    """Beats of the forked stream (its producer's lanes) that each beat of the main stream needs to reach the join at which `bypass` ends."""
    start = next(i for i, link in enumerate(plan.links) if link.tensor == bypass.tensor)
    end = next(i for i, s in enumerate(plan.stages) if s.name == bypass.consumer)
    need = link_need(plan.links[end])
    for i in range(end - 1, start - 1, -1):
        need = compose(stage_need(plan.stages[i], rtl=rtl), need)
        need = compose(link_need(plan.links[i]), need)
    return need


def link_need(link: Link) -> Beats:
    """A link's width converter."""
    return converter_need(link.shape[0], link.shape[1] * link.shape[2], link.in_lanes, link.out_lanes)


def converter_takes(channels: int, in_lanes: int, out_lanes: int, wanted: Beats) -> Beats:
    """The fewest output beats that must have left an RTL width converter before it has taken in `wanted` input beats, from a stream without end.

    What it holds besides (templates/rtl/lib/fsq_width_converter.sv): equal lanes, nothing; towards wider beats, one complete output beat; towards
    narrower ones, one input beat; else a row of CAPACITY units behind an output register.

    >>> [converter_takes(8, a, b, np.array([1, 2, 5])).tolist() for a, b in ((2, 2), (2, 8), (8, 2))]
    [[1, 2, 5], [0, 0, 1], [0, 4, 16]]
    """
    unit = gcd(in_lanes, out_lanes)
    units = ceil(channels / unit)
    in_units, out_units = in_lanes // unit, out_lanes // unit
    in_beats, out_beats = ceil(units / in_units), ceil(units / out_units)

    def gone(count: Beats) -> Beats:
        """Units in the first `count` input beats."""
        return count // in_beats * units + np.minimum(count % in_beats * in_units, units)

    def leaving(count: Beats) -> Beats:
        """Output beats that `count` units fill or begin."""
        return count // units * out_beats + -(-(count % units) // out_units)

    if in_lanes == out_lanes or (in_beats == 1 and out_beats == 1):
        return wanted
    if in_units == 1:
        return np.maximum(leaving(gone(wanted)) - 1, 0)
    if out_units == 1:
        return np.maximum(gone(np.maximum(wanted - 1, 0)), 0)
    room = out_units + min(in_units, out_units)
    return np.maximum(leaving(np.maximum(gone(np.maximum(wanted - 1, 0)) - room, 0)) - 1, 0)
