"""Where float and fixed part: every layer's integer tensor against the float one, on given pictures."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import Graph
from fpga_squeeze.quantize.qgraph import QGlobalSum, QuantGraph
from fpga_squeeze.simulate.evaluate import SQNR_CEILING_DB
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel


@dataclass(frozen=True)
class LayerError:
    """One layer. `sqnr_db`: power of the float tensor over power of the difference. `max_abs_error` in the layer's own units, `max_error_steps` in
    quantization steps, found at `where` (image, channel, y, x); `float_value` and `fixed_value` stand there. `clipped`: share of float values that
    the format cannot reach. `kind`: Conv, MaxPool, Concat, Add or GlobalSum."""

    name: str
    kind: str
    sqnr_db: float
    max_abs_error: float
    max_error_steps: float
    where: tuple[int, int, int, int]
    float_value: float
    fixed_value: float
    clipped: float

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return {
            "name": self.name, "kind": self.kind, "sqnr_db": round(self.sqnr_db, 2), "max_abs_error": self.max_abs_error,
            "max_error_steps": round(self.max_error_steps, 3), "where": list(self.where), "float": self.float_value, "fixed": self.fixed_value,
            "clipped": round(self.clipped, 6),
        }  # fmt: skip


def trace_layers(graph: Graph, qgraph: QuantGraph, pixels: NDArray[np.uint8]) -> tuple[LayerError, ...]:
    """Every layer but the image, in order.

    Args:
        graph: the lowered float graph that `qgraph` stands for (raw pixels). pixels: uint8 (N, C, H, W).
    """
    expected = FloatModel(graph).trace(torch.from_numpy(pixels.astype(np.float32)))
    got = FastSimulator(qgraph).trace(pixels)
    rows = []
    for node in qgraph.nodes[1:]:
        wanted = expected[node.name].numpy().astype(np.float64)
        if isinstance(node.op, QGlobalSum):  # the float graph averages, the machine sums
            _, h, w = qgraph[node.inputs[0]].shape
            wanted = wanted * (h * w)
        wanted = wanted.reshape(got[node.name].shape)
        values = got[node.name].astype(np.float64) * node.fmt.scale
        rows.append(_layer(node.name, type(node.op).__name__.removeprefix("Q"), wanted, values, node.fmt.scale, node.fmt.qmin, node.fmt.qmax))
    return tuple(rows)


def first_below(rows: tuple[LayerError, ...], threshold_db: float) -> LayerError | None:
    """The first layer in stream order whose ratio is below `threshold_db`: where to look for what went wrong."""
    return next((row for row in rows if row.sqnr_db < threshold_db), None)


def _layer(name: str, kind: str, wanted: NDArray[np.float64], values: NDArray[np.float64], scale: float, qmin: int, qmax: int) -> LayerError:
    error = np.abs(values - wanted)
    n, c, y, x = (int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    clipped = float(((wanted < qmin * scale) | (wanted > qmax * scale)).mean())
    worst = float(error[n, c, y, x])
    return LayerError(
        name, kind, _decibels(wanted, values), worst, worst / scale, (n, c, y, x), float(wanted[n, c, y, x]), float(values[n, c, y, x]), clipped
    )


def _decibels(wanted: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    signal, noise = float((wanted**2).sum()), float(((values - wanted) ** 2).sum())
    if noise <= 0.0:
        return SQNR_CEILING_DB
    return 10.0 * log10(signal / noise) if signal > 0.0 else 0.0
