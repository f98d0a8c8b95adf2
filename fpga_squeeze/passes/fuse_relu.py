"""Moves each ReLU into the Conv or Add that makes the values; max pooling and concatenation commute with it."""

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
    op = replacements.get(source.name, source.op)
    if isinstance(op, Relu) or (isinstance(op, (Conv, Add)) and op.relu):
        return  # rectified already
    readers = graph.consumers(source.name)
    if graph.output == source.name or any(not isinstance(r.op, Relu) and r is not relu and not _reaches(graph, r, relu) for r in readers):
        raise InputError(f"layer {relu.name}: {source.name} is also read without the ReLU, which the hardware cannot do")
    if isinstance(op, (Conv, Add)):
        replacements[source.name] = replace(op, relu=True)
    elif isinstance(op, (MaxPool, Concat)):
        for name in source.inputs:
            _rectify(graph, relu, graph[name], replacements)
    else:
        raise InputError(f"layer {relu.name}: ReLU after {source.name} ({type(op).__name__}) is not supported; it may follow Conv, Add, MaxPool or Concat")


def _reaches(graph: Graph, node: Node, relu: Node) -> bool:
    """Whether everything `node` yields passes through `relu`, over max pools and concatenations only."""
    if not isinstance(node.op, (MaxPool, Concat)) or graph.output == node.name:
        return False
    return all(r is relu or isinstance(r.op, Relu) or _reaches(graph, r, relu) for r in graph.consumers(node.name))
