"""Moves each ReLU, and its upper limit where it has one, into the Conv or Add that makes the values; max pooling and concatenation commute with it."""

from __future__ import annotations

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, Concat, Conv, Graph, MaxPool, Node, Op, Relu, replace, rewrite


def fuse_relu(graph: Graph) -> Graph:
    """Raises InputError for a ReLU on anything else, or on values that are also read without it."""
    replacements: dict[str, Op] = {}
    removed: dict[str, str] = {}
    for n in graph.nodes:
        if isinstance(n.op, Relu):
            _rectify(graph, n, graph[n.inputs[0]], replacements)
            removed[n.name] = n.inputs[0]
    return rewrite(graph, replacements, removed)


def _rectify(graph: Graph, relu: Node, source: Node, replacements: dict[str, Op]) -> None:
    assert isinstance(relu.op, Relu)
    cap = relu.op.cap
    op = replacements.get(source.name, source.op)
    if cap is None and (isinstance(op, Relu) or (isinstance(op, (Conv, Add)) and op.relu)):
        return  # rectified already
    if graph.output == source.name or not all(_ends_in(graph, r, relu) for r in graph.consumers(source.name)):
        raise InputError(f"layer {relu.name}: {source.name} is also read without the ReLU, which the hardware cannot do")
    if isinstance(op, (Conv, Add)):
        caps = [c for c in (cap, op.cap) if c is not None]
        replacements[source.name] = replace(op, relu=True, cap=min(caps, default=None))
    elif isinstance(op, (MaxPool, Concat, Relu)):
        for name in source.inputs:
            _rectify(graph, relu, graph[name], replacements)
    else:
        raise InputError(f"layer {relu.name}: ReLU after {source.name} ({type(op).__name__}) is not supported; it may follow Conv, Add, MaxPool or Concat")


def _ends_in(graph: Graph, node: Node, relu: Node) -> bool:
    """Whether everything `node` yields passes through `relu` or its like, over max pools, concatenations and other ReLUs only."""
    assert isinstance(relu.op, Relu)
    if node is relu or (isinstance(node.op, Relu) and relu.op.cap in (None, node.op.cap)):
        return True
    if not isinstance(node.op, (MaxPool, Concat, Relu)) or graph.output == node.name:
        return False
    return all(_ends_in(graph, r, relu) for r in graph.consumers(node.name))
