"""The least depth of a bypass against a model that knows nothing of it: processes with bounded queues, each like its RTL module, run in random order.

The processes read and write token by token; a convolution's windows are found tap by tap. With the derived depth no order of events stands still and every
frame comes out; with one beat less every order does, in the first frame.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from concat_nets import concat as join
from hls_cases import NetBuilder, hand_plan
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from residual_nets import add

from fpga_squeeze.hardware.bypass import hls_bypass_depth, least_depth, rtl_bypass_depth
from fpga_squeeze.hardware.fifo_rtl import rtl_link_depth
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.need import side_lanes, side_shapes
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, ConvStage, Engine, ExpandStage, FoldPlan, JoinStage, PoolStage, SideStage, Stage
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QuantGraph

Process = Iterator[tuple[str, "Queue"]]
"""Yields what it waits for: ("read" or "peek", queue) until a token is there, ("write", queue) until there is room; then it goes on."""


class Queue:
    """`size` tokens at most."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tokens = 0
        self.passed = 0

    def ready(self, what: str) -> bool:
        return self.tokens < self.size if what == "write" else self.tokens > 0

    def move(self, what: str) -> None:
        self.tokens += {"read": -1, "peek": 0, "write": 1}[what]
        self.passed += what == "write"


def last_tap(engine: Engine, row: int, column: int) -> int:
    """Input pixel that completes the window of an output pixel: the last one in stream order that any tap reads, found tap by tap."""
    (_, height, width), (top, left, _, _) = engine.in_shape, engine.padding
    inside = [
        y * width + x
        for y in range(row * engine.stride - top, row * engine.stride - top + engine.kernel)
        for x in range(column * engine.stride - left, column * engine.stride - left + engine.kernel)
        if 0 <= y < height and 0 <= x < width
    ]
    return max(inside)


def windows(engine: Engine, in_beats: int, out_beats: int, source: Queue, sink: Queue) -> Process:
    """An engine that holds nothing beyond what it needs: takes pixels up to the window's last one (a group's), then sends its beats."""
    _, out_h, out_w = engine.out_shape
    pixels, in_pixels = out_h * out_w, engine.in_shape[1] * engine.in_shape[2]
    group = engine.fold.p_px
    while True:
        taken = 0
        for first in range(0, pixels, group):
            members = range(first, min(first + group, pixels))
            needed = max(last_tap(engine, *divmod(p, out_w)) for p in members) + 1
            for _ in range(max(0, needed - taken) * in_beats):
                yield "read", source
            taken = max(taken, needed)
            for _ in range(len(members) * out_beats):
                yield "write", sink
        for _ in range((in_pixels - taken) * in_beats):
            yield "read", source


def pool(stage: PoolStage, source: Queue, sink: Queue) -> Process:
    """Beat by beat: a window leaves with the last position that it covers."""
    (_, height, width), (_, out_h, out_w) = stage.in_shape, stage.out_shape
    folds = stage.in_shape[0] // stage.lanes
    while True:
        taken = 0
        for row in range(out_h):
            for column in range(out_w):
                y = min(row * stage.stride + stage.kernel - 1 - stage.padding[0], height - 1)
                x = min(column * stage.stride + stage.kernel - 1 - stage.padding[1], width - 1)
                for fold in range(folds):
                    needed = (y * width + x) * folds + fold + 1
                    for _ in range(max(0, needed - taken)):
                        yield "read", source
                    taken = max(taken, needed)
                    yield "write", sink
        for _ in range(height * width * folds - taken):
            yield "read", source


def converter(channels: int, into: int, out: int, source: Queue, sink: Queue) -> Process:
    """Lanes that divide one another: an input beat is taken apart, or an output beat collected, in one register each."""
    while True:
        if into == out:
            yield "read", source
            yield "write", sink
        elif into > out:
            for first in range(0, channels, into):
                yield "read", source
                for _ in range(first, min(first + into, channels), out):
                    yield "write", sink
        else:
            for first in range(0, channels, out):
                for _ in range(first, min(first + out, channels), into):
                    yield "read", source
                yield "write", sink


def adder(main: Queue, bypass: Queue, sink: Queue) -> Process:
    """Takes a beat of each at once: here the bypass's only when the main one's is there."""
    while True:
        yield "read", main
        yield "read", bypass
        yield "write", sink


def concat(stage: ConcatStage, main: Queue, bypass: Queue, sink: Queue) -> Process:
    """Beat by beat as channels lie: which operands' beats begin or end in a beat out. Nothing of a pixel before its first main beat."""
    lanes, total = stage.lanes, stage.out_shape[0]
    first, second = (main, bypass) if stage.main_first else (bypass, main)
    seam = stage.first_channels
    while True:
        taken = [0, 0]
        yield "peek", main
        for start in range(0, total, lanes):
            channels = range(start, min(start + lanes, total))
            # Beats of either operand that hold the channels of this beat; what an earlier beat has taken is held.
            wanted = [0, 0]
            for c in channels:
                which, index = (0, c) if c < seam else (1, c - seam)
                wanted[which] = max(wanted[which], index // lanes + 1)
            if min(wanted) > 0 and wanted[0] > taken[0] and wanted[1] > taken[1]:
                yield "peek", first
            for which, queue in enumerate((first, second)):
                for _ in range(max(0, wanted[which] - taken[which])):
                    yield "read", queue
                taken[which] = max(taken[which], wanted[which])
            yield "write", sink


class Fork:
    """Offers a beat to both outputs; each takes it in its own time."""

    def __init__(self, source: Queue, outputs: tuple[Queue, Queue]) -> None:
        self.source, self.outputs, self.done = source, outputs, [False, False]

    def step(self) -> bool:
        moved = False
        if self.source.tokens:
            for i, output in enumerate(self.outputs):
                if not self.done[i] and output.ready("write"):
                    output.move("write")
                    self.done[i] = moved = True
            if all(self.done):
                self.source.move("read")
                self.done = [False, False]
                moved = True
        return moved


class Runner:
    """Processes that take turns in an order drawn from `seed`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.waiting: list[list] = []
        self.forks: list[Fork] = []

    def add(self, process: Process) -> list:
        self.waiting.append([process, next(process)])
        return self.waiting[-1]

    def round(self) -> bool:
        """One turn of everything; False when nothing could move."""
        moved = False
        self.random.shuffle(self.waiting)
        for entry in self.waiting:
            for _ in range(self.random.randrange(1, 40)):
                what, queue = entry[1]
                if not queue.ready(what):
                    break
                queue.move(what)
                entry[1] = next(entry[0])
                moved = True
        for fork in self.forks:
            while fork.step():
                moved = True
        return moved


def process_of(stage: Stage, source: Queue, sink: Queue) -> Process:
    if isinstance(stage, ConvStage):
        return windows(stage.engine, stage.engine.ic_folds, stage.engine.oc_folds, source, sink)
    if isinstance(stage, ExpandStage):
        beats = sum(-(-e.out_shape[0] // stage.out_lanes) for e in stage.engines)
        return windows(stage.expand3x3, stage.expand3x3.ic_folds, beats, source, sink)
    assert isinstance(stage, PoolStage)
    return pool(stage, source, sink)


def stands_still(plan: FoldPlan, depths: dict[str, int], seed: int, frames: int = 2) -> bool:
    """Whether the machine up to its last addition stops before `frames` frames have come out of it. A converter ahead of a bypass FIFO holds one beat in
    its register, as the RTL's does; its queue is the FIFO alone."""
    runner = Runner(seed)
    last = max(i for i, s in enumerate(plan.stages) if isinstance(s, JoinStage))
    ahead = Queue(1)
    produced = ahead
    endless = 10**9
    image = plan.links[0]
    runner.add(source_of(ahead))
    bypassed: dict[str, Queue] = {}
    for i, stage in enumerate(plan.stages[: last + 1]):
        link = plan.links[i]
        for b in plan.forked_off(link):
            main, side, fifo = Queue(1), Queue(1), Queue(depths[b.name])
            if b.in_lanes == b.out_lanes or min(b.in_lanes, b.out_lanes) >= b.shape[0]:
                side = fifo  # wires: no register between
            else:
                # The register of the converter is the process itself: an output beat waits in it for room.
                wires = HandOver()
                wires.reader = runner.add(converter(b.shape[0], b.in_lanes, b.out_lanes, wires, fifo))
                side = wires
            runner.forks.append(Fork(produced, (main, side)))
            bypassed[b.consumer] = fifo
            produced = main
        # The FIFO in front of a concat's main input holds a pixel where the bypass leaves first (hardware/fifo_rtl.py).
        taken = Queue(rtl_link_depth(plan, link))
        runner.add(converter(link.shape[0], link.in_lanes, link.out_lanes, produced, taken))
        sink = Queue(endless if i == last else 1)
        if isinstance(stage, JoinStage):
            side = bypassed[stage.name]
            for j, own in enumerate(stage.side):
                made, met = Queue(1), Queue(1)
                wanted = side_lanes(stage.side[j + 1])[0] if j + 1 < len(stage.side) else stage.lanes
                runner.add(process_of(own, side, made))
                runner.add(converter(side_shapes(own)[1][0], side_lanes(own)[1], wanted, made, met))
                side = met
            runner.add(concat(stage, taken, side, sink) if isinstance(stage, ConcatStage) else adder(taken, side, sink))
        else:
            runner.add(process_of(stage, taken, sink))
        produced = sink
    assert image.shape
    final = plan.stages[last]
    assert isinstance(final, JoinStage)
    wanted = frames * final.in_shape[1] * final.in_shape[2] * -(-final.out_shape[0] // final.lanes)
    while produced.passed < wanted:
        if not runner.round():
            return True
    return False


class HandOver(Queue):
    """Wires into a register: a token goes over only while the process behind waits for it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.reader: list | None = None

    def ready(self, what: str) -> bool:
        waits = self.reader is not None and self.reader[1] == ("read", self)
        return super().ready(what) and (what == "read" or waits)


def source_of(sink: Queue) -> Process:
    while True:
        yield "write", sink


def fold(draw: st.DrawFn, engine: Engine, p_px: int = 1) -> tuple[int, ...]:
    divisors = [[d for d in (1, 2, 4, 8) if n % d == 0] for n in (engine.out_shape[0], engine.in_shape[0])]
    return draw(st.sampled_from(divisors[0])), draw(st.sampled_from(divisors[1])), draw(st.sampled_from([1, engine.kernel, engine.kernel**2])), p_px


@st.composite
def machines(draw: st.DrawFn, identity: bool) -> tuple[QuantGraph, FoldPlan]:
    """conv1, then one or two residual blocks of one to three stages each, random folds and lanes."""
    net = NetBuilder(draw(st.integers(0, 99)))
    x = net.conv("conv1", net.image(2, draw(st.integers(4, 8)), draw(st.integers(4, 8))), draw(st.sampled_from([4, 8])), 1)
    last = draw(st.integers(0, 1))
    for block in range(last + 1):
        shape = next(n.shape for n in net.nodes if n.name == x)
        y, stride = x, 1
        for i in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["1x1", "3x3", "5x5", "fire", "pool", *([] if identity else ["3x3/2"])]))
            name = f"b{block}.{i}"
            if kind == "fire":
                y = net.fire(name, y, 2, shape[0] // 2, shape[0] // 2)
            elif kind == "pool":
                y = net.pool(name, y, 3, 1, (1, 1, 1, 1))
            elif kind == "3x3/2" and stride == 1 and i == 0:
                y, stride = net.conv(name, y, shape[0], 3, 2, (1, 1, 1, 1)), 2
            else:
                k = 3 if kind == "3x3/2" else int(kind[0])
                y = net.conv(name, y, shape[0], k, padding=(k // 2,) * 4)
        side = x if identity else net.conv(f"b{block}.short", x, shape[0], 1, stride)
        if not identity and draw(st.booleans()):
            side = net.conv(f"b{block}.more", side, shape[0], 1)
        if y == x:
            y = net.conv(f"b{block}.own", x, shape[0], 1)
        # A concat doubles the channels: one of them, as the last join.
        if block == last and draw(st.booleans()):
            x = join(net, f"b{block}.cat", *((y, side) if draw(st.booleans()) else (side, y)))
        else:
            x = add(net, f"b{block}.add", y, side, (0, 0), 0)
    qgraph = net.finish(net.conv("last", x, 2, 1))
    return qgraph, folded(draw, qgraph)


def folded_side(draw: st.DrawFn, stage: JoinStage) -> tuple[SideStage, ...]:
    side: list[SideStage] = []
    for own in stage.side:
        assert isinstance(own, ConvStage)
        f = fold(draw, own.engine)
        side.append(replace(own, engine=replace(own.engine, fold=replace(own.engine.fold, p_oc=f[0], p_ic=f[1]))))
    return tuple(side)


def folded(draw: st.DrawFn, qgraph: QuantGraph) -> FoldPlan:
    skeleton = build_skeleton(qgraph)
    stages: list[Stage] = []
    for s in skeleton.stages:
        width = min((e.out_shape[2] for e in s.engines), default=1)  # more pixels than a row has are not legal
        p_px = draw(st.sampled_from([n for n in (1, 1, 2, 3) if n <= width]))
        lanes = draw(st.sampled_from([1, 2, 4]))
        if isinstance(s, ConvStage):
            first = s.name == "conv1"
            f = fold(draw, s.engine, p_px)
            s = replace(s, engine=replace(s.engine, fold=replace(s.engine.fold, p_oc=f[0], p_ic=2 if first else f[1], p_k=f[2], p_px=p_px)))
        elif isinstance(s, ExpandStage):
            f = fold(draw, s.expand3x3, p_px)
            e3 = replace(s.expand3x3, fold=replace(s.expand3x3.fold, p_oc=f[0], p_ic=f[1], p_k=f[2], p_px=p_px))
            e1 = replace(s.expand1x1, fold=replace(s.expand1x1.fold, p_oc=s.expand1x1.out_shape[0], p_ic=2, p_px=p_px))
            s = replace(s, expand1x1=e1, expand3x3=e3, out_lanes=draw(st.sampled_from([1, 2])))
        elif isinstance(s, AddStage):
            s = replace(s, lanes=lanes, side=folded_side(draw, s))
        elif isinstance(s, ConcatStage):
            s = replace(s, lanes=draw(st.sampled_from([1, 2, 4, 8])), side=folded_side(draw, s))
        elif isinstance(s, PoolStage):
            s = replace(s, lanes=lanes)
        stages.append(s)
    return assemble(qgraph, skeleton, tuple(stages), 200.0, 1)


@settings(max_examples=25, deadline=None)
@given(machines(identity=True), st.integers(0, 1000))
def test_random_residual_nets_go_on_at_the_least_depth_and_stop_below(built: tuple[QuantGraph, FoldPlan], seed: int) -> None:
    _, plan = built
    least = {b.name: least_depth(plan, b, rtl=True) for b in plan.bypasses}
    assert not stands_still(plan, least, seed)
    for name, depth in least.items():
        if depth > 1:
            assert stands_still(plan, {**least, name: depth - 1}, seed, frames=1), name


@settings(max_examples=15, deadline=None)
@given(machines(identity=False), st.integers(0, 1000))
def test_random_nets_with_convolutions_on_the_bypass_never_stand_still(built: tuple[QuantGraph, FoldPlan], seed: int) -> None:
    """The model's engines hold nothing of their own, so the depth that counts on nothing is the one to test: the HLS machine's and, of several stages on a
    bypass, the RTL's too. Of one engine the RTL counts what it holds, and needs no more."""
    _, plan = built
    assume(plan.bypasses)  # a 1x1 and a same-padded convolution in this order are a Fire's pair
    safe = {b.name: least_depth(plan, b, rtl=False) for b in plan.bypasses}
    joins = {s.name: s for s in plan.stages if isinstance(s, JoinStage)}
    several = {b.name for b in plan.bypasses if len(joins[b.consumer].side) > 1}
    for b in plan.bypasses:
        least = least_depth(plan, b, rtl=True)
        assert b.name in several or least <= safe[b.name] <= hls_bypass_depth(plan, b)
        safe[b.name] = max(safe[b.name], least)
    assert not stands_still(plan, safe, seed)
    for b in plan.bypasses:
        assert least_depth(plan, b, rtl=True) < rtl_bypass_depth(plan, b)


def test_the_model_finds_a_machine_that_stands_still() -> None:
    net = NetBuilder(1)
    x = net.conv("conv1", net.image(2, 6, 6), 4, 1)
    qgraph = net.finish(net.conv("last", add(net, "sum", net.conv("b", x, 4, 3, padding=(1, 1, 1, 1)), x), 2, 1))
    plan = assemble(qgraph, build_skeleton(qgraph), hand_plan(qgraph, {"conv1": (1, 2, 1)}).stages, 200.0, 1)
    # One row of 6 pixels and two of the next, four beats each, less the beat in the fork.
    assert least_depth(plan, plan.bypasses[0], rtl=True) == 8 * 4 - 1
    assert not stands_still(plan, {"sum_bypass": 31}, 0) and stands_still(plan, {"sum_bypass": 30}, 0)
