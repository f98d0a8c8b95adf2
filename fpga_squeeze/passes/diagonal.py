"""What the machine has only as a part of a convolution, on its own: a 1x1 convolution with a diagonal of weights stands for it.

A batch normalization that follows no convolution of its own, a ReLU on values that are also read without it (pre-activation residual networks), a pool or an
addition that reads the image, a rectified operand beside one that is not in a Concat (they share one format, and rectification is the format being
unsigned). It takes C x C multiplications a pixel, all but C of them by zero; such layers are few, and networks that have them are then machines like others.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.ir import F64, Add, Concat, Conv, Graph, GraphBuilder, Input, Relu


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
    """The same function in which the operands of a Concat are all rectified or none is: a rectified one beside others gets a copy without a sign."""
    builder = GraphBuilder()
    rectified: dict[str, bool] = {}
    for n in graph.nodes:
        inputs = n.inputs
        if isinstance(n.op, Conv | Add):
            rectified[n.name] = n.op.relu or (isinstance(n.op, Add) and all(rectified[i] for i in inputs))
        elif isinstance(n.op, Concat) and len({rectified[i] for i in inputs}) == 2:
            copies = []
            for i in inputs:
                name = i
                if rectified[i]:
                    name = _unused(f"{n.name}.{i}", graph)
                    builder.add(name, diagonal(graph[i].shape[0]), (i,))
                copies.append(name)
            inputs = tuple(copies)
            rectified[n.name] = False
        else:
            rectified[n.name] = isinstance(n.op, Input | Relu) or all(rectified[i] for i in inputs)
        builder.add(n.name, n.op, inputs)
    return builder.build(graph.output)


def _unused(name: str, graph: Graph) -> str:
    while name in graph.by_name:
        name += "_"
    return name
