"""The float network and the machine on the same labelled images, image by image: what is lost, and how sure that is.

Two percentages of a few hundred images differ by chance more than quantization makes them differ. Image by image they hardly do: most images are right
in both or wrong in both, and only the others say anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.ir import F64, Graph
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.evaluate import top_k
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

BATCH = 8
Z95 = 1.96


@dataclass(frozen=True, eq=False)
class Paired:
    """One row an image: whether the true class is first, and among the first five, of the float network and of the machine, bool (N,); `same`: both name the
    same first class."""

    real_top1: NDArray[np.bool_]
    real_top5: NDArray[np.bool_]
    fixed_top1: NDArray[np.bool_]
    fixed_top5: NDArray[np.bool_]
    same: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Images."""
        return len(self.same)

    @property
    def lost(self) -> float:
        """Points of top-1 that the machine loses; negative: gains."""
        return 100.0 * float(self.real_top1.mean() - self.fixed_top1.mean())

    @property
    def margin(self) -> float:
        """Half the 95% interval of `lost`: 1.96 standard errors of the paired difference."""
        difference = 100.0 * (self.real_top1.astype(np.float64) - self.fixed_top1)
        return Z95 * float(difference.std(ddof=1)) / float(np.sqrt(self.count)) if self.count > 1 else 100.0

    @property
    def agreement(self) -> float:
        """Percent of images on which both name the same class."""
        return 100.0 * float(self.same.mean())

    def to_json(self) -> dict[str, object]:
        """{"count", "float": {"top1", "top5"}, "fixed": {...}, "agreement", "lost", "margin95"}, percent and points."""

        def share(hits: NDArray[np.bool_]) -> float:
            return round(100.0 * float(hits.mean()), 2)

        return {
            "count": self.count,
            "float": {"top1": share(self.real_top1), "top5": share(self.real_top5)},
            "fixed": {"top1": share(self.fixed_top1), "top5": share(self.fixed_top5)},
            "agreement": round(self.agreement, 2), "lost": round(self.lost, 2), "margin95": round(self.margin, 2),
        }  # fmt: skip


def pooled(parts: list[Paired]) -> Paired:
    """Several sets of images as one."""
    return Paired(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("real_top1", "real_top5", "fixed_top1", "fixed_top5", "same")))


def float_scores(graph: Graph, pixels: NDArray[np.uint8]) -> F64:
    """Class scores of a lowered float network: uint8 (N, C, H, W) -> float64 (N, classes)."""
    model = FloatModel(graph)
    parts = [model.run(torch.from_numpy(pixels[i : i + BATCH].astype(np.float32))).flatten(1).numpy() for i in range(0, len(pixels), BATCH)]
    return np.concatenate(parts).astype(np.float64)


def compare(scores: F64, qgraph: QuantGraph, pixels: NDArray[np.uint8], truth: Int64) -> Paired:
    """The machine against the float network's `scores` (N, classes) on images of the classes `truth` (N,)."""
    five = min(5, scores.shape[1])
    real, fixed = top_k(scores, five), top_k(FastSimulator(qgraph).run(pixels), five)
    hit = [r == truth[:, None] for r in (real, fixed)]
    return Paired(hit[0][:, 0], hit[0].any(1), hit[1][:, 0], hit[1].any(1), real[:, 0] == fixed[:, 0])
