"""What the machine has only as a part of a convolution, on its own: a 1x1 convolution with a diagonal of weights stands for it.

A batch normalization that follows no convolution of its own, a ReLU on values that are also read without it (pre-activation residual networks), a pool or an
addition that reads the image; in a Concat, whose operands share one format, a rectified operand beside one that is not (rectification is the format being
unsigned), and operands with different upper limits. It takes C x C multiplications a pixel, all but C of them by zero; such layers are few, and networks that
have them are then machines like others.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.ir import F64, Add, Concat, Conv, Graph, GraphBuilder, Input


def diagonal(channels: int, scale: F64 | None = None, offset: F64 | None = None, *, relu: bool = False, cap: float | None = None) -> Conv:
    """y = x * scale[c] + offset[c], rectified and capped as said: (C, C, 1, 1) weights."""
    weight = np.diag(np.ones(channels) if scale is None else scale)[:, :, None, None]
    return Conv(weight, np.zeros(channels) if offset is None else offset, relu=relu, cap=cap)


def separate_image(graph: Graph) -> Graph:
    """The same function in which nothing but convolutions reads the image: preprocessing can be folded into those only."""
    image = graph.input.name
    if all(isinstance(r.op, Conv) for r in graph.consumers(image)):
        return graph
    builder = GraphBuilder()
    values = _unused(f"{image}.values", graph)
    for n in graph.nodes:
        own = n.inputs if isinstance(n.op, Conv) else tuple(values if i == image else i for i in n.inputs)
        builder.add(n.name, n.op, own)
        if isinstance(n.op, Input):
            builder.add(values, diagonal(n.shape[0]), (image,))
    return builder.build(graph.output)


def even_signs(graph: Graph) -> Graph:
    """The same function in which the operands of a Concat are all rectified or none is, and all have one upper limit: an operand beside others that it
    cannot share a format with gets a copy, without a sign of its own or without the limit."""
    builder = GraphBuilder()
    taken = set(graph.by_name)
    rectified: dict[str, bool] = {}
    caps: dict[str, float | None] = {}

    def copied(concat: str, operand: str, *, relu: bool) -> str:
        name = f"{concat}.{operand}"
        while name in taken:
            name += "_"
        taken.add(name)
        builder.add(name, diagonal(graph[operand].shape[0], relu=relu), (operand,))
        return name

    for n in graph.nodes:
        inputs, limits = n.inputs, {caps[i] for i in n.inputs}
        caps[n.name] = n.op.cap if isinstance(n.op, Conv | Add) else limits.pop() if len(limits) == 1 else None
        if isinstance(n.op, Conv | Add):
            rectified[n.name] = n.op.relu or (isinstance(n.op, Add) and all(rectified[i] for i in inputs))
        else:
            rectified[n.name] = isinstance(n.op, Input) or all(rectified[i] for i in inputs)
        if isinstance(n.op, Concat) and not rectified[n.name] and any(rectified[i] for i in inputs):
            inputs = tuple(copied(n.name, i, relu=False) if rectified[i] else i for i in inputs)
        elif isinstance(n.op, Concat) and len({caps[i] for i in inputs}) > 1:
            inputs = tuple(copied(n.name, i, relu=True) if caps[i] is not None else i for i in inputs)
        builder.add(n.name, n.op, inputs)
    return builder.build(graph.output)


def _unused(name: str, graph: Graph) -> str:
    while name in graph.by_name:
        name += "_"
    return name
