"""Finds out whether an imported graph is a member of the family, so that it gets the same layer names (and bytes) as its state dict would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, BatchNorm, Conv, Graph, Identity, MaxPool, Op
from fpga_squeeze.load.squeezenet import build_graph
from fpga_squeeze.load.state_dict import ConvWeights
from fpga_squeeze.zoo.arch import ARCHS, Arch, conv_shapes


@dataclass(frozen=True, eq=False)
class Member:
    """`graph` equals the imported one, in the family's names and order; `names` maps imported node names to them."""

    arch: Arch
    graph: Graph
    names: dict[str, str]


def recognise(graph: Graph) -> Member | None:
    """The family member that `graph` is, operator by operator, or None."""
    convs = [n for n in graph.nodes if isinstance(n.op, Conv)]
    last = _skip(graph, graph.output)
    while not isinstance(graph[last].op, Conv) and len(graph[last].inputs) == 1:
        last = graph[last].inputs[0]
    head = graph[last].op
    if not isinstance(head, Conv):
        return None
    hanging = any(any(n.op.padding) for n in graph.nodes if isinstance(n.op, MaxPool))
    for arch in ARCHS:
        shapes = conv_shapes(arch, graph.input.shape[0], graph[graph.output].shape[0])
        if len(shapes) != len(convs):
            continue
        blank = {s.name: ConvWeights(np.zeros(s.weight), np.zeros(s.weight[0])) for s in shapes}
        for ceil_mode in sorted({hanging, arch.ceil_mode}):
            try:
                names = _match(graph, build_graph(arch, blank, graph.input.shape[1], ceil_mode, head.padding[0]))
            except InputError:
                continue  # the image is too small for this member
            if names is not None:
                found = {ours: op for theirs, ours in names.items() if isinstance(op := graph[theirs].op, Conv)}
                weights = {name: ConvWeights(op.weight, op.bias) for name, op in found.items()}
                return Member(arch, build_graph(arch, weights, graph.input.shape[1], ceil_mode, head.padding[0]), names)
    return None


def _heights(graph: Graph) -> dict[str, int]:
    """Longest way from the image to each node, in nodes other than Identity."""
    heights: dict[str, int] = {}
    for n in graph.nodes:
        heights[n.name] = max((heights[i] for i in n.inputs), default=0) + (not isinstance(n.op, Identity))
    return heights


def _match(graph: Graph, built: Graph) -> dict[str, str] | None:
    """Imported name -> built name when both are the same network but for the weights, else None."""
    height_a, height_b = _heights(graph), _heights(built)
    theirs, ours = _skip(graph, graph.output), _skip(built, built.output)
    names: dict[str, str] = {}
    stack = [(theirs, ours)]
    while stack:
        a, b = stack.pop()
        if a in names:
            if names[a] != b:
                return None
            continue
        x, y = graph[a], built[b]
        if x.shape != y.shape or len(x.inputs) != len(y.inputs) or not _same(x.op, y.op):
            return None
        names[a] = b
        pairs = [_skip(graph, i) for i in x.inputs], [_skip(built, i) for i in y.inputs]
        if isinstance(x.op, Add):  # in either order: the shorter way first
            pairs = sorted(pairs[0], key=height_a.__getitem__), sorted(pairs[1], key=height_b.__getitem__)
        stack += zip(*pairs, strict=True)
    real = sum(not isinstance(n.op, Identity) for n in built.nodes)
    return names if len(set(names.values())) == len(names) == real == sum(not isinstance(n.op, Identity) for n in graph.nodes) else None


def _skip(graph: Graph, name: str) -> str:
    while isinstance(graph[name].op, Identity):
        name = graph[name].inputs[0]
    return name


def _same(a: Op, b: Op) -> bool:
    if isinstance(a, Conv) and isinstance(b, Conv):
        same_window = (a.stride, a.padding, a.relu, a.pad_value, a.cap) == (b.stride, b.padding, b.relu, b.pad_value, b.cap)
        return same_window and a.weight.shape == b.weight.shape
    return type(a) is type(b) and not isinstance(a, Conv | BatchNorm) and a == b
