"""FoldPlan: the machine as stages joined by stream links. HLS and RTL are two emissions of one plan.

Stream order is NHWC: row by row, pixel by pixel, and per pixel ceil(C / lanes) beats of `lanes` channels, the last one padded with zeros.
A link is produced with `in_lanes` and consumed with `out_lanes`; where they differ a width converter sits on the link, per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Padding, Shape


@dataclass(frozen=True)
class EngineFold:
    """Parallel output channels, input channels, kernel taps and output pixels of one engine.

    p_k is 1, K or K*K (the line buffer banks by row, then by column). p_px pixels that follow each other in the stream (across a row's end too) share
    every weight that is read. Folds need not divide their dimension: the last one is padded.
    """

    p_oc: int
    p_ic: int
    p_k: int
    p_px: int = 1

    @property
    def multipliers(self) -> int:
        """Multipliers of the engine."""
        return self.weight_lanes * self.p_px

    @property
    def weight_lanes(self) -> int:
        """Weights read a cycle."""
        return self.p_oc * self.p_ic * self.p_k


@dataclass(frozen=True)
class Engine:
    """One convolution engine: line buffer, read sequencer and p_oc x p_ic x p_k x p_px multipliers.

    Order of work per output pixel (per group of p_px pixels): output-channel fold (outer), then tap fold, then input-channel fold (innermost).
    Weight memory row address = (oc_fold * k_folds + k_fold) * ic_folds + ic_fold; in a row, lane ((o * p_k) + t) * p_ic + i holds
    weight[oc_fold*p_oc + o, ic_fold*p_ic + i, tap k_fold*p_k + t] (zero where padded), the lane's bits at lane * weight_bits upward.
    Tap t counts row-major through the kernel (t = kh * K + kw) for p_k in {1, K*K}; for p_k = K a fold is one kernel column (kw = k_fold, kh = t).

    `packing`: two multiplications in one hardware multiplier: "channels" (two weights times a common activation), "pixels" (two activations times a
    common weight) or "none"; `pack_shift`: bits between the two (hardware/dsp_packing.py). `weight_storage`: "lut", "bram", "uram", or "auto" for the
    synthesizer's choice. `loaded`: weights, biases and shifts come over the load port after reset instead of being initial contents.
    """

    node: str
    in_shape: Shape
    out_shape: Shape
    kernel: int
    stride: int
    padding: Padding
    pad_value: tuple[int, ...]
    fold: EngineFold
    in_fmt: TensorFormat
    out_fmt: TensorFormat
    weight_bits: int
    bias_bits: int
    acc_bits: int
    shift_min: int
    shift_max: int
    packing: str = "none"
    pack_shift: int = 0
    weight_storage: str = "auto"
    loaded: bool = False

    @property
    def oc_folds(self) -> int:
        """ceil(OC / p_oc)."""
        return ceil(self.out_shape[0] / self.fold.p_oc)

    @property
    def ic_folds(self) -> int:
        """ceil(IC / p_ic)."""
        return ceil(self.in_shape[0] / self.fold.p_ic)

    @property
    def k_folds(self) -> int:
        """ceil(K*K / p_k)."""
        return ceil(self.kernel * self.kernel / self.fold.p_k)

    @property
    def pixel_groups(self) -> int:
        """ceil(OH * OW / p_px); the last group of a frame may be short."""
        return ceil(self.out_shape[1] * self.out_shape[2] / self.fold.p_px)

    @property
    def cycles(self) -> int:
        """Clock cycles a frame: pixel_groups * oc_folds * ic_folds * k_folds; no fewer than the output's beats, which leave pixel by pixel."""
        work = self.pixel_groups * self.oc_folds * self.ic_folds * self.k_folds
        return max(work, self.out_shape[1] * self.out_shape[2] * self.oc_folds)

    @property
    def macs(self) -> int:
        """Real multiply-accumulates a frame (fold padding not counted)."""
        return self.out_shape[0] * self.out_shape[1] * self.out_shape[2] * self.in_shape[0] * self.kernel**2

    @property
    def weight_depth(self) -> int:
        """Rows of the weight memory."""
        return self.oc_folds * self.k_folds * self.ic_folds

    @property
    def weight_word_bits(self) -> int:
        """Bits of one row of the weight memory."""
        return self.fold.weight_lanes * self.weight_bits

    @property
    def shift_bits(self) -> int:
        """Bits of a stored per-channel shift, shift - shift_min (0 when all channels share one)."""
        return (self.shift_max - self.shift_min).bit_length()

    @property
    def buffer_rows(self) -> int:
        """Rows of the circular line buffer: K, plus `stride` so that writing overlaps reading; a 1x1 engine keeps two pixels instead (see pixel_buffered)."""
        return 0 if self.pixel_buffered else self.kernel + self.stride

    @property
    def pixel_buffered(self) -> bool:
        """True for a 1x1, stride-1, unpadded engine: two pixels in ping-pong replace the line buffer."""
        return self.kernel == 1 and self.stride == 1 and self.padding == (0, 0, 0, 0)


@dataclass(frozen=True)
class ConvStage:
    """A convolution on its own: conv1, a squeeze, conv10."""

    name: str
    module: str
    engine: Engine

    @property
    def cycles(self) -> int:
        """Slowest of the engine's work and taking in the input, a beat a cycle."""
        e = self.engine
        return max(e.cycles, e.in_shape[1] * e.in_shape[2] * e.ic_folds)

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
    def cycles(self) -> int:
        """Slowest of the two engines, taking in the input, and sending out the concatenated pixels, a beat a cycle."""
        e1, e3 = self.expand1x1, self.expand3x3
        pixels = e3.out_shape[1] * e3.out_shape[2]
        out = pixels * (ceil(e1.out_shape[0] / self.out_lanes) + ceil(e3.out_shape[0] / self.out_lanes))
        return max(e1.cycles, e3.cycles, e3.in_shape[1] * e3.in_shape[2] * e3.ic_folds, out)

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


@dataclass(frozen=True)
class AddStage:
    """Meets the main stream with a bypass, beat by beat: requantize((main << align[0]) + (bypass << align[1]), shift), `lanes` channels a beat.

    `bypass`: the tensor that was forked off. `engine`: a convolution on the bypass, behind its FIFO; None for an identity.
    `in_shape` is the shape of both operands and of the result; `bypass_fmt` the format of the second operand, the engine's output if there is one.
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
    engine: Engine | None = None

    @property
    def cycles(self) -> int:
        """Slowest of a beat of the sum a cycle, the engine's work and taking in the bypass, a beat a cycle."""
        own = self.in_shape[1] * self.in_shape[2] * ceil(self.in_shape[0] / self.lanes)
        e = self.engine
        return own if e is None else max(own, e.cycles, e.in_shape[1] * e.in_shape[2] * e.ic_folds)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engine on the bypass, if there is one."""
        return () if self.engine is None else (self.engine,)

    @property
    def bypass_lanes(self) -> int:
        """Channels a beat of the bypass FIFO."""
        return self.lanes if self.engine is None else self.engine.fold.p_ic


Stage = ConvStage | ExpandStage | PoolStage | GlobalSumStage | AddStage


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

    `bypasses`: one more link into each AddStage, from the stage whose stream is forked (or "s_axis"); `depth` holds for the HLS machine, as on every link.
    """

    stages: tuple[Stage, ...]
    links: tuple[Link, ...]
    clock_mhz: float
    target_cycles: int
    # Not in the text that configuration digests are made of when empty: see emit/hls_context.py.
    bypasses: tuple[Link, ...] = field(default=(), repr=False)

    @property
    def interval_cycles(self) -> int:
        """Predicted cycles between frames: the slowest stage."""
        return max(s.cycles for s in self.stages)

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
        """The link whose producer is `stage`."""
        return next(link for link in self.links if link.producer == stage)

    def bypass_into(self, stage: str) -> Link:
        """The bypass whose consumer is AddStage `stage`."""
        return next(link for link in self.bypasses if link.consumer == stage)

    def bypasses_of(self, link: Link) -> tuple[Link, ...]:
        """The bypasses forked off `link`'s stream, in stream order of their additions."""
        return tuple(b for b in self.bypasses if b.producer == link.producer)
