"""How much the answer suffers when one tensor of activations gets fewer or more bits, and what a bit of it takes on chip.

On chip activations lie in line buffers (and FIFOs, which hardly count), so a bit of a tensor with few channels and large maps is cheap, and in SqueezeNets just
those tensors, the squeezes, decide how exact the machine is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpga_squeeze.ir import F64, Conv, Graph, MaxPool
from fpga_squeeze.quantize.answer_ranges import AnswerSearch, free_groups
from fpga_squeeze.quantize.calibrate import Calibration
from fpga_squeeze.quantize.formats import choose_formats

ACT_WIDTHS = (5, 6, 7, 8, 9, 10)
"""Bits that a tensor may get. Beyond 8 a multiplier block no longer holds two multiplications."""


@dataclass(frozen=True, eq=False)
class ActivationSensitivity:
    """`tensors`: the first layer of each format whose bits are free. `costs` (tensors, len(ACT_WIDTHS)) float64: the divergence, in nats, of that format alone;
    `values`: how many of its values buffers hold at a time."""

    tensors: tuple[str, ...]
    costs: F64
    values: tuple[int, ...]


def measure_activations(calibration: Calibration, act_bits: int, report: Callable[[int, int], None] | None = None) -> ActivationSensitivity:
    """Every free format rounded at every width, the rest in floating point, on up to 32 of the calibration images. `report`: called with (done, total)."""
    graph = calibration.graph
    formats = choose_formats(graph, calibration.stats, act_bits, fracs=calibration.fracs if calibration.act_bits == act_bits else {})
    search = AnswerSearch(graph, calibration.pixels)
    groups = free_groups(graph)
    costs = np.zeros((len(groups), len(ACT_WIDTHS)))
    for i, names in enumerate(groups):
        fmt = formats[names[0]]
        for j, bits in enumerate(ACT_WIDTHS):
            limits = (-(2.0 ** (bits - 1)) if fmt.signed else 0.0, 2.0 ** (bits - fmt.signed) - 1)
            costs[i, j] = float(f"{max(search.divergence(search.made(names), fmt.scale * 2.0 ** (fmt.bits - bits), limits), 0.0):.4g}")
        if report is not None:
            report(i + 1, len(groups))
    return ActivationSensitivity(tuple(names[0] for names in groups), costs, tuple(_buffered(graph, names) for names in groups))


def _buffered(graph: Graph, names: list[str]) -> int:
    """Values of the tensors `names` that lie in the buffers of their readers: K + stride rows of a convolution, once for readers of one tensor with one kernel
    (a Fire's expand pair); two pixels of a 1x1 convolution; a row of a pool's results."""
    buffers: dict[tuple[str, int, int], int] = {}
    for n in graph.nodes:
        if not n.inputs or n.inputs[0] not in names:
            continue
        channels, _, width = graph[n.inputs[0]].shape
        if isinstance(n.op, Conv):
            kernel = int(n.op.weight.shape[2])
            rows = (kernel + n.op.stride) * width if kernel > 1 or n.op.stride > 1 else 2
            buffers[n.inputs[0], kernel, n.op.stride] = rows * channels
        elif isinstance(n.op, MaxPool):
            buffers[n.inputs[0], 0, n.op.stride] = n.shape[2] * channels
    return sum(buffers.values())
