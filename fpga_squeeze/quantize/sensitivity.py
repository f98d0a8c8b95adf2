"""How much the network's answer suffers when one layer alone gets coarser weights: measured on calibration images, for every layer and width.

The weights are rounded exactly as the export rounds them (scales, error compensation, bias correction); everything else stays in floating point, so
that what is measured is that layer's rounding and not the activations' as well. The measure is the Kullback-Leibler divergence of the class
probabilities from those of the float network: it needs no labels, weighs a class score by what it can change, and is zero for an unchanged answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import F64, Conv, Graph, Input, Node
from fpga_squeeze.quantize.calibrate import Calibration
from fpga_squeeze.quantize.methods import FAST, Methods
from fpga_squeeze.quantize.propagate import LayerData
from fpga_squeeze.quantize.ptq import QuantOptions, quantize, real_weights, rounded
from fpga_squeeze.simulate.float_model import FloatModel, apply_node, node_parameters

WIDTHS = (2, 3, 4, 5, 6, 7, 8)
"""Bits that a weight may take in its memory."""
CODEBOOK_WIDTHS = (2, 3, 4, 5, 6)
"""Of these, widths at which a weight may be the index of one of 2**width integers of 8 bits."""
IMAGE_LIMIT = 48
"""Images measured on, evenly spaced: the error of a layer is an average over thousands of class scores, which few images settle."""
BATCH = 4
DIGITS = 4
"""Significant digits kept: what a different number of threads changes in float32 sums is far below, so that it does not change the choice."""

Progress = Callable[[int, int], None]
"""Called with (done, total) steps."""
Parameters = tuple[torch.Tensor, ...]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """`costs` (layers, widths) float64: the divergence, in nats, that layer `layers[i]` alone causes at `widths[j]` bits."""

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    costs: F64


def widths_of(stored_bits: int, shared: bool) -> tuple[int, int]:
    """(bits of the integers, index bits of their codebook or 0) of weights that take `stored_bits` each; `shared`: codebooks where there may be one.

    >>> widths_of(4, shared=True), widths_of(8, shared=True), widths_of(4, shared=False)
    ((8, 4), (8, 0), (4, 0))
    """
    return (WIDTHS[-1], stored_bits) if shared and stored_bits in CODEBOOK_WIDTHS else (stored_bits, 0)


def measure(
    graph: Graph, calibration: Calibration, act_bits: int, progress: Progress | None = None, *, methods: Methods = FAST, shared: bool = False
) -> Sensitivity:  # fmt: skip
    """The sensitivity of every convolution at every width of WIDTHS.

    Args:
        graph: lowered, the one calibrated. `act_bits`: activation bits of the export, which the scales of the weights depend on. `methods`: of the export.
        shared: weights of few bits are indices of a codebook (`widths_of`).
    Raises:
        InputError: as `quantize`.
    """
    candidates: dict[str, list[Parameters]] = {}

    def collect(node: Node, op: Conv, formats: tuple[TensorFormat, TensorFormat], data: LayerData) -> None:
        candidates[node.name] = [_coarse(op, formats, widths_of(bits, shared), data, methods) for bits in WIDTHS]

    # Bits are compared by a layer's error against the whole float network, clipped nowhere.
    quantize(graph, calibration, QuantOptions(act_bits=act_bits, methods=replace(methods, clipped_reference=False)), collect)
    chosen = np.linspace(0, len(calibration.pixels) - 1, min(IMAGE_LIMIT, len(calibration.pixels))).round().astype(np.int64)
    pixels = calibration.pixels[chosen]
    totals = {name: np.zeros(len(WIDTHS)) for name in candidates}
    batches = -(-len(pixels) // BATCH)
    for done, start in enumerate(range(0, len(pixels), BATCH)):
        x = torch.from_numpy(pixels[start : start + BATCH].astype(np.float32))
        for at, (name, errors) in enumerate(_divergences(calibration.graph, x, candidates)):
            totals[name] += errors
            if progress is not None:
                progress(done * len(candidates) + at + 1, batches * len(candidates))
    costs = np.stack([_significant(total / len(pixels)) for total in totals.values()])
    return Sensitivity(tuple(candidates), WIDTHS, costs)


def _coarse(op: Conv, formats: tuple[TensorFormat, TensorFormat], widths: tuple[int, int], data: LayerData, methods: Methods) -> Parameters:
    """Float32 weight and bias of the convolution rounded to `widths`, corrected for float inputs: its own error, not that of the layers before it."""
    frac, weight = rounded(op, formats, widths, data, replace(methods, refit=False))
    real = real_weights(weight, frac)
    flat = (op.weight - real).reshape(len(op.bias), -1)
    return torch.from_numpy(real.astype(np.float32)), torch.from_numpy((op.bias + flat @ data.mean_float).astype(np.float32))


def _divergences(graph: Graph, x: torch.Tensor, candidates: dict[str, list[Parameters]]) -> Iterator[tuple[str, F64]]:
    """For every layer in turn its divergence at every width, (widths,), summed over the images x (N, C, H, W).

    Only what follows a layer is computed again, all widths as one batch.
    """
    values = FloatModel(graph).trace(x)
    parameters = {n.name: node_parameters(n) for n in graph.nodes}
    expected = torch.log_softmax(values[graph.output].flatten(1).to(torch.float64), 1)
    for name, coarse in candidates.items():
        with torch.inference_mode():
            node = graph[name]
            changed = {name: torch.cat([apply_node(node, (values[node.inputs[0]],), p) for p in coarse])}
            for n in graph.nodes:
                if isinstance(n.op, Input) or not any(i in changed for i in n.inputs):
                    continue
                inputs = tuple(changed[i] if i in changed else values[i].repeat(len(coarse), 1, 1, 1) for i in n.inputs)
                changed[n.name] = apply_node(n, inputs, parameters[n.name])
            got = torch.log_softmax(changed[graph.output].flatten(1).to(torch.float64), 1).reshape(len(coarse), *expected.shape)
            yield name, np.asarray((expected.exp() * (expected - got)).sum((1, 2)).numpy(), dtype=np.float64)


def _significant(values: F64) -> F64:
    return np.array([float(f"{max(v, 0.0):.{DIGITS}g}") for v in values])
