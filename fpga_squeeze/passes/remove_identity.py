"""Drops what does nothing at inference: dropout, flatten of a 1 x 1 map."""

from __future__ import annotations

from fpga_squeeze.ir import Graph, Identity, rewrite


def remove_identity(graph: Graph) -> Graph:
    """Every reader of an Identity reads its input instead."""
    return rewrite(graph, {}, {n.name: n.inputs[0] for n in graph.nodes if isinstance(n.op, Identity)})
