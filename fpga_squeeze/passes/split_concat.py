"""Splits each Concat of three or more tensors into Concats of two: a join in hardware takes two (hardware/branches.py)."""

from __future__ import annotations

from fpga_squeeze.ir import Concat, Conv, Graph, GraphBuilder, MaxPool, Node


def split_concat(graph: Graph) -> Graph:
    """The same channels in the same order. The first pair holds the operand that comes last, and neighbours are put to it one by one: so all others can be
    bypasses of the branch that makes it. New layers are called after the Concat: cat.join1, cat.join2, ..., cat."""
    if all(len(n.inputs) == 2 for n in graph.nodes if isinstance(n.op, Concat)):
        return graph
    taken = {n.name for n in graph.nodes}
    builder = GraphBuilder()
    for n in graph.nodes:
        inputs = n.inputs
        if isinstance(n.op, Concat):
            at = max(range(len(inputs)), key=lambda i: _lateness(graph, n, inputs[i]))
            first, last = at, at + 1
            joined = inputs[at]
            while last - first < len(inputs):
                behind = last < len(inputs)
                pair = (joined, inputs[last]) if behind else (inputs[first - 1], joined)
                first, last = (first, last + 1) if behind else (first - 1, last)
                if last - first == len(inputs):
                    inputs = pair
                    break
                joined = builder.add(_unused(f"{n.name}.join{last - first - 1}", taken), Concat(), pair)
        builder.add(n.name, n.op, inputs)
    return builder.build(graph.output)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _lateness(graph: Graph, concat: Node, operand: str) -> tuple[int, int]:
    """A key that is largest for the operand that comes last: a branch that holds more than convolutions and pools; then the chain from the tensor where it
    began that looks the most rows ahead; then, of tensors that others read too, the last one of the graph."""
    position = {n.name: i for i, n in enumerate(graph.nodes)}
    if graph.consumers(operand) != (concat,):
        return 0, position[operand]
    ahead, name = 0, operand
    while isinstance(op := graph[name].op, Conv | MaxPool):
        kernel = op.weight.shape[2] if isinstance(op, Conv) else op.kernel
        ahead = ahead * op.stride + kernel - 1 - op.padding[0]
        name = graph[name].inputs[0]
        if len(graph.consumers(name)) > 1:
            return 1, ahead
    return 2, position[operand]
