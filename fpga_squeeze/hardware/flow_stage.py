"""When each pixel of a stage's result leaves and when each of its inputs is taken, from when they come: the rules of the modules, a pixel at a time.

Times are in cycles, float64 (frames * pixels,), frames one after the other. Where a module may do a thing within a span of time, the end of the span is taken
for what it gives and takes, the beginning for what comes: so more waits here than in the machine. What every rule stands for:

- an engine works on a pixel once its window's last pixel is taken (HLS: the row of it) and the pixel before is done, for the same time each; results are
  sent while it works and PIPELINE_CYCLES later; of p_px pixels the last ones a group's time later.
- a line buffer holds K + stride rows: a row is taken once windows no longer need the row whose place it gets; rows below the last window are taken as they
  come. HLS reads a row ahead at most, and the next frame once this one's windows are sent.
- a 1x1 engine holds two groups of p_px pixels in the RTL; in HLS a pixel counts as taken when its results are made.
- a pool takes a beat a cycle and walks over the padding behind a row, and behind the map (HLS: in front of it too), meanwhile taking nothing.
- an addition and a concat take a pixel of either operand when both are there and the pixel before has left.
- a global sum takes a beat a cycle; HLS sends the class sums before it takes the next frame.
- what a stage sends leaves through the width converter of each reader, a beat a cycle, before the FIFO: so a pixel takes the beats of the narrowest of them.
- a pixel that its reader has room for before it begins to come, and whose beats are taken no slower than they come, does not wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.hardware.fifo import PIPELINE_CYCLES
from fpga_squeeze.hardware.need import Beats, stage_need, window_pixels
from fpga_squeeze.hardware.plan import AddStage, ConvStage, Engine, ExpandStage, GlobalSumStage, JoinStage, PoolStage, Stage
from fpga_squeeze.ir import Shape

Times = NDArray[np.float64]

TIE = 1e-6
"""Times nearer than this are the same."""


@dataclass(frozen=True)
class Pixels:
    """When the pixels of a tensor begin to be `sent` by their producer, and when each `came` whole."""

    sent: Times
    came: Times


def image_pixels(first: Stage, interval: float, frames: int) -> Pixels:
    """The image's pixels, evenly over the interval; `first` reads them."""
    _, height, width = _in_shape(first)
    period = interval / (height * width)
    came = np.arange(1, frames * height * width + 1, dtype=np.float64) * period
    return Pixels(came - period, came)


def image_cycles(first: Stage, beats: int) -> int:
    """Cycles that the image takes to come, `beats` a pixel for the reader that wants it narrowest; `first` reads it."""
    _, height, width = _in_shape(first)
    return height * width * beats


def frame_cycles(stage: Stage, beats: int, *, rtl: bool) -> int:
    """Cycles that `stage` takes for a frame when everything is there: in HLS also those in which a reader fills its buffer. `beats`: cycles in which a pixel of
    its result leaves through the width converters behind it."""
    if isinstance(stage, PoolStage):
        return int(_walked(stage, beats, rtl=rtl)[1])
    if isinstance(stage, GlobalSumStage):
        return stage.cycles
    engine = _reader(stage)
    fill = _rows_ahead(engine) * engine.in_shape[2] * engine.ic_folds if engine is not None and not rtl else 0
    pixels = _out_pixels(stage)
    return max(stage.cycles, ceil(_service(stage, pixels, beats) * pixels)) + fill


def run_stage(stage: Stage, inputs: tuple[Pixels, ...], frames: int, beats: int, *, rtl: bool) -> tuple[Pixels, tuple[Times, ...]]:
    """(the pixels of the result, the times at which the pixels of each input are taken). `beats` as in `frame_cycles`."""
    if isinstance(stage, JoinStage):
        main, second = inputs
        return _join(stage, main, second, beats)
    (pixels,) = inputs
    if isinstance(stage, PoolStage):
        out, taken = _pool(stage, pixels, frames, beats, rtl=rtl)
    elif isinstance(stage, GlobalSumStage):
        out, taken = _sum(stage, pixels, frames, rtl=rtl)
    elif (engine := _reader(stage)) is not None:
        out, taken = _rows(stage, engine, pixels, frames, beats, rtl=rtl)
    else:
        out, taken = _single(stage, stage.engines[0], pixels, frames, beats, rtl=rtl)
    return out, (taken,)


def _service(stage: Stage, pixels: int, beats: int) -> float:
    """Cycles a pixel of the result: of the stage's work, or of the beats in which it leaves, whichever is more. Taking in the input, which a line buffer does
    meanwhile, is not in it."""
    work = stage.work_cycles if isinstance(stage, ConvStage | ExpandStage) else stage.cycles
    return max(work / pixels, beats)


def _out_pixels(stage: Stage) -> int:
    shape = stage.engines[-1].out_shape if isinstance(stage, ConvStage | ExpandStage) else stage.in_shape
    return shape[1] * shape[2]


def _in_shape(stage: Stage) -> Shape:
    return stage.engines[-1].in_shape if isinstance(stage, ConvStage | ExpandStage) else stage.in_shape


def _reader(stage: Stage) -> Engine | None:
    """The engine whose line buffer takes the stage's input; None without a line buffer."""
    if isinstance(stage, ExpandStage):
        return stage.expand3x3
    return stage.engine if isinstance(stage, ConvStage) and not stage.engine.pixel_buffered else None


def _in_order(ready: Times, spacing: Times) -> Times:
    """The earliest times, each no earlier than `ready` and than the one before plus the increase of `spacing`, an ascending count of cycles."""
    return np.asarray(np.maximum.accumulate(ready - spacing) + spacing, dtype=np.float64)


def _every(cycles: float, count: int) -> Times:
    """0, `cycles`, 2 * `cycles`, ...: float64 (count,)."""
    return np.asarray(cycles * np.arange(count), dtype=np.float64)


def _sent(done: Times, service: float, group: int) -> Pixels:
    """Results of an engine that are `done` every `service` cycles, in groups."""
    return Pixels(done - service + PIPELINE_CYCLES, done + PIPELINE_CYCLES + service * (group - 1))


def _single(stage: Stage, engine: Engine, pixels: Pixels, frames: int, beats: int, *, rtl: bool) -> tuple[Pixels, Times]:
    """A 1x1 engine without a line buffer."""
    count, group, folds = engine.in_shape[1] * engine.in_shape[2], engine.fold.p_px, engine.ic_folds
    service = _service(stage, count, beats)
    need = (np.arange(frames)[:, None] * count + window_pixels(engine, rtl=rtl)[None, :]).ravel()
    number = np.arange(frames * count)
    done = _in_order(pixels.came[need - 1], _every(service, len(number))) + service
    # The group of each pixel, and when each group is done.
    groups = ceil(count / group)
    member = (number // count) * groups + number % count // group
    group_done = np.zeros(frames * groups)
    np.maximum.at(group_done, member, done)
    if not rtl:
        return _sent(done, service, group), group_done[member]
    room = np.concatenate([np.full(2, -np.inf), group_done])[member]
    taken = _in_order(np.maximum(pixels.came, np.maximum(room, pixels.sent) + folds), _every(folds, len(number)))
    return _sent(done, service, group), _unless_passed(pixels, taken, room)


def _unless_passed(pixels: Pixels, taken: Times, room: Times | float) -> Times:
    """`taken`, but the beginning of its coming for a pixel that need not wait: its beats are taken as they come."""
    passes = (room <= pixels.sent + TIE) & (taken <= pixels.came + TIE)
    return np.where(passes, pixels.sent, taken)


def _rows_ahead(engine: Engine) -> int:
    """Rows that an HLS reader takes in before the first window of a frame."""
    return min(engine.in_shape[1], max(1, engine.kernel - engine.padding[0]))


def _held(engine: Engine, frames: int, *, rtl: bool) -> tuple[Beats, int]:
    """(rows that may have been taken, of frames one after the other, when so many output rows are done; rows of a frame that count)."""
    in_h, out_h = engine.in_shape[1], engine.out_shape[1]
    frame, rows = np.divmod(np.arange(frames * out_h + 1), out_h)
    begin = rows * engine.stride - engine.padding[0]
    if rtl:
        # Rows below the last window have no place in the buffer.
        used = min(in_h, max(1, (out_h - 1) * engine.stride - engine.padding[0] + engine.kernel))
        held = frame * used + np.clip(begin, 0, used) + engine.buffer_rows
    else:
        used = in_h
        held = frame * used + np.minimum(used, np.maximum(begin + engine.kernel + engine.stride, _rows_ahead(engine)))
    return np.maximum.accumulate(held), used


def _rows(stage: Stage, engine: Engine, pixels: Pixels, frames: int, beats: int, *, rtl: bool) -> tuple[Pixels, Times]:
    """An engine, or an expand pair, behind a line buffer: rows taken and rows of windows in turn."""
    (_, in_h, in_w), (_, out_h, out_w) = engine.in_shape, engine.out_shape
    folds, group = engine.ic_folds, engine.fold.p_px
    service = _service(stage, out_h * out_w, beats)
    need = window_pixels(engine, rtl=rtl).reshape(out_h, out_w)
    held, used = _held(engine, frames, rtl=rtl)
    sent, came = pixels.sent.reshape(-1, in_w), pixels.came.reshape(-1, in_w)
    whole, taken = np.empty_like(came), np.empty_like(came)  # taken whole; the same, or the beginning where it did not wait
    done = np.empty((frames * out_h, out_w))
    filling, work = _every(folds, in_w), _every(service, out_w)
    rows = 0
    finished: list[float] = []  # when each output row was done
    ends = np.arange(1, out_h + 1) * out_w
    behind = np.minimum(-ends % group, out_h * out_w - ends)  # pixels of the next rows that are done together with a row's last one

    def take_row() -> None:
        frame, row = divmod(rows, in_h)
        after = int(np.searchsorted(held, frame * used + row + 1)) if row < used else 0
        assert after <= len(finished), "a row is wanted before there is room for it"
        room = finished[after - 1] + service * behind[(after - 1) % out_h] if after else -np.inf
        ready = np.maximum(came[rows], np.maximum(sent[rows], room) + folds)
        if rows:
            ready[0] = max(ready[0], whole[rows - 1, -1] + folds)
        whole[rows] = _in_order(ready, filling)
        taken[rows] = _unless_passed(Pixels(sent[rows], came[rows]), whole[rows], room)

    for out in range(frames * out_h):
        frame, row = divmod(out, out_h)
        wanted = frame * in_h * in_w + need[row]
        while rows * in_w < wanted[-1]:
            take_row()
            rows += 1
        ready = whole.ravel()[wanted - 1]
        if out:
            ready[0] = max(ready[0], finished[-1])
        done[out] = _in_order(ready, work) + service
        finished.append(float(done[out, -1]))
    while rows < len(came):
        take_row()
        rows += 1
    return _sent(done.ravel(), service, group), taken.ravel()


def _walk(pool: PoolStage, *, rtl: bool) -> tuple[int, int]:
    """(positions that a pool walks beside a row, rows that it walks beside the map): in the RTL one for each window but one that ends beyond the edge."""
    beyond = []
    for axis in (2, 1):
        size, windows, before = pool.in_shape[axis], pool.out_shape[axis], pool.padding[axis - 1]
        if rtl:
            ends = np.arange(windows) * pool.stride + pool.kernel - 1 - before
            beyond.append(max(0, int((ends >= size - 1).sum()) - 1))
        else:
            beyond.append(max(size + before, (windows - 1) * pool.stride + pool.kernel) - size)
    return beyond[0], beyond[1]


def _walked(pool: PoolStage, beats: int, *, rtl: bool) -> tuple[Times, float]:
    """(when each pixel of a frame is taken at the earliest, counted from the frame's first; the cycles of a frame): float64 (pixels,). A position at which a
    window ends takes the result's beats, where these are more than its own."""
    _, in_h, in_w = pool.in_shape
    folds = ceil(pool.in_shape[0] / pool.lanes)
    right, below = _walk(pool, rtl=rtl)
    cycles = np.full((in_h + below, in_w + right), folds)
    ends = []
    for axis, size in ((1, in_h + below), (2, in_w + right)):
        last = np.arange(pool.out_shape[axis]) * pool.stride + pool.kernel - 1 - pool.padding[axis - 1]
        # Windows that end beyond the edge end one a position, the last of them at the last position.
        ends.append(np.minimum(last, size - 1 - np.arange(len(last))[::-1]))
    cycles[np.ix_(*ends)] = max(folds, beats)
    count = np.cumsum(cycles).reshape(cycles.shape)
    return (count - cycles)[:in_h, :in_w].ravel().astype(np.float64), float(count[-1, -1])


def _pool(pool: PoolStage, pixels: Pixels, frames: int, beats: int, *, rtl: bool) -> tuple[Pixels, Times]:
    _, in_h, in_w = pool.in_shape
    folds = ceil(pool.in_shape[0] / pool.lanes)
    first, frame = _walked(pool, beats, rtl=rtl)
    walked = (np.arange(frames)[:, None] * frame + first[None, :]).ravel()
    taken = _in_order(np.maximum(pixels.came, pixels.sent + folds), walked)
    wanted = stage_need(pool, rtl=rtl)[folds - 1 :: folds]
    need = (np.arange(frames)[:, None] * in_h * in_w + -(-wanted // folds)[None, :]).ravel()
    spaced = max(folds, beats)
    made = _in_order(taken[need - 1], _every(spaced, len(need)))
    return Pixels(made - folds + PIPELINE_CYCLES, made + spaced - folds + PIPELINE_CYCLES), _unless_passed(pixels, taken, -np.inf)


def _sum(stage: GlobalSumStage, pixels: Pixels, frames: int, *, rtl: bool) -> tuple[Pixels, Times]:
    count, folds = stage.in_shape[1] * stage.in_shape[2], ceil(stage.in_shape[0] / stage.lanes)
    number = np.arange(frames * count)
    busy = folds * number.astype(np.float64) + (0 if rtl else number // count * stage.in_shape[0])
    taken = _in_order(np.maximum(pixels.came, pixels.sent + folds), busy)
    last = taken[count - 1 :: count]
    return Pixels(last, last + stage.in_shape[0]), _unless_passed(pixels, taken, -np.inf)


def _join(stage: JoinStage, main: Pixels, second: Pixels, beats: int) -> tuple[Pixels, tuple[Times, ...]]:
    service = _service(stage, _out_pixels(stage), beats)
    done = _in_order(np.maximum(main.came, second.came), _every(service, len(main.came))) + service
    out = _sent(done, service, 1)
    if not isinstance(stage, AddStage):
        # Either operand waits while the other one's channels leave.
        return out, (done, done)
    before = np.concatenate([[-np.inf], done[:-1]])
    taken = []
    for own, other in ((main, second), (second, main)):
        # Sums follow the beats of the operand that comes later, where they are no slower.
        passes = (other.came <= own.sent + TIE) & (before <= own.sent + TIE) & (own.came - own.sent >= service - TIE)
        taken.append(np.where(passes, own.sent, done))
    return out, (taken[0], taken[1])
