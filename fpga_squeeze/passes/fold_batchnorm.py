"""Folds BatchNorm into convolutions, in float64: into the one before it, w' = w * scale[oc], b' = b * scale + offset; or, where it scales the image
(preprocessing inside a model's graph), into the ones behind it, w' = w * scale[ic], b' = b + sum over ic and the kernel of w * offset.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import F64, BatchNorm, Conv, Graph, Node, Op, replace, rewrite
from fpga_squeeze.passes.diagonal import diagonal


def fold_batchnorm(graph: Graph) -> Graph:
    """A BatchNorm that neither directly follows a convolution of its own nor stands between the image and convolutions becomes a convolution
    (passes/diagonal.py)."""
    replacements: dict[str, Op] = {}
    removed: dict[str, str] = {}
    scaled: dict[str, tuple[F64, F64]] = {}
    for n in graph.nodes:
        if isinstance(n.op, Conv) and n.inputs[0] in scaled:
            replacements[n.name] = _behind(n, n.op, *scaled[n.inputs[0]])
        if not isinstance(n.op, BatchNorm):
            continue
        if n.inputs[0] in scaled or n.inputs[0] == graph.input.name:
            scale, offset = scaled.get(n.inputs[0], (np.ones(n.shape[0]), np.zeros(n.shape[0])))
            scaled[n.name] = (scale * n.op.scale, offset * n.op.scale + n.op.offset)
            if any(not isinstance(r.op, Conv | BatchNorm) for r in graph.consumers(n.name)) or graph.output == n.name:
                del scaled[n.name]
                replacements[n.name] = diagonal(n.shape[0], scale * n.op.scale, offset * n.op.scale + n.op.offset)
            else:
                removed[n.name] = n.inputs[0]
            continue
        source = n.inputs[0]
        while source in removed:
            source = removed[source]
        before = replacements.get(source, graph[source].op)
        alone = len(graph.consumers(n.inputs[0])) == 1 and graph.output != n.inputs[0]
        if not isinstance(before, Conv) or before.relu or not alone:
            replacements[n.name] = diagonal(n.shape[0], n.op.scale, n.op.offset)
            continue
        weight = before.weight * n.op.scale[:, None, None, None]
        replacements[source] = replace(before, weight=weight, bias=before.bias * n.op.scale + n.op.offset)
        removed[n.name] = n.inputs[0]
    return rewrite(graph, replacements, removed)


def _behind(node: Node, conv: Conv, scale: F64, offset: F64) -> Conv:
    """The convolution of the unscaled image: its padding becomes what the scaling maps to the value that it pads with."""
    weight = conv.weight * scale[None, :, None, None]
    bias = conv.bias + (conv.weight.sum(axis=(2, 3)) * offset).sum(axis=1)
    if not any(conv.padding):
        return replace(conv, weight=weight, bias=bias, pad_value=None)
    if not scale.all():
        raise InputError(f"layer {node.name}: a channel of its input is scaled by 0 and then padded; no pixel value stands for the padding")
    pads = np.zeros_like(scale) if conv.pad_value is None else np.array(conv.pad_value)
    return replace(conv, weight=weight, bias=bias, pad_value=tuple(float(v) for v in (pads - offset) / scale))
