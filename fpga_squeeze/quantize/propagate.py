"""Carries the calibration images through the float and the quantized network side by side, one layer at a time.

Each convolution can thus be rounded for the inputs that it will really get. Only tensors that a later layer still reads are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import F64, Conv, GlobalAveragePool, Graph, Input, Node
from fpga_squeeze.quantize.qgraph import QInput, QNode, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import apply_node, node_parameters
from fpga_squeeze.simulate.tensor_ops import pad_channels

IMAGE_LIMIT = 128
TENSOR_BYTES_LIMIT = 500_000_000
COLUMN_LIMIT = 1 << 15
BATCH = 8
LEADING_CLASSES = 20
RIDGE = 0.01
GRADIENT_STEPS = 40
SCORE_CANDIDATES = (0, -1, 1, -2)


@dataclass(frozen=True, eq=False)
class LayerData:
    """A convolution's inputs over the calibration images, patches flattened to IC*K*K.

    `mean_float`, `mean_fixed` (IC*K*K,): mean patch of the float network and of the quantized one, in real units.
    `second_moment` (IC*K*K, IC*K*K): covariance of the quantized network's patches. `cross_moment` (IC*K*K, IC*K*K), where asked for: covariance of the
    float network's patches (rows) with the quantized one's (columns).
    """

    mean_float: F64
    mean_fixed: F64
    second_moment: F64
    cross_moment: F64 | None = None

    def corrected_bias(self, op: Conv, weight: F64) -> F64:
        """The bias with which rounded `weight` (real units) on quantized inputs has the float layer's mean output, (OC,)."""
        flat = op.weight.reshape(op.weight.shape[0], -1)
        return np.asarray(op.bias + flat @ self.mean_float - weight.reshape(flat.shape) @ self.mean_fixed, dtype=np.float64)

    def refitted(self, weight: F64, pruned: NDArray[np.bool_] | None = None) -> F64:
        """The weights (OC, IC, K, K), not rounded yet, that on the quantized network's patches come nearest to what `weight` makes of the float network's.

        Least squares, held to `weight` by a ridge of RIDGE times the mean variance: the layers before leave errors in the patches, and what of them shows
        in other channels too is taken back here (Li et al., GPTAQ, 2025). `pruned` weights stay 0. `weight` itself where no cross moment was asked for.
        """
        if self.cross_moment is None:
            return weight
        flat = weight.reshape(weight.shape[0], -1)
        ridge = RIDGE * max(float(np.diag(self.second_moment).mean()), 1e-12)
        moment = self.second_moment + np.eye(len(self.second_moment)) * ridge
        wanted = flat @ self.cross_moment + ridge * flat
        free: F64 = np.ones(flat.shape) if pruned is None else np.asarray(1.0 - pruned.reshape(flat.shape))
        return _least_squares(moment, wanted, flat, free).reshape(weight.shape)


def _least_squares(moment: F64, wanted: F64, start: F64, free: F64) -> F64:
    """Rows w (n,), zero where not `free`, that bring w `moment` to `wanted`: conjugate gradients from `start`, all rows (OC, n) at once.

    Few steps are enough: what they leave are directions in which the inputs hardly vary.
    """
    found = start * free
    left = (wanted - found @ moment) * free
    inverse = free / np.diag(moment)[None, :]
    step = left * inverse
    power = (left * step).sum(1)
    for _ in range(GRADIENT_STEPS):
        bent = step @ moment * free
        curvature = (step * bent).sum(1)
        rate = np.where(curvature > 0, power / np.where(curvature > 0, curvature, 1.0), 0.0)[:, None]
        found = found + rate * step
        left = left - rate * bent
        scaled = left * inverse
        following = (left * scaled).sum(1)
        step = scaled + np.where(power > 0, following / np.where(power > 0, power, 1.0), 0.0)[:, None] * step
        power = following
    return found


class Propagation:
    """The two networks' tensors at the current layer, over at most 128 evenly spaced images (fewer where maps are huge)."""

    def __init__(self, graph: Graph, pixels: NDArray[np.uint8], *, clipped: bool = False) -> None:
        """`clipped`: the float network's tensors end where the formats of the quantized one do.

        A value that its format clips is wrong by more than all rounding, but only in the few images that have it. Least squares and means would bend the next
        layer for their sake, in all images; with both networks clipped alike, they take back only what is wrong everywhere.
        """
        largest = 4 * max(prod(n.shape) for n in graph.nodes)
        count = max(1, min(len(pixels), IMAGE_LIMIT, TENSOR_BYTES_LIMIT // largest))
        chosen = np.linspace(0, len(pixels) - 1, count).round().astype(np.int64)
        self._graph = graph
        self._clipped = clipped
        self._pixels = pixels[chosen]
        self._float: dict[str, torch.Tensor] = {}
        self._fixed: dict[str, torch.Tensor] = {}
        self._nodes: dict[str, QNode] = {}
        self._readers = {n.name: len(graph.consumers(n.name)) for n in graph.nodes}

    def layer_data(self, node: Node, op: Conv, *, cross: bool = False) -> LayerData:
        """Statistics of the patches that convolution `node` reads, `cross`: with the cross moment."""
        source = node.inputs[0]
        fmt = self._nodes[source].fmt
        size = op.weight[0].size
        positions = node.shape[1] * node.shape[2]
        step = max(1, len(self._pixels) * positions // max(COLUMN_LIMIT, 24 * size))
        sum_float, sum_fixed, products = np.zeros(size), np.zeros(size), np.zeros((size, size))
        crossed, seen_float, seen_fixed = np.zeros((size, size)), np.zeros(size), np.zeros(size)
        columns = 0
        for start in range(0, len(self._pixels), BATCH):
            x_float = _patches(op, self._float[source][start : start + BATCH], None)
            x_fixed = _patches(op, self._fixed[source][start : start + BATCH].to(torch.float32), fmt)
            sum_float += x_float.sum((0, 2), dtype=torch.float64).numpy()
            sum_fixed += x_fixed.sum((0, 2), dtype=torch.float64).numpy()
            # Products of integers in float64 are exact, so the covariance does not depend on how many threads add it up.
            sample = x_fixed[:, :, ::step].transpose(0, 1).reshape(size, -1).to(torch.float64)
            products += (sample @ sample.T).numpy()
            if cross:
                sample_float = x_float[:, :, ::step].transpose(0, 1).reshape(size, -1).to(torch.float64)
                crossed += (sample_float @ sample.T).numpy()
                seen_float += sample_float.sum(1).numpy()
                seen_fixed += sample.sum(1).numpy()
            columns += sample.shape[1]
        total = len(self._pixels) * positions
        mean_fixed = sum_fixed * (fmt.scale / total)
        mean_float = sum_float / total
        if not cross:
            return LayerData(mean_float, mean_fixed, products * (fmt.scale**2 / columns) - np.outer(mean_fixed, mean_fixed))
        # Both moments about the means of the very patches they are of: a fit sees the difference of the two.
        seen_float, seen_fixed = seen_float / columns, seen_fixed * (fmt.scale / columns)
        covariance = products * (fmt.scale**2 / columns) - np.outer(seen_fixed, seen_fixed)
        return LayerData(mean_float, mean_fixed, covariance, crossed * (fmt.scale / columns) - np.outer(seen_float, seen_fixed))

    def scores_format(self, node: Node, op: Conv, fmt: TensorFormat) -> TensorFormat:
        """The format near `fmt` with which the means over the map keep closest to the float ones, among the leading classes of each image.

        Rounding averages out over the map while clipping hits the very classes that win, so the error of single values is no guide here.
        """
        parameters = node_parameters(node)
        candidates = [replace(fmt, frac=fmt.frac + i) for i in SCORE_CANDIDATES]
        errors = np.zeros(len(candidates))
        source = self._float[node.inputs[0]]
        with torch.inference_mode():
            for start in range(0, len(self._pixels), BATCH):
                scores = apply_node(node, (source[start : start + BATCH],), parameters).flatten(2)
                leading = scores.mean(2).topk(min(LEADING_CLASSES, scores.shape[1])).indices
                scores = scores.gather(1, leading[:, :, None].expand(-1, -1, scores.shape[2])).to(torch.float64)
                for i, c in enumerate(candidates):
                    fixed = (scores / c.scale).round().clamp(c.qmin, c.qmax) * c.scale
                    errors[i] += float(((fixed - scores).mean(2) ** 2).sum())
        return candidates[int(errors.argmin())]

    def advance(self, node: Node, quantized: QNode) -> None:
        """Run one more layer in both networks and drop what nothing reads any more."""
        self._nodes[node.name] = quantized
        if isinstance(node.op, GlobalAveragePool):
            return
        if isinstance(node.op, Input):
            self._fixed[node.name] = torch.from_numpy(self._pixels)
            self._float[node.name] = self._fixed[node.name].to(torch.float32)
            return
        sources = tuple(QNode(i, QInput(), (), self._nodes[i].shape, self._nodes[i].fmt) for i in dict.fromkeys(node.inputs))
        simulator = FastSimulator(QuantGraph((*sources, quantized), quantized.name))
        parameters = node_parameters(node)
        self._float[node.name] = torch.empty((len(self._pixels), *node.shape))
        self._fixed[node.name] = torch.empty((len(self._pixels), *node.shape), dtype=_storage(quantized.fmt))
        with torch.inference_mode():
            for start in range(0, len(self._pixels), BATCH):
                part = slice(start, start + BATCH)
                self._float[node.name][part] = apply_node(node, tuple(self._float[i][part] for i in node.inputs), parameters)
                self._fixed[node.name][part] = simulator.apply(quantized, tuple(self._fixed[i][part].to(torch.float32) for i in node.inputs))
        if self._clipped:
            fmt = quantized.fmt
            self._float[node.name].clamp_(fmt.qmin * fmt.scale, fmt.qmax * fmt.scale)
        for name in set(node.inputs):
            self._readers[name] -= 1
            if self._readers[name] == 0:
                del self._float[name], self._fixed[name]


def _patches(op: Conv, x: torch.Tensor, fmt: TensorFormat | None) -> torch.Tensor:
    """Windows of (N, C, H, W) as columns (N, C*K*K, positions); padded as the float (fmt None) or the quantized layer pads."""
    pads = torch.tensor(op.pad_value if op.pad_value is not None else (0.0,) * x.shape[1], dtype=torch.float64)
    if fmt is not None:
        pads = torch.round(pads * 2.0**fmt.frac)
    return F.unfold(pad_channels(x, op.padding, pads), op.weight.shape[2], stride=op.stride)


def _storage(fmt: TensorFormat) -> torch.dtype:
    if fmt.bits <= 8:
        return torch.int8 if fmt.signed else torch.uint8
    return torch.int16 if fmt.signed or fmt.bits < 16 else torch.int32
