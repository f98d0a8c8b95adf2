"""Random convolution cases: module parameters, memory files, input frames and the golden answer, all derived from one small spec.

The memory files are packed here straight from the definition in `hardware/plan.py`, apart from the emitter, so that one checks the other.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.ir import window_count
from fpga_squeeze.quantize.qgraph import QConv, QNode
from fpga_squeeze.simulate.reference import apply_node
from sim.streams import pack, pixel_beats

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class ConvSpec:
    """One convolution and its folding. `pads`: top, left, bottom, right. `shift`: smallest and largest requantize shift, None picks a fitting one.

    `keep`: share of the weights that is not made zero; `step`: the others are multiples of it.
    """

    size: tuple[int, int]
    channels: tuple[int, int]
    kernel: int
    stride: int
    pads: tuple[int, int, int, int]
    fold: tuple[int, int, int]
    weight_bits: int = 8
    act_bits: int = 8
    act_signed: bool = False
    out_bits: int = 8
    out_signed: bool = False
    shift: tuple[int, int] | None = None
    pad_values: bool = False
    seed: int = 1
    p_px: int = 1
    pack: int = 0
    pack_shift: int = 18
    keep: float = 1.0
    step: int = 1

    @classmethod
    def from_json(cls, text: str) -> ConvSpec:
        """The spec that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        read: dict[str, Any] = {f.name: tuple(v) if isinstance(v := values[f.name], list) else v for f in fields(cls)}
        return cls(**read)

    def to_json(self) -> str:
        """The spec as text for a bench's environment."""
        return json.dumps(asdict(self))

    @property
    def out_size(self) -> tuple[int, int]:
        """Output height and width."""
        t, le, b, r = self.pads
        return window_count(self.size[0], self.kernel, self.stride, t, b), window_count(self.size[1], self.kernel, self.stride, le, r)

    @property
    def ic_folds(self) -> int:
        """ceil(IC / p_ic)."""
        return ceil(self.channels[0] / self.fold[1])

    @property
    def oc_folds(self) -> int:
        """ceil(OC / p_oc)."""
        return ceil(self.channels[1] / self.fold[0])

    @property
    def k_folds(self) -> int:
        """ceil(K*K / p_k)."""
        return ceil(self.kernel**2 / self.fold[2])

    @property
    def pixel_buffered(self) -> bool:
        """As Engine.pixel_buffered."""
        return self.kernel == 1 and self.stride == 1 and self.pads == (0, 0, 0, 0)

    @property
    def cycles(self) -> int:
        """Cycles a frame: the engine's work, or its input or output beats if they are more."""
        pixels = self.out_size[0] * self.out_size[1]
        work = ceil(pixels / self.p_px) * self.oc_folds * self.ic_folds * self.k_folds
        return max(work, pixels * self.oc_folds, self.size[0] * self.size[1] * self.ic_folds)

    def tap(self, k_fold: int, lane: int) -> tuple[int, int]:
        """Kernel row and column of tap `lane` in fold `k_fold`."""
        if self.fold[2] == self.kernel and self.kernel > 1:
            return lane, k_fold
        return divmod(k_fold * self.fold[2] + lane, self.kernel)


class ConvCase:
    """Weights, formats, memory files and frames of a ConvSpec, from its seed."""

    def __init__(self, spec: ConvSpec) -> None:
        self.spec = spec
        self.rng = np.random.default_rng(spec.seed)
        ic, oc = spec.channels
        limit = 1 << (spec.weight_bits - 1)
        weight = self.rng.integers(-limit, limit, size=(oc, ic, spec.kernel, spec.kernel), dtype=np.int64)
        weight.flat[0], weight.flat[-1] = -limit, limit - 1
        if spec.keep < 1 or spec.step > 1:  # a generator of its own: all else stays as it is without
            weight = weight // spec.step * spec.step * (np.random.default_rng(spec.seed).random(weight.shape) < spec.keep)
        self.in_fmt = TensorFormat(spec.act_bits, 0, spec.act_signed)
        self.out_fmt = TensorFormat(spec.out_bits, 0, spec.out_signed)
        spread = float(limit * self.in_fmt.qmax * np.sqrt(ic * spec.kernel**2)) / 3
        bias = self.rng.integers(-int(spread), int(spread) + 1, size=oc, dtype=np.int64)
        low, high = spec.shift if spec.shift is not None else self._fitting_shifts(spread)
        shift = self.rng.integers(low, high + 1, size=oc, dtype=np.int64)
        shift[0], shift[-1] = low, (high if oc > 1 else low)
        reach = accumulator_range(weight, bias, self.in_fmt.qmin, self.in_fmt.qmax)
        self.acc_bits = signed_bits(int(reach[0].min()), int(reach[1].max()))
        self.bias_bits = signed_bits(int(bias.min()), int(bias.max()))
        pad_value = tuple(int(v) for v in self.random_act(ic)) if spec.pad_values else (0,) * ic
        self.conv = QConv(weight.astype(np.int32), spec.weight_bits, np.zeros(oc, np.int64), bias, shift, spec.stride, spec.pads, pad_value, self.acc_bits)
        self.node = QNode("conv", self.conv, ("image",), (oc, *spec.out_size), self.out_fmt)

    def _fitting_shifts(self, spread: float) -> tuple[int, int]:
        middle = max(0, round(np.log2(spread / self.out_fmt.qmax)))
        return max(0, middle - 2), middle + 2

    def random_act(self, *shape: int) -> Int64:
        """Random activations, both limits over-represented."""
        x = self.rng.integers(self.in_fmt.qmin, self.in_fmt.qmax + 1, size=shape, dtype=np.int64)
        extreme = self.rng.random(shape)
        x = np.where(extreme < 0.05, self.in_fmt.qmax, np.where(extreme > 0.9, self.in_fmt.qmin, x))
        return np.asarray(x, dtype=np.int64)

    def frame(self) -> Int64:
        """One random input frame (IC, IH, IW)."""
        return self.random_act(self.spec.channels[0], *self.spec.size)

    def golden(self, frame: Int64) -> Int64:
        """The output frame (OC, OH, OW)."""
        return apply_node(self.node, (frame,))

    def visited(self, step: int = 1, first: int = 0) -> list[tuple[int, int] | None]:
        """Output pixels (row, column) that a line buffer with PX_STEP and PX_FIRST visits in a frame; None is the dummy at its end."""
        height, width = self.spec.out_size
        places = range(first, ceil(height * width / step) * step, step)
        return [divmod(place, width) if place < height * width else None for place in places]

    def tap_golden(self, frame: Int64, step: int = 1, first: int = 0) -> list[int]:
        """The centre pixels beside `window_golden`, in words of p_ic channels; padding for a dummy."""
        p_ic, bits = self.spec.fold[1], self.spec.act_bits
        pixels = [self.conv.pad_value if at is None else frame[:, at[0], at[1]].tolist() for at in self.visited(step, first)]
        return [word for pixel in pixels for word in pixel_beats(pixel, p_ic, bits)]

    def window_golden(self, frame: Int64, step: int = 1, first: int = 0) -> list[int]:
        """The window stream of the line buffer: beats in the engine's order of work, of the output pixels first, first + step, ..."""
        spec = self.spec
        ic, _ = spec.channels
        p_ic, p_k = spec.fold[1], spec.fold[2]
        lanes = spec.ic_folds * p_ic
        t, le, b, r = spec.pads
        padded = np.zeros((lanes, spec.size[0] + t + b, spec.size[1] + le + r), dtype=np.int64)
        padded[:ic] = np.array(self.conv.pad_value)[:, None, None]
        padded[:ic, t : t + spec.size[0], le : le + spec.size[1]] = frame
        pad = np.zeros(lanes, dtype=np.int64)
        pad[:ic] = self.conv.pad_value
        beats = []
        for at in self.visited(step, first):
            pixel = []
            for kf in range(spec.k_folds):
                for cf in range(spec.ic_folds):
                    word: list[int] = []
                    for lane in range(p_k):
                        kh, kw = spec.tap(kf, lane)
                        channels = slice(cf * p_ic, (cf + 1) * p_ic)
                        taken = pad[channels] if at is None else padded[channels, at[0] * spec.stride + kh, at[1] * spec.stride + kw]
                        word += [int(v) for v in taken]
                    pixel.append(pack(word, spec.act_bits))
            beats += pixel * spec.oc_folds
        return beats

    def beats(self, tensor: Int64, lanes: int, bits: int) -> list[int]:
        """A (C, H, W) tensor as stream beats, NHWC."""
        return [w for row in range(tensor.shape[1]) for col in range(tensor.shape[2]) for w in pixel_beats(tensor[:, row, col].tolist(), lanes, bits)]

    def in_beats(self, frame: Int64) -> list[int]:
        """An input frame as beats of p_ic lanes."""
        return self.beats(frame, self.spec.fold[1], self.spec.act_bits)

    def out_beats(self, frame: Int64) -> list[int]:
        """The golden output of `frame` as beats of p_oc lanes."""
        return self.beats(self.golden(frame), self.spec.fold[0], self.spec.out_bits)

    @property
    def shift_bits(self) -> int:
        """Bits of a stored shift offset (0: one shift for all)."""
        return (int(self.conv.shift.max()) - int(self.conv.shift.min())).bit_length()

    def weight_words(self) -> list[int]:
        """Weight memory, row by row."""
        spec = self.spec
        p_oc, p_ic, p_k = spec.fold
        oc, ic = spec.oc_folds * p_oc, spec.ic_folds * p_ic
        padded = np.zeros((oc, ic, spec.kernel, spec.kernel), dtype=np.int64)
        padded[: spec.channels[1], : spec.channels[0]] = self.conv.weight
        words = []
        for of in range(spec.oc_folds):
            for kf in range(spec.k_folds):
                for cf in range(spec.ic_folds):
                    lanes: list[int] = []
                    for o in range(p_oc):
                        for t in range(p_k):
                            kh, kw = spec.tap(kf, t)
                            lanes += [int(v) for v in padded[of * p_oc + o, cf * p_ic : (cf + 1) * p_ic, kh, kw]]
                    words.append(pack(lanes, spec.weight_bits))
        return words

    def files(self, prefix: str = "") -> dict[str, str]:
        """The $readmemh files by name."""
        p_oc, folds = self.spec.fold[0], self.spec.oc_folds
        rest = [0] * (folds * p_oc - self.spec.channels[1])
        bias = [*self.conv.bias.tolist(), *rest]
        offset = [*(self.conv.shift - self.conv.shift.min()).tolist(), *rest]
        files = {
            f"{prefix}weights.hex": self.weight_words(),
            f"{prefix}bias.hex": [pack(bias[f * p_oc : (f + 1) * p_oc], self.bias_bits) for f in range(folds)],
        }
        if self.shift_bits:
            files[f"{prefix}shift.hex"] = [pack(offset[f * p_oc : (f + 1) * p_oc], self.shift_bits) for f in range(folds)]
        return {name: "".join(f"{w:x}\n" for w in words) for name, words in files.items()}

    def geometry(self) -> dict[str, int]:
        """Parameters of the line buffer."""
        spec = self.spec
        return {
            "IH": spec.size[0], "IW": spec.size[1], "OH": spec.out_size[0], "OW": spec.out_size[1], "K": spec.kernel, "S": spec.stride,
            "PT": spec.pads[0], "PL": spec.pads[1], "P_IC": spec.fold[1], "P_K": spec.fold[2], "IC_FOLDS": spec.ic_folds,
            "OC_FOLDS": spec.oc_folds, "ROWS": spec.kernel + spec.stride, "ACT_BITS": spec.act_bits,
            "PAD_VALUE": pack(self.conv.pad_value, spec.act_bits),
        }  # fmt: skip

    def numbers(self) -> dict[str, int]:
        """Number formats of the matrix-vector unit."""
        spec = self.spec
        return {
            "WEIGHT_BITS": spec.weight_bits, "ACT_BITS": spec.act_bits, "ACT_SIGNED": int(spec.act_signed), "ACC_BITS": self.acc_bits,
            "BIAS_BITS": self.bias_bits, "SHIFT_MIN": int(self.conv.shift.min()), "SHIFT_MAX": int(self.conv.shift.max()),
            "OUT_BITS": spec.out_bits, "OUT_SIGNED": int(spec.out_signed), "P_OC": spec.fold[0], "OC_FOLDS": spec.oc_folds,
            "P_PX": spec.p_px, "PACK": spec.pack, "PACK_SHIFT": spec.pack_shift,
        }  # fmt: skip

    def engine_parameters(self) -> dict[str, int]:
        """Parameters of fsq_conv_engine."""
        return {**self.geometry(), **self.numbers(), "PIXEL_BUFFER": int(self.spec.pixel_buffered)}

    def group_beats(self, frame: Int64) -> list[int]:
        """The window streams of p_px line buffers side by side, as the matrix-vector unit takes them."""
        step, width = self.spec.p_px, self.spec.fold[1] * self.spec.fold[2] * self.spec.act_bits
        streams = [self.window_golden(frame, step, first) for first in range(step)]
        return [sum(beat << (p * width) for p, beat in enumerate(beats)) for beats in zip(*streams, strict=True)]

    def group_out_beats(self, frame: Int64) -> list[int]:
        """The golden output as the matrix-vector unit sends it: p_px pixels side by side, which must divide the frame's pixels."""
        step, folds, width = self.spec.p_px, self.spec.oc_folds, self.spec.fold[0] * self.spec.out_bits
        beats = self.out_beats(frame)
        assert len(beats) % (step * folds) == 0, "a short group has results of its dummy pixels, which are no part of the golden frame"
        groups = range(0, len(beats), step * folds)
        return [sum(beats[g + p * folds + f] << (p * width) for p in range(step)) for g in groups for f in range(folds)]

    def mvu_parameters(self) -> dict[str, int]:
        """Parameters of fsq_mvu."""
        return {**self.numbers(), "LANES": self.spec.fold[1] * self.spec.fold[2], "FOLDS": self.spec.ic_folds * self.spec.k_folds}


def spec_from_environment(name: str = "FSQ_CASE") -> ConvSpec:
    """Inside a bench: the spec that the test put into its environment."""
    return ConvSpec.from_json(os.environ[name])
