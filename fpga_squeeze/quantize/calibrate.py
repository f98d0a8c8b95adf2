"""Calibration: what the float network's tensors look like on real images, batch by batch, without keeping the tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.simulate.float_model import FloatModel

BINS = 2048
BATCH = 8
Progress = Callable[[int, int], None]
"""Called with (done, total) steps."""


@dataclass(frozen=True, eq=False)
class TensorStats:
    """Range and histogram of one tensor over all calibration images: `counts` int64 (BINS,) over equal bins of [low, high]."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin, (BINS,)."""
        step = (self.high - self.low) / BINS
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * step, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The images, uint8 (N, C, H, W), and the statistics of every tensor by node name."""

    pixels: NDArray[np.uint8]
    stats: dict[str, TensorStats]


def calibrate(graph: Graph, pixels: NDArray[np.uint8], progress: Progress | None = None) -> Calibration:
    """Run the lowered float graph over the images twice: ranges first, then histograms over those ranges.

    Args:
        graph: lowered, takes raw pixels. `pixels`: uint8 (N, C, H, W), N >= 1.
    Raises:
        InputError: no images, a wrong shape, or values that are not finite.
    """
    if pixels.ndim != 4 or len(pixels) == 0 or pixels.dtype != np.uint8 or pixels.shape[1:] != graph.input.shape:
        raise InputError(f"calibration: uint8 images of shape {graph.input.shape} were expected, got {pixels.dtype} {pixels.shape}")
    model = FloatModel(graph)
    names = [n.name for n in graph.nodes[1:]]
    ranges = {name: (0.0, 0.0) for name in names}
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in names}
    starts = range(0, len(pixels), BATCH)
    done = 0
    for histograms in (False, True):
        for start in starts:
            values = model.trace(torch.from_numpy(pixels[start : start + BATCH].astype(np.float32)))
            for name in names:
                if histograms:
                    counts[name] += _histogram(values[name], ranges[name])
                else:
                    ranges[name] = _widen(name, ranges[name], values[name])
            done += 1
            if progress is not None:
                progress(done, 2 * len(starts))
    return Calibration(pixels, {name: TensorStats(*ranges[name], counts[name]) for name in names})


def _widen(name: str, known: tuple[float, float], x: torch.Tensor) -> tuple[float, float]:
    low, high = (float(v) for v in torch.aminmax(x))
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(f"layer {name}: calibration reached values that are not finite; check the weights and the preprocessing")
    return min(known[0], low), max(known[1], high)


def _histogram(x: torch.Tensor, limits: tuple[float, float]) -> NDArray[np.int64]:
    low, high = limits
    if low == high:
        return np.zeros(BINS, dtype=np.int64)
    index = ((x.flatten() - low) * (BINS / (high - low))).to(torch.int32).clamp_(0, BINS - 1)
    return np.asarray(torch.bincount(index, minlength=BINS).numpy(), dtype=np.int64)
