"""Activation formats: which tensors share one, and the power-of-two scale of each by least squared error over the calibration images."""

from __future__ import annotations

from math import floor, log2

import numpy as np

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool
from fpga_squeeze.quantize.calibrate import Calibration, TensorStats
from fpga_squeeze.quantize.groups import format_groups

FRAC_LIMIT = 40
CLIPPING_CANDIDATES = 4


def choose_formats(graph: Graph, calibration: Calibration, act_bits: int) -> dict[str, TensorFormat]:
    """The format of every node but global sums, by name.

    Unsigned where all producers of a group rectify (or add rectified values), signed otherwise. The scale has the least squared error over
    the tensors that arithmetic reads: what a pool drops does not count.
    """
    groups = format_groups(graph)
    members: dict[str, list[str]] = {}
    for n in graph.nodes:
        if not isinstance(n.op, GlobalAveragePool):
            members.setdefault(groups[n.name], []).append(n.name)
    formats: dict[str, TensorFormat] = {}
    for leader, names in members.items():
        if isinstance(graph[leader].op, Input):
            fmt = TensorFormat(8, 0, signed=False)
        else:
            signed = any(_is_signed(graph, name, formats) for name in names)
            read = [name for name in names if _is_read(graph, name)]
            fmt = best_format(tuple(calibration.stats[name] for name in read), act_bits, signed)
        formats.update(dict.fromkeys(names, fmt))
    return formats


def best_format(stats: tuple[TensorStats, ...], bits: int, signed: bool) -> TensorFormat:
    """The format of least squared error, from the finest scale that clips nothing to finer ones that clip more."""
    reach = max(max(s.high / (2.0 ** (bits - signed) - 1), -s.low / 2.0 ** (bits - 1) if signed else 0.0) for s in stats)
    if reach <= 0.0:
        return TensorFormat(bits, 0, signed)
    widest = max(-FRAC_LIMIT, min(FRAC_LIMIT, floor(-log2(reach))))
    candidates = [TensorFormat(bits, min(FRAC_LIMIT, widest + i), signed) for i in range(CLIPPING_CANDIDATES)]
    return min(candidates, key=lambda fmt: sum(squared_error(s, fmt) for s in stats))


def squared_error(stats: TensorStats, fmt: TensorFormat) -> float:
    """Expected squared error of rounding and clamping the tensor: step^2 / 12 in range, x^2 below half a step, (x - limit)^2 beyond a limit."""
    x, step = stats.centers, fmt.scale
    clipped = np.clip(x, fmt.qmin * step, fmt.qmax * step)
    rounding = np.where(np.abs(x) < step / 2, x * x, step * step / 12)
    error = np.where(clipped == x, rounding, (x - clipped) ** 2)
    return float((error * stats.counts).sum())


def _is_signed(graph: Graph, name: str, formats: dict[str, TensorFormat]) -> bool:
    op = graph[name].op
    if isinstance(op, Conv):
        return not op.relu
    if isinstance(op, Add):
        return not op.relu and any(formats[i].signed for i in graph[name].inputs)
    return False


def _is_read(graph: Graph, name: str) -> bool:
    readers = graph.consumers(name)
    return name == graph.output or any(not isinstance(r.op, MaxPool | Concat) for r in readers)
