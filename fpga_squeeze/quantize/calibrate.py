"""Calibration: what the float network's tensors look like on real images, batch by batch, without keeping the tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import F64, Graph
from fpga_squeeze.quantize.answer_ranges import ANSWER_IMAGES, answer_scales
from fpga_squeeze.quantize.channel_ranges import channel_ranges
from fpga_squeeze.quantize.equalize import channel_scales, rescale
from fpga_squeeze.quantize.formats import tensor_factors
from fpga_squeeze.quantize.stats import BINS, TensorStats
from fpga_squeeze.simulate.float_model import FloatModel

BATCH = 8
CHANNEL_STRENGTH = 0.6
"""How much of the difference between ranges by the answer is evened out: they are closer to what a channel needs than peaks are."""
CHANNEL_ANSWER_IMAGES = 64
Progress = Callable[[int, int], None]
"""Called with (done, total) steps."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """`graph`: the network with equalized channels, the same function as the one calibrated and the one to quantize and compare with.

    `pixels`: the images, uint8 (N, C, H, W). `stats`: statistics of every tensor of `graph` by node name.
    `scales`: the factor of every channel of every tensor against the network as given, (C,) by node name. `fracs`: of tensors whose format was chosen
    already, for activations of `act_bits`, by node name.
    """

    graph: Graph
    pixels: NDArray[np.uint8]
    stats: dict[str, TensorStats]
    scales: dict[str, F64] = field(default_factory=dict)
    fracs: dict[str, int] = field(default_factory=dict)
    act_bits: int = 8


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Extremes of every channel over all images, (C,) float64."""

    low: F64
    high: F64

    @property
    def peak(self) -> F64:
        """Largest magnitude of every channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def calibrate(
    graph: Graph,
    pixels: NDArray[np.uint8],
    progress: Progress | None = None,
    act_bits: int = 8,
    equalize: bool = True,
    by_answer: bool = False,
    by_channel: bool = False,
) -> Calibration:
    """Run the lowered float graph over the images twice: channel ranges first, then, equalized, histograms over the tensors' ranges.

    Args:
        graph: lowered, takes raw pixels. `pixels`: uint8 (N, C, H, W), N >= 1. `act_bits`: width for which the tensors are scaled to fit best;
            any other width may be quantized to as well. `equalize`: False leaves every weight as it is. `by_answer`, with `equalize`: scales by what they do to
            the answer (quantize/answer_ranges.py) instead of the tensors' own error. `by_channel`, with both: evens out not the channels' peaks but the ranges
            that serve the answer best (quantize/channel_ranges.py), and looks at twice as many answers.
    Raises:
        InputError: no images, a wrong shape, or values that are not finite.
    """
    if pixels.ndim != 4 or len(pixels) == 0 or pixels.dtype != np.uint8 or pixels.shape[1:] != graph.input.shape:
        raise InputError(f"calibration: uint8 images of shape {graph.input.shape} were expected, got {pixels.dtype} {pixels.shape}")
    batches = -(-len(pixels) // BATCH)
    by_answer, by_channel = by_answer and equalize, by_channel and by_answer and equalize
    runs = 2 + by_answer + by_channel

    def report(done: int) -> None:
        if progress is not None:
            progress(done, runs * batches)

    ranges: dict[str, _Ranges] = {}
    for done, values in enumerate(_traces(graph, pixels)):
        for n in graph.nodes:
            ranges[n.name] = _widen(n.name, ranges.get(n.name), values[n.name])
        report(done + 1)
    peaks = {name: r.peak for name, r in ranges.items()}
    if by_channel:
        best = channel_ranges(graph, pixels, peaks, act_bits, lambda done, total: report(batches + done * batches // total))
        scales = channel_scales(graph, best, CHANNEL_STRENGTH)
    else:
        scales = channel_scales(graph, peaks) if equalize else {n.name: np.ones(n.shape[0]) for n in graph.nodes}
    limits = {name: (min(0.0, float((r.low * scales[name]).min())), max(0.0, float((r.high * scales[name]).max()))) for name, r in ranges.items()}
    equalized = rescale(graph, scales)
    counts = {n.name: np.zeros(BINS, dtype=np.int64) for n in graph.nodes}
    for done, values in enumerate(_traces(equalized, pixels)):
        for name, total in counts.items():
            total += _histogram(values[name], limits[name])
        report((1 + by_channel) * batches + done + 1)
    stats = {name: TensorStats(*limits[name], counts[name]) for name in counts}
    factors = tensor_factors(graph, stats, act_bits, only_caps=not equalize)
    fracs: dict[str, int] = {}
    if by_answer:
        images = CHANNEL_ANSWER_IMAGES if by_channel else ANSWER_IMAGES
        found, fracs = answer_scales(equalized, pixels, act_bits, lambda done, total: report((runs - 1) * batches + done * batches // total), images)
        factors |= found
    scales = {name: scales[name] * factors[name] for name in scales}
    scaled = {name: stats[name].scaled(factors[name]) for name in stats}
    return Calibration(rescale(graph, scales), pixels, scaled, scales, fracs, act_bits)


def _traces(graph: Graph, pixels: NDArray[np.uint8]) -> Iterator[dict[str, torch.Tensor]]:
    model = FloatModel(graph)
    for start in range(0, len(pixels), BATCH):
        yield model.trace(torch.from_numpy(pixels[start : start + BATCH].astype(np.float32)))


def _widen(name: str, known: _Ranges | None, x: torch.Tensor) -> _Ranges:
    low, high = (v.to(torch.float64).numpy() for v in (x.amin((2, 3)), x.amax((2, 3))))
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise InputError(f"layer {name}: calibration reached values that are not finite; check the weights and the preprocessing")
    found = _Ranges(low.min(axis=0), high.max(axis=0))
    if known is None:
        return found
    return _Ranges(np.minimum(known.low, found.low), np.maximum(known.high, found.high))


def _histogram(x: torch.Tensor, limits: tuple[float, float]) -> NDArray[np.int64]:
    low, high = limits
    if low == high:
        return np.zeros(BINS, dtype=np.int64)
    index = ((x.flatten() - low) * (BINS / (high - low))).to(torch.int32).clamp_(0, BINS - 1)
    return np.asarray(torch.bincount(index, minlength=BINS).numpy(), dtype=np.int64)
