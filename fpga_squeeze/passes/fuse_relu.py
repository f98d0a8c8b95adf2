"""Moves each ReLU, and its upper limit where it has one, into the Conv or Add that makes the values; max pooling and concatenation commute with it.

Where something reads the values without the ReLU too, or nothing makes them, a convolution of its own rectifies them (passes/diagonal.py).
"""

from __future__ import annotations

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, MaxPool, Node, Op, Relu, replace, rewrite
from fpga_squeeze.passes.diagonal import diagonal


def fuse_relu(graph: Graph) -> Graph:
    """Raises InputError for a ReLU behind the global mean."""
    replacements: dict[str, Op] = {}
    removed: dict[str, str] = {}
    for n in graph.nodes:
        if not isinstance(n.op, Relu):
            continue
        source = graph[n.inputs[0]]
        if isinstance(source.op, GlobalAveragePool):
            raise InputError(f"layer {n.name}: ReLU after {source.name} (GlobalAveragePool) is not supported: the mean is the last thing the machine computes")
        if _fusible(graph, n, source, replacements):
            _rectify(graph, n, source, replacements)
            removed[n.name] = n.inputs[0]
        else:
            replacements[n.name] = diagonal(n.shape[0], relu=True, cap=n.op.cap)
    return rewrite(graph, replacements, removed)


def _done(relu: Node, op: Op) -> bool:
    """Whether the result of `op` is as rectified as `relu` wants it."""
    assert isinstance(relu.op, Relu)
    return relu.op.cap is None and (isinstance(op, Relu) or (isinstance(op, Conv | Add) and op.relu))


def _fusible(graph: Graph, relu: Node, source: Node, replacements: dict[str, Op]) -> bool:
    """Whether all that `relu` rectifies is made by convolutions and additions whose results nothing reads otherwise."""
    op = replacements.get(source.name, source.op)
    if _done(relu, op):
        return True
    if graph.output == source.name or not all(_ends_in(graph, r, relu, replacements) for r in graph.consumers(source.name)):
        return False
    if isinstance(op, Conv | Add):
        return True
    return isinstance(op, MaxPool | Concat | Relu) and all(_fusible(graph, relu, graph[name], replacements) for name in source.inputs)


def _rectify(graph: Graph, relu: Node, source: Node, replacements: dict[str, Op]) -> None:
    assert isinstance(relu.op, Relu)
    op = replacements.get(source.name, source.op)
    if _done(relu, op):
        return
    if isinstance(op, Conv | Add):
        caps = [c for c in (relu.op.cap, op.cap) if c is not None]
        replacements[source.name] = replace(op, relu=True, cap=min(caps, default=None))
        return
    for name in source.inputs:
        _rectify(graph, relu, graph[name], replacements)


def _ends_in(graph: Graph, node: Node, relu: Node, replacements: dict[str, Op]) -> bool:
    """Whether everything `node` yields passes through `relu` or its like, over max pools, concatenations and other ReLUs only."""
    assert isinstance(relu.op, Relu)
    if node is relu or (isinstance(node.op, Relu) and relu.op.cap in (None, node.op.cap)):
        return True
    if not isinstance(node.op, MaxPool | Concat | Relu) or isinstance(replacements.get(node.name), Conv) or graph.output == node.name:
        return False
    return all(_ends_in(graph, r, relu, replacements) for r in graph.consumers(node.name))
