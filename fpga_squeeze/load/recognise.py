"""Finds out whether an imported graph is a member of the family, so that it gets the same layer names (and bytes) as its state dict would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, Graph, Identity, MaxPool, Node, Op
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
    convs = [op for n in _from_output(graph) if isinstance(op := n.op, Conv)]
    pools = [op for n in graph.nodes if isinstance(op := n.op, MaxPool)]
    for arch in ARCHS:
        shapes = conv_shapes(arch)
        if len(shapes) != len(convs) or any(s.weight[2:] != c.weight.shape[2:] for s, c in zip(shapes, convs, strict=True)):
            continue
        weights = {s.name: ConvWeights(c.weight, c.bias) for s, c in zip(shapes, convs, strict=True)}
        for ceil_mode in (any(any(p.padding) for p in pools), arch.ceil_mode):
            try:
                built = build_graph(arch, weights, graph.input.shape[1], ceil_mode, convs[-1].padding[0])
            except (InputError, KeyError, ValueError):
                continue
            names = _match(graph, built)
            if names is not None:
                return Member(arch, built, names)
    return None


def _from_output(graph: Graph) -> list[Node]:
    """Nodes as met from the output, inputs first and in order: the same for every file order of one network."""
    order: list[Node] = []
    seen: set[str] = set()
    stack = [(graph.output, False)]
    while stack:
        name, ready = stack.pop()
        if ready:
            order.append(graph[name])
        elif name not in seen:
            seen.add(name)
            stack.append((name, True))
            stack.extend((i, False) for i in reversed(graph[name].inputs))
    return order


def _match(graph: Graph, built: Graph) -> dict[str, str] | None:
    """Imported name -> built name when both are the same network, else None."""
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
        stack += [(_skip(graph, i), _skip(built, j)) for i, j in zip(x.inputs, y.inputs, strict=True)]
    real = sum(not isinstance(n.op, Identity) for n in built.nodes)
    return names if len(set(names.values())) == len(names) == real == sum(not isinstance(n.op, Identity) for n in graph.nodes) else None


def _skip(graph: Graph, name: str) -> str:
    while isinstance(graph[name].op, Identity):
        name = graph[name].inputs[0]
    return name


def _same(a: Op, b: Op) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Conv) and isinstance(b, Conv):
        plain = (a.stride, a.padding, a.relu, a.pad_value) == (b.stride, b.padding, b.relu, b.pad_value)
        return plain and np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)
    return a == b
