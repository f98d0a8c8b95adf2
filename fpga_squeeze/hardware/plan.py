"""FoldPlan: the machine as stages joined by stream links. HLS and RTL are two emissions of one plan.

Stream order is NHWC: row by row, pixel by pixel, and per pixel ceil(C / lanes) beats of `lanes` channels, the last one padded with zeros.
A link is produced with `in_lanes` and consumed with `out_lanes`; where they differ a width converter sits on the link, per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.engine import Engine, EngineFold
from fpga_squeeze.ir import Padding, Shape

__all__ = [
    "AddStage", "ConcatStage", "ConvStage", "Engine", "EngineFold", "ExpandStage", "FoldPlan", "GlobalSumStage", "JoinStage", "Link", "PoolStage", "SideStage",
    "Stage",
]  # fmt: skip


@dataclass(frozen=True)
class ConvStage:
    """A convolution on its own: conv1, a squeeze, conv10."""

    name: str
    module: str
    engine: Engine

    @property
    def work_cycles(self) -> int:
        """The engine's work."""
        return self.engine.cycles

    @property
    def cycles(self) -> int:
        """Slowest of the engine's work and taking in the input, a beat a cycle."""
        e = self.engine
        return max(self.work_cycles, e.in_shape[1] * e.in_shape[2] * e.ic_folds)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engine, as a tuple."""
        return (self.engine,)


@dataclass(frozen=True)
class ExpandStage:
    """Fire's expand pair on one line buffer: the window reader of `expand3x3` also sends the centre tap's pixel to `expand1x1`; concat order [1x1, KxK].

    The line buffer holds words of expand3x3.fold.p_ic channels; expand1x1 takes the centre pixel in those words.
    `out_lanes`: channels a beat after the concat.
    """

    name: str
    module: str
    expand1x1: Engine
    expand3x3: Engine
    concat: str
    out_lanes: int

    @property
    def work_cycles(self) -> int:
        """Slowest of the two engines and sending out the concatenated pixels, a beat a cycle."""
        e1, e3 = self.expand1x1, self.expand3x3
        pixels = e3.out_shape[1] * e3.out_shape[2]
        out = pixels * (ceil(e1.out_shape[0] / self.out_lanes) + ceil(e3.out_shape[0] / self.out_lanes))
        return max(e1.cycles, e3.cycles, out)

    @property
    def cycles(self) -> int:
        """Slowest of the two engines, taking in the input, and sending out the concatenated pixels, a beat a cycle."""
        e3 = self.expand3x3
        return max(self.work_cycles, e3.in_shape[1] * e3.in_shape[2] * e3.ic_folds)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Both engines."""
        return (self.expand1x1, self.expand3x3)


@dataclass(frozen=True)
class PoolStage:
    """Max pool; `lanes` channels a beat in and out."""

    name: str
    module: str
    node: str
    in_shape: Shape
    out_shape: Shape
    kernel: int
    stride: int
    padding: Padding
    fmt: TensorFormat
    lanes: int

    @property
    def cycles(self) -> int:
        """One input beat a cycle."""
        return self.in_shape[1] * self.in_shape[2] * ceil(self.in_shape[0] / self.lanes)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """None: a pool has no multipliers."""
        return ()


@dataclass(frozen=True)
class GlobalSumStage:
    """Sums every channel over the map, `lanes` channels a beat in; then sends one class sum a beat, signed 32-bit or wider, last on the last class."""

    name: str
    module: str
    node: str
    in_shape: Shape
    in_fmt: TensorFormat
    out_fmt: TensorFormat
    lanes: int

    @property
    def cycles(self) -> int:
        """One input beat a cycle, then one cycle a class."""
        return self.in_shape[1] * self.in_shape[2] * ceil(self.in_shape[0] / self.lanes) + self.in_shape[0]

    @property
    def engines(self) -> tuple[Engine, ...]:
        """None: adders only."""
        return ()


SideStage = ConvStage | PoolStage
"""What may work on a bypass."""


@dataclass(frozen=True)
class AddStage:
    """Meets the main stream with a bypass, beat by beat: requantize((main << align[0]) + (bypass << align[1]), shift), `lanes` channels a beat.

    `bypass`: the tensor that was forked off. `side`: the stages on the bypass, behind its FIFO, in stream order; none for an identity.
    `in_shape` is the shape of both operands and of the result; `bypass_fmt` the format of the second operand, what the last of `side` makes. `side_depth`:
    beats of a second FIFO, between `side` and the addition, 0 where there is none (hardware/bypass.py).
    """

    name: str
    module: str
    node: str
    bypass: str
    in_shape: Shape
    in_fmt: TensorFormat
    bypass_fmt: TensorFormat
    out_fmt: TensorFormat
    align: tuple[int, int]
    shift: int
    lanes: int
    side: tuple[SideStage, ...] = ()
    side_depth: int = 0

    @property
    def cycles(self) -> int:
        """Slowest of a beat of the sum a cycle and the stages on the bypass."""
        own = self.in_shape[1] * self.in_shape[2] * ceil(self.in_shape[0] / self.lanes)
        return max(own, 0, *(s.cycles for s in self.side))

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines on the bypass."""
        return tuple(e for s in self.side for e in s.engines)

    @property
    def side_shape(self) -> Shape:
        """Shape of the second operand."""
        return self.in_shape

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        return self.in_shape


@dataclass(frozen=True)
class ConcatStage:
    """Meets the main stream with a bypass, channel-wise: a pixel's channels of the first operand, then those of the second, packed to `lanes` a beat.

    `main_first`: the main stream is the first operand. Neither operand need fill its last beat: the second one begins in the lane behind the first one's last
    channel. The beats of a pixel leave once its first beat of the main stream is there. `in_shape`: the main operand's shape, `side_shape` the other's;
    `side` and `side_depth` as in an AddStage.
    """

    name: str
    module: str
    node: str
    bypass: str
    in_shape: Shape
    side_shape: Shape
    fmt: TensorFormat
    main_first: bool
    lanes: int
    side: tuple[SideStage, ...] = ()
    side_depth: int = 0

    @property
    def cycles(self) -> int:
        """Slowest of a beat out a cycle, taking in either operand, and the stages on the bypass."""
        beats = max(ceil(shape[0] / self.lanes) for shape in (self.out_shape, self.in_shape, self.side_shape))
        return max(self.in_shape[1] * self.in_shape[2] * beats, 0, *(s.cycles for s in self.side))

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines on the bypass."""
        return tuple(e for s in self.side for e in s.engines)

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        return (self.in_shape[0] + self.side_shape[0], *self.in_shape[1:])

    @property
    def in_fmt(self) -> TensorFormat:
        """Format of the main operand: that of the result."""
        return self.fmt

    @property
    def bypass_fmt(self) -> TensorFormat:
        """Format of the second operand: that of the result."""
        return self.fmt

    @property
    def first_channels(self) -> int:
        """Channels of the operand that leaves first."""
        return self.in_shape[0] if self.main_first else self.side_shape[0]


JoinStage = AddStage | ConcatStage
"""A stage where a bypass ends."""

Stage = ConvStage | ExpandStage | PoolStage | GlobalSumStage | AddStage | ConcatStage


@dataclass(frozen=True)
class Link:
    """AXI4-Stream link producer -> consumer carrying tensor `tensor` (a QuantGraph node). `depth`: FIFO depth in beats of `out_lanes`."""

    name: str
    producer: str
    consumer: str
    tensor: str
    shape: Shape
    fmt: TensorFormat
    in_lanes: int
    out_lanes: int
    depth: int


@dataclass(frozen=True)
class FoldPlan:
    """Stages in stream order and the links between them. The first link's producer is "s_axis", the last link's consumer "m_axis".

    links[i] is the main input of stages[i]. In a chain its producer is the stage before; in a `general` plan any earlier stage or "s_axis"
    (docs/bypass.md, "Graphs that are no chain"). `bypasses`: one more link into each join, from the stage whose stream is forked (or "s_axis"); in a general
    plan from the stage that makes the second operand. `depth` holds for the HLS machine, as on every link. `pace`: cycles between
    frames of a general plan's schedule (hardware/flow.py).
    """

    stages: tuple[Stage, ...]
    links: tuple[Link, ...]
    clock_mhz: float
    target_cycles: int
    # Not in the text that configuration digests are made of when empty: see emit/hls_context.py.
    bypasses: tuple[Link, ...] = field(default=(), repr=False)
    general: bool = field(default=False, repr=False)
    pace: int = field(default=0, repr=False)

    @property
    def interval_cycles(self) -> int:
        """Predicted cycles between frames: the slowest stage; in a general plan what its schedule takes, where that is more."""
        return max(self.pace, *(s.cycles for s in self.stages))

    @property
    def multipliers(self) -> int:
        """Multipliers of all engines."""
        return sum(e.fold.multipliers for s in self.stages for e in s.engines)

    @property
    def macs(self) -> int:
        """Real multiply-accumulates a frame."""
        return sum(e.macs for s in self.stages for e in s.engines)

    @property
    def mac_efficiency(self) -> float:
        """MACs / (multipliers x cycles between frames)."""
        return self.macs / (self.multipliers * self.interval_cycles)

    def link_into(self, stage: str) -> Link:
        """The link whose consumer is `stage`."""
        return next(link for link in self.links if link.consumer == stage)

    def link_from(self, stage: str) -> Link:
        """The first link whose producer is `stage`; all others are forked off it."""
        return next(link for link in (*self.links, *self.bypasses) if link.producer == stage)

    def bypass_into(self, stage: str) -> Link:
        """The bypass whose consumer is join `stage`."""
        return next(link for link in self.bypasses if link.consumer == stage)

    def forked_off(self, link: Link) -> tuple[Link, ...]:
        """The links forked off `link`'s stream: for the first link of its producer all the others, in the order of their consumers; for any other none."""
        first, *others = [other for other in (*self.links, *self.bypasses) if other.producer == link.producer]
        return tuple(others) if link.name == first.name else ()
