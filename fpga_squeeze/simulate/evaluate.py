"""Accuracy of the float network and of the machine side by side, and how far each layer's tensor is from the float one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log10
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64, TensorFormat
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.images import load_files
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.quantize.qgraph import QGlobalSum, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

BATCH = 8
SQNR_CEILING_DB = 200.0
"""Reported where the machine's tensor equals the float one."""
Progress = Callable[[int, int], None]
"""Called with (done, total) images."""


@dataclass(frozen=True)
class Accuracy:
    """Share of images whose true class is first, or among the first five, in percent."""

    top1: float
    top5: float


@dataclass(frozen=True)
class EvaluationResult:
    """Float beside fixed over `count` images; `agreement_top1` is the share with the same first class, in percent. `skipped`: (file, reason).

    `differing`: the images to which float and fixed give different first classes.
    """

    count: int
    float_accuracy: Accuracy
    fixed_accuracy: Accuracy
    agreement_top1: float
    skipped: tuple[tuple[str, str], ...] = ()
    differing: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, object]:
        """{"count", "float": {"top1", "top5"}, "fixed": {...}, "agreement_top1", "skipped": [{"file", "reason"}]}, percent."""
        return {
            "count": self.count,
            "float": {"top1": self.float_accuracy.top1, "top5": self.float_accuracy.top5},
            "fixed": {"top1": self.fixed_accuracy.top1, "top5": self.fixed_accuracy.top5},
            "agreement_top1": self.agreement_top1,
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
        }


@dataclass(frozen=True)
class LayerSqnr:
    """One layer's fixed-point tensor against the float one: signal over error power in dB, and the share of values at a limit that the float ones pass."""

    name: str
    kind: str
    sqnr_db: float
    fmt: TensorFormat
    clipped: float

    def to_json(self) -> dict[str, object]:
        """{"name", "kind", "sqnr_db", "bits", "frac", "signed", "clipped"}."""
        return {
            "name": self.name, "kind": self.kind, "sqnr_db": round(self.sqnr_db, 2), "bits": self.fmt.bits,
            "frac": self.fmt.frac, "signed": self.fmt.signed, "clipped": round(self.clipped, 6),
        }  # fmt: skip


def top_k(scores: NDArray[np.integer] | NDArray[np.floating], k: int) -> Int64:
    """The k best classes of each row, best first; among equal scores the lower class wins. (N, classes) -> (N, k).

    >>> top_k(np.array([[5, 9, 9, 1]]), 3).tolist()
    [[1, 2, 0]]
    """
    if not 1 <= k <= scores.shape[1]:
        raise InputError(f"top-k: 1 to {scores.shape[1]} was expected (the number of classes), got {k}")
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :k], dtype=np.int64)


@dataclass
class Tally:
    """Counts of hits while the images go by; those of several processes add up. `skipped`: (file, reason)."""

    count: int = 0
    agree: int = 0
    float_hits: list[int] = field(default_factory=lambda: [0, 0])
    fixed_hits: list[int] = field(default_factory=lambda: [0, 0])
    skipped: list[tuple[str, str]] = field(default_factory=list)
    differing: list[Path] = field(default_factory=list)

    def add(self, files: Sequence[Path], float_scores: NDArray[np.floating], fixed_sums: Int64, labels: Int64) -> None:
        k = min(5, fixed_sums.shape[1])
        ranked = top_k(float_scores, k), top_k(fixed_sums, k)
        for hits, classes in zip((self.float_hits, self.fixed_hits), ranked, strict=True):
            hits[0] += int((classes[:, 0] == labels).sum())
            hits[1] += int((classes == labels[:, None]).any(axis=1).sum())
        same = ranked[0][:, 0] == ranked[1][:, 0]
        self.agree += int(same.sum())
        self.differing += [file for file, equal in zip(files, same, strict=True) if not equal]
        self.count += len(labels)

    def result(self) -> EvaluationResult:
        """The counts in percent. Raises InputError when no image could be read."""
        if self.count == 0:
            raise InputError(f"evaluation: none of the {len(self.skipped)} images could be read; the first: {self.skipped[0][0]}: {self.skipped[0][1]}")
        accuracies = [Accuracy(self._percent(hits[0]), self._percent(hits[1])) for hits in (self.float_hits, self.fixed_hits)]
        return EvaluationResult(self.count, accuracies[0], accuracies[1], self._percent(self.agree), tuple(self.skipped), tuple(self.differing))

    def _percent(self, hits: int) -> float:
        return round(100.0 * hits / self.count, 4)


def merge(parts: Sequence[Tally]) -> Tally:
    """The tally of all images from those of disjoint parts; skipped files in the order of their names."""
    total = Tally(sum(p.count for p in parts), sum(p.agree for p in parts))
    for part in parts:
        total.float_hits = [a + b for a, b in zip(total.float_hits, part.float_hits, strict=True)]
        total.fixed_hits = [a + b for a, b in zip(total.fixed_hits, part.fixed_hits, strict=True)]
    total.differing = sorted(f for p in parts for f in p.differing) if len(parts) > 1 else parts[0].differing
    total.skipped = sorted(s for p in parts for s in p.skipped) if len(parts) > 1 else parts[0].skipped
    return total


def evaluate(
    graph: Graph, qgraph: QuantGraph, preprocess: Preprocess, samples: Sequence[tuple[Path, int]], progress: Progress | None = None
) -> EvaluationResult:
    """Top-1, top-5 and agreement over labelled images, eight decoded at a time.

    Args:
        graph: the lowered float graph (raw pixels). `samples`: (image file, class index). Damaged images are skipped and named in the result.
    Raises:
        InputError: no samples, or none readable.
    """
    if not samples:
        raise InputError("evaluation: labelled images were expected, got none")
    return count_hits(graph, qgraph, preprocess, samples, progress).result()


def count_hits(
    graph: Graph, qgraph: QuantGraph, preprocess: Preprocess, samples: Sequence[tuple[Path, int]], progress: Progress | None = None
) -> Tally:
    """The counts behind `evaluate`, of one process's share of the samples, which may be empty."""
    model, simulator = FloatModel(graph), FastSimulator(qgraph)
    tally = Tally()
    for start in range(0, len(samples), BATCH):
        files, pixels, labels = _decode(samples[start : start + BATCH], preprocess, tally.skipped)
        if len(labels):
            scores = model.run(torch.from_numpy(pixels.astype(np.float32))).numpy()
            tally.add(files, scores, simulator.run(pixels), labels)
        if progress is not None:
            progress(min(start + BATCH, len(samples)), len(samples))
    return tally


def _decode(
    samples: Sequence[tuple[Path, int]], preprocess: Preprocess, skipped: list[tuple[str, str]]
) -> tuple[list[Path], NDArray[np.uint8], Int64]:
    files, pixels, labels = [], [], []
    for file, label in samples:
        try:
            pixels.append(load_files((file,), preprocess).pixels[0])
            labels.append(label)
            files.append(file)
        except InputError as error:
            skipped.append((file.name, str(error)))
    return files, np.stack(pixels) if pixels else np.empty(0, dtype=np.uint8), np.array(labels, dtype=np.int64)


def layer_sqnr(graph: Graph, qgraph: QuantGraph, pixels: NDArray[np.uint8]) -> tuple[LayerSqnr, ...]:
    """Every layer but the image: signal-to-quantization-noise ratio against the float graph over `pixels`, uint8 (N, C, H, W)."""
    model, simulator = FloatModel(graph), FastSimulator(qgraph)
    signal = {n.name: 0.0 for n in qgraph.nodes[1:]}
    noise, clipped, sizes = dict(signal), dict(signal), dict(signal)
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH]
        expected = model.trace(torch.from_numpy(part.astype(np.float32)))
        got = simulator.trace(part)
        for n in qgraph.nodes[1:]:
            wanted = expected[n.name].numpy().astype(np.float64)
            if isinstance(n.op, QGlobalSum):
                _, h, w = qgraph[n.inputs[0]].shape
                wanted *= h * w
            signal[n.name] += float((wanted**2).sum())
            noise[n.name] += float(((got[n.name] * n.fmt.scale - wanted) ** 2).sum())
            limits = n.fmt.qmin * n.fmt.scale, n.fmt.qmax * n.fmt.scale
            clipped[n.name] += float(((wanted < limits[0]) | (wanted > limits[1])).sum())
            sizes[n.name] += wanted.size
    return tuple(
        LayerSqnr(n.name, type(n.op).__name__.removeprefix("Q"), _decibels(signal[n.name], noise[n.name]), n.fmt, clipped[n.name] / max(sizes[n.name], 1.0))
        for n in qgraph.nodes[1:]
    )


def _decibels(signal: float, noise: float) -> float:
    if noise <= 0.0:
        return SQNR_CEILING_DB
    return 10.0 * log10(signal / noise) if signal > 0.0 else 0.0
