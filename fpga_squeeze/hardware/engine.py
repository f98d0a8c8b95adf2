"""A convolution engine: its geometry, its folds, and what follows from them in cycles and words."""

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
class WeightCoding:
    """How a weight memory holds its weights in less room, without loss; hardware/weight_storage.py derives it from them.

    `kind`: "codebook": a memory of indices and a table. "sparse": a bitmap, a bit a lane of every word, and the values of the lanes that it marks.
    "sparse-codebook": sparse, the values are indices. `value_bits`: bits of an index, or of a value where there is no table. `codebook`: the table.
    Sparse: `groups` groups of `group` lanes each (the last ones filled up with lanes that nothing reads) have a memory of `words` words of `read` values,
    and `columns` FIFOs before the lanes.
    """

    kind: str
    value_bits: int
    codebook: tuple[int, ...] = ()
    groups: int = 0
    group: int = 0
    read: int = 0
    columns: int = 0
    words: int = 0

    @property
    def sparse(self) -> bool:
        """A bitmap and values."""
        return self.kind != "codebook"

    @property
    def latency(self) -> int:
        """Cycles that a word comes later than one that is stored as it is (DECODE of fsq_mvu)."""
        return {"codebook": 1, "sparse": 3, "sparse-codebook": 4}[self.kind]


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
    `coding`: how the weight memory holds the weights, None: as they are.
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
    # Not in the text that configuration digests are made of: see emit/hls_context.py.
    coding: WeightCoding | None = field(default=None, repr=False)

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
    def stored_weight_bits(self) -> int:
        """Bits of all that the weight memory stores: the rows, or indices and table, or bitmap, values, their padding and table."""
        c = self.coding
        if c is None:
            return self.weight_depth * self.weight_word_bits
        table = len(c.codebook) * self.weight_bits
        if not c.sparse:
            return self.weight_depth * self.fold.weight_lanes * c.value_bits + table
        return self.weight_depth * c.groups * c.group + c.groups * c.words * c.read * c.value_bits + table

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
