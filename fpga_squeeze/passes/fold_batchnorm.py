"""Folds BatchNorm into the convolution before it: w' = w * scale[oc], b' = b * scale + offset, in float64."""

from __future__ import annotations

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import BatchNorm, Conv, Graph, Op, replace, rewrite


def fold_batchnorm(graph: Graph) -> Graph:
    """Raises InputError for a BatchNorm that does not directly follow a convolution of its own."""
    replacements: dict[str, Op] = {}
    removed: dict[str, str] = {}
    for n in graph.nodes:
        if not isinstance(n.op, BatchNorm):
            continue
        source = n.inputs[0]
        while source in removed:
            source = removed[source]
        before = replacements.get(source, graph[source].op)
        alone = len(graph.consumers(n.inputs[0])) == 1 and graph.output != n.inputs[0]
        if not isinstance(before, Conv) or before.relu or not alone:
            kind = type(before).__name__ + (" with ReLU" if isinstance(before, Conv) and before.relu else "")
            reason = f"it follows {source} ({kind})" if alone else f"{source} has other readers"
            raise InputError(f"layer {n.name}: BatchNorm can only be folded into a convolution of its own before the ReLU; {reason}")
        weight = before.weight * n.op.scale[:, None, None, None]
        replacements[source] = replace(before, weight=weight, bias=before.bias * n.op.scale + n.op.offset)
        removed[n.name] = n.inputs[0]
    return rewrite(graph, replacements, removed)
