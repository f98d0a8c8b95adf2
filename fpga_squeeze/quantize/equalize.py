"""Channel equalization: an exact rescaling of the float network after which every channel fills its tensor's range.

ReLU, max pooling, concatenation and addition commute with positive factors, so a channel may be multiplied by s where it is made and its
readers' weights divided by s: the function stays the same, but one power-of-two format then fits all channels of the tensor (Nagel et al.,
Data-Free Quantization, 2019). What is never rescaled: the image and the tensor that becomes the class scores.

ReLU6 and the like commute with a factor too, once their cap is multiplied by it. The machine has no cap but the largest integer of a format, so the
factor of a capped tensor is chosen such that the cap is that integer's value: saturation then is the cap, exactly (`cap_factor`).
"""

from __future__ import annotations

from math import log2

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import F64, Add, Concat, Conv, GlobalAveragePool, Graph, MaxPool, Op, replace, rewrite
from fpga_squeeze.quantize.groups import format_groups

STRENGTH = 0.5
RATIO_LIMIT = 16.0


def rescale(graph: Graph, scales: dict[str, F64]) -> Graph:
    """The same function with channel c of node n multiplied by scales[n][c], as `channel_scales` gives them."""
    replacements: dict[str, Op] = {}
    for n in graph.nodes:
        if isinstance(n.op, Conv):
            made, read = scales[n.name], scales[n.inputs[0]]
            weight = n.op.weight * made[:, None, None, None] / read[None, :, None, None]
            replacements[n.name] = replace(n.op, weight=weight, bias=n.op.bias * made, cap=_scaled_cap(n.op.cap, made))
        elif isinstance(n.op, Add):
            replacements[n.name] = replace(n.op, cap=_scaled_cap(n.op.cap, scales[n.name]))
    return rewrite(graph, replacements, {})


def _scaled_cap(cap: float | None, factors: F64) -> float | None:
    """Channels under one cap share one factor (`channel_scales` sees to it)."""
    return None if cap is None else cap * float(factors[0])


def channel_scales(graph: Graph, peaks: dict[str, F64], strength: float = STRENGTH) -> dict[str, F64]:
    """Factor of every channel of every tensor, (C,) by node name, from its typical largest magnitude `peaks`, (C,) by node name.

    A channel with a smaller peak than its group's largest is raised by (largest / peak) ** strength: evening out all of the difference
    would leave the weights that read the channels too uneven.
    """
    channel = tied_channels(graph)
    groups = tied_groups(graph)
    count = 1 + max(int(c.max()) for c in channel.values())
    peak, fixed, group = np.zeros(count), np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
    largest = np.zeros(len(graph.nodes))
    for n in graph.nodes:
        c = channel[n.name]
        np.maximum.at(peak, c, peaks[n.name])
        largest[groups[n.name]] = max(largest[groups[n.name]], float(peaks[n.name].max()))
        group[c] = groups[n.name]
    for g in unscaled_groups(graph):
        fixed |= group == g
    for n in graph.nodes:
        if isinstance(n.op, Conv | Add) and n.op.cap is not None:
            fixed[channel[n.name]] = True  # a cap is one number for all channels
    top = np.where(largest > 0, largest, 1.0)[group]
    raised = np.clip((top / np.where(peak > 0, peak, top)) ** strength, 1.0, RATIO_LIMIT)
    factor = np.where(fixed, 1.0, raised)
    return {name: factor[c] for name, c in channel.items()}


def tied_channels(graph: Graph) -> dict[str, NDArray[np.int64]]:
    """A number for every channel of every node, (C,) by name: channels with the same number must share a factor."""
    numbers: dict[str, NDArray[np.int64]] = {}
    following = 0
    for n in graph.nodes:
        sources = [numbers[i] for i in n.inputs]
        if isinstance(n.op, Concat):
            numbers[n.name] = np.concatenate(sources)
        elif isinstance(n.op, MaxPool | GlobalAveragePool | Add):
            numbers[n.name] = sources[0]
            for a, b in zip(sources[0].tolist(), sources[-1].tolist(), strict=True):
                if a != b:
                    now_a, now_b = numbers[n.name][sources[0] == a][0], b
                    numbers = {k: np.where(v == now_b, now_a, v) for k, v in numbers.items()}
        else:
            numbers[n.name] = np.arange(following, following + n.shape[0])
            following += n.shape[0]
    return numbers


def capped(graph: Graph) -> dict[str, float]:
    """The cap of every node that has one."""
    return {n.name: n.op.cap for n in graph.nodes if isinstance(n.op, Conv | Add) and n.op.cap is not None}


def cap_factor(graph: Graph, names: list[str], bits: int) -> float | None:
    """The factor in [1, 2) that puts the caps among the tensors `names` (one group) on the largest unsigned integer of `bits` bits at some
    power-of-two scale; None without a cap. Raises InputError when two caps cannot both be.

    >>> from fpga_squeeze.ir import GraphBuilder, Input
    >>> b = GraphBuilder()
    >>> x = b.add("image", Input((1, 2, 2)), ())
    >>> g = b.build(b.add("c", Conv(np.ones((1, 1, 1, 1)), np.zeros(1), relu=True, cap=6.0), (x,)))
    >>> cap_factor(g, ["c"], 8) * 6.0, 255 / 2**5
    (7.96875, 7.96875)
    """
    caps = {name: cap for name, cap in capped(graph).items() if name in names}
    factors: dict[str, float] = {name: 2.0 ** (-log2(cap / (2.0**bits - 1)) % 1.0) for name, cap in caps.items()}
    if not factors:
        return None
    first = next(iter(factors))
    for name, factor in factors.items():
        # 1 and 2 are the same factor one scale apart
        if min(abs(factor / factors[first] - r) for r in (0.5, 1.0, 2.0)) > 1e-9:
            raise InputError(f"layers {first} and {name}: their upper limits {caps[first]:g} and {caps[name]:g} meet in one tensor and cannot both be exact")
    return factors[first]


def unscaled_groups(graph: Graph) -> frozenset[int]:
    """Numbers of the groups that keep their scale: the image and whatever the class scores are made of."""
    groups = tied_groups(graph)
    return frozenset((groups[graph.input.name], groups[graph.output]))


def tied_groups(graph: Graph) -> dict[str, int]:
    """A number for every node: format groups, joined where an addition or the global mean ties their channels."""
    position = {n.name: i for i, n in enumerate(graph.nodes)}
    groups = {name: position[leader] for name, leader in format_groups(graph).items()}
    for n in graph.nodes:
        if isinstance(n.op, Add | GlobalAveragePool):
            for name in n.inputs:
                old, new = groups[name], groups[n.name]
                groups = {k: new if g == old else g for k, g in groups.items()}
    return groups
