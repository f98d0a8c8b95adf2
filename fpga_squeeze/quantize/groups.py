"""Which tensors must share a number format."""

from __future__ import annotations

from fpga_squeeze.ir import Concat, Graph, MaxPool


def format_groups(graph: Graph) -> dict[str, str]:
    """Maps each node to the first node of its group; a group shares one format.

    Max pooling passes its input's format on, and every input of a Concat has the Concat's own. A global sum is exact and belongs to no group.
    """
    leader = {n.name: n.name for n in graph.nodes}
    position = {n.name: i for i, n in enumerate(graph.nodes)}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for n in graph.nodes:
        if isinstance(n.op, MaxPool | Concat):
            for other in n.inputs:
                first, second = sorted((find(n.name), find(other)), key=position.__getitem__)
                leader[second] = first
    return {name: find(name) for name in leader}
