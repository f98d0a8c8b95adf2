"""histograms.json: how weights and activations are spread, and where the chosen formats end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.quantize.stats import BINS, TensorStats
from fpga_squeeze.simulate.float_model import FloatModel

SHOWN_BINS = 64
OBSERVED_IMAGES = 4
"""Images on which ranges are observed where calibration left no statistics."""


def histograms_json(graph: Graph, qgraph: QuantGraph, stats: dict[str, TensorStats], images: int, random: bool = False) -> dict[str, Any]:
    """The content of histograms.json.

    {"images", "random", "bins", "layers": [{"name", "kind", "weights": {...} or null, "activations": {...}}]}. `weights`: float weights in units of each
    channel's own largest integer range, so that the format holds -1 to 1 (less a step); `activations`: real values, of which the format holds `format_low`
    to `format_high`. Both: {"low", "high", "counts", "format_low", "format_high", "clipped"}; `clipped` is the share that lies outside.

    Args:
        graph: the equalized float graph. `stats`: of its tensors by node name, over `images` images. `random`: they are noise.
    """
    layers = []
    for n in qgraph.nodes[1:]:
        source = graph[n.name].op
        weights = _weights(source, n.op) if isinstance(source, Conv) and isinstance(n.op, QConv) else None
        known = stats.get(n.name)
        limits = n.fmt.qmin * n.fmt.scale, n.fmt.qmax * n.fmt.scale
        # The class sums are exact integers: nothing is rounded or clipped there.
        activations = _activations(known, limits) if known is not None and n.name != qgraph.output else None
        layers.append({"name": n.name, "kind": type(n.op).__name__.removeprefix("Q"), "weights": weights, "activations": activations})
    return {"images": images, "random": random, "bins": SHOWN_BINS, "layers": layers}


def observe(graph: Graph, pixels: NDArray[np.uint8]) -> dict[str, TensorStats]:
    """Statistics of every tensor of `graph` over uint8 images (N, C, H, W), for models whose formats were not chosen by calibration."""
    values = FloatModel(graph).trace(torch.from_numpy(pixels[:OBSERVED_IMAGES].astype(np.float32)))
    found = {}
    for name, x in values.items():
        low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
        counts, _ = np.histogram(x.numpy(), bins=BINS, range=(low, high) if high > low else (low, low + 1.0))
        found[name] = TensorStats(low, high, counts.astype(np.int64))
    return found


def _weights(op: Conv, q: QConv) -> dict[str, Any]:
    span = 2.0 ** (q.weight_bits - 1)
    scaled = op.weight * np.exp2(q.weight_frac.astype(np.float64))[:, None, None, None] / span
    high = 1.0 - 1.0 / span
    # Half a step beyond the last integer still rounds to it.
    clipped = float(((scaled > high + 0.5 / span) | (scaled < -1.0 - 0.5 / span)).mean())
    reach = max(1.0, float(np.ceil(np.abs(scaled).max() * 4.0) / 4.0))
    counts, _ = np.histogram(scaled, bins=SHOWN_BINS, range=(-reach, reach))
    return {"low": -reach, "high": reach, "counts": counts.tolist(), "format_low": -1.0, "format_high": high, "clipped": round(clipped, 6)}


def _activations(stats: TensorStats, limits: tuple[float, float]) -> dict[str, Any]:
    counts = stats.counts.reshape(SHOWN_BINS, BINS // SHOWN_BINS).sum(axis=1)
    outside = (stats.centers < limits[0]) | (stats.centers > limits[1])
    clipped = float(stats.counts[outside].sum() / max(1, stats.counts.sum()))
    return {
        "low": round(stats.low, 6), "high": round(stats.high, 6), "counts": counts.tolist(), "format_low": round(limits[0], 6),
        "format_high": round(limits[1], 6), "clipped": round(clipped, 6),
    }  # fmt: skip
