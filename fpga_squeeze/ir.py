"""Float graph: what a front end produces and what passes transform. A DAG of typed operators in topological order.

Tensors are NCHW with N = 1 left out: a shape is (channels, height, width). The graph is immutable; a pass returns a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError

Shape = tuple[int, int, int]
Padding = tuple[int, int, int, int]  # top, left, bottom, right
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """The image: (channels, height, width)."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Conv:
    """Dense 2-D convolution. weight (OC, IC, K, K) float64, bias (OC,) float64; `pad_value` per input channel (zeros unless preprocessing was folded in).

    `cap`: upper limit of a rectified result (6 for ReLU6), None for no limit.
    """

    weight: F64
    bias: F64
    stride: int = 1
    padding: Padding = (0, 0, 0, 0)
    relu: bool = False
    pad_value: tuple[float, ...] | None = None
    cap: float | None = None


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """y = x * scale[c] + offset[c], float64 (C,): running statistics already merged."""

    scale: F64
    offset: F64


@dataclass(frozen=True)
class Relu:
    """max(x, 0), at most `cap` where there is one (ReLU6: 6)."""

    cap: float | None = None


@dataclass(frozen=True)
class MaxPool:
    """Max over K x K windows; padded positions never win. `padding` already holds what ceil_mode adds at the bottom and right."""

    kernel: int
    stride: int
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Concat:
    """Channel concatenation in input order."""


@dataclass(frozen=True)
class Add:
    """Elementwise sum of two tensors of one shape; `relu` and `cap` as in Conv."""

    relu: bool = False
    cap: float | None = None


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean over the whole map; the hardware keeps the exact integer sum, the mean is a constant factor."""


@dataclass(frozen=True)
class Identity:
    """Dropout at inference, Flatten of a 1 x 1 map, and the like."""


Op = Input | Conv | BatchNorm | Relu | MaxPool | Concat | Add | GlobalAveragePool | Identity


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: `name` is unique, `inputs` name earlier nodes, `shape` is the output (C, H, W)."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; the first is the Input, `output` names the result."""

    nodes: tuple[Node, ...]
    output: str
    by_name: dict[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {n.name: n for n in self.nodes})

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    @property
    def input(self) -> Node:
        """The Input node."""
        return self.nodes[0]

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Nodes that read `name`, in topological order."""
        return tuple(n for n in self.nodes if name in n.inputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates a frame over all convolutions."""
        total = 0
        for n in self.nodes:
            if isinstance(n.op, Conv):
                total += n.shape[1] * n.shape[2] * n.op.weight.size
        return total


class GraphBuilder:
    """Adds nodes one by one and infers each shape; `build` verifies the result.

    >>> b = GraphBuilder()
    >>> x = b.add("image", Input((3, 8, 8)), ())
    >>> b.build(b.add("pool", MaxPool(2, 2), (x,)))["pool"].shape
    (3, 4, 4)
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def add(self, name: str, op: Op, inputs: tuple[str, ...]) -> str:
        """Append a node and return its name. Raises InputError when the name repeats, an input is unknown or shapes do not fit."""
        if name in self._nodes:
            raise InputError(f"layer {name}: the name is used twice; layer names must be unique")
        for i in inputs:
            if i not in self._nodes:
                raise InputError(f"layer {name}: reads {i!r}, which no earlier layer produces")
        shape = infer_shape(name, op, tuple(self._nodes[i].shape for i in inputs))
        self._nodes[name] = Node(name, op, inputs, shape)
        return name

    def shape(self, name: str) -> Shape:
        """Output shape of a node added before."""
        return self._nodes[name].shape

    def build(self, output: str) -> Graph:
        """Freeze into a verified Graph whose result is `output`."""
        graph = Graph(tuple(self._nodes.values()), output)
        verify(graph)
        return graph


def window_count(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Output positions of a window operator: floor((size + before + after - kernel) / stride) + 1.

    >>> window_count(224, 3, 2, 0, 0), window_count(7, 3, 2, 0, 1)
    (111, 3)
    """
    return (size + before + after - kernel) // stride + 1


def ceil_mode_extra(size: int, kernel: int, stride: int, pad: int) -> int:
    """Extra padding at the far side that turns floor pooling into PyTorch's ceil_mode pooling.

    As in torch, a window that would start beyond the input and the near padding is dropped.

    >>> ceil_mode_extra(112, 3, 2, 0), ceil_mode_extra(111, 3, 2, 0), ceil_mode_extra(6, 2, 2, 0)
    (1, 0, 0)
    """
    outputs = -(-(size + 2 * pad - kernel) // stride) + 1
    if (outputs - 1) * stride >= size + pad:
        outputs -= 1
    return max(0, (outputs - 1) * stride + kernel - size - 2 * pad)


def infer_shape(name: str, op: Op, inputs: tuple[Shape, ...]) -> Shape:
    """Output shape of `op` on `inputs`; raises InputError naming the layer when they do not fit."""
    arity = {Input: (0, 0), Concat: (2, 64), Add: (2, 2)}.get(type(op), (1, 1))
    if not arity[0] <= len(inputs) <= arity[1]:
        raise InputError(f"layer {name}: {type(op).__name__} takes {arity[0]} inputs at least and {arity[1]} at most, got {len(inputs)}")
    if isinstance(op, Input):
        return op.shape
    c, h, w = inputs[0]
    if isinstance(op, Conv):
        oc, ic, kh, kw = op.weight.shape
        if ic != c:
            raise InputError(f"layer {name}: weights expect {ic} input channels, the layer before gives {c}")
        if kh != kw:
            raise InputError(f"layer {name}: square kernels only, got {kh}x{kw}")
        return (oc, *_window_shape(name, (h, w), kh, op.stride, op.padding))
    if isinstance(op, MaxPool):
        if max(op.padding[:2]) >= op.kernel:
            raise InputError(f"layer {name}: pooling padding {op.padding} must be smaller than the kernel {op.kernel}")
        return (c, *_window_shape(name, (h, w), op.kernel, op.stride, op.padding))
    if isinstance(op, Concat):
        if any(s[1:] != (h, w) for s in inputs):
            raise InputError(f"layer {name}: Concat needs one height and width, got {[s[1:] for s in inputs]}")
        return (sum(s[0] for s in inputs), h, w)
    if isinstance(op, Add):
        if inputs[0] != inputs[1]:
            raise InputError(f"layer {name}: Add needs two tensors of one shape, got {inputs[0]} and {inputs[1]}")
        return inputs[0]
    if isinstance(op, GlobalAveragePool):
        return (c, 1, 1)
    if isinstance(op, BatchNorm) and op.scale.shape != (c,):
        raise InputError(f"layer {name}: BatchNorm has {op.scale.shape[0]} channels, the layer before gives {c}")
    return (c, h, w)


def _window_shape(name: str, size: tuple[int, int], kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    top, left, bottom, right = padding
    out_h = window_count(size[0], kernel, stride, top, bottom)
    out_w = window_count(size[1], kernel, stride, left, right)
    if out_h < 1 or out_w < 1:
        raise InputError(f"layer {name}: a {kernel}x{kernel} window does not fit its {size[0]}x{size[1]} input; use a larger --input-size")
    return out_h, out_w


def has_caps(graph: Graph) -> bool:
    """Whether any ReLU has an upper limit."""
    return any(isinstance(n.op, Relu | Conv | Add) and n.op.cap is not None for n in graph.nodes)


def verify(graph: Graph) -> None:
    """Check what every stage of the compiler relies on: one Input first, unique names, topological order, correct shapes, finite weights, no dead node."""
    seen: dict[str, Shape] = {}
    for i, n in enumerate(graph.nodes):
        if isinstance(n.op, Input) != (i == 0):
            raise InputError(f"layer {n.name}: exactly one Input, and first, was expected")
        if n.name in seen:
            raise InputError(f"layer {n.name}: the name is used twice")
        missing = [x for x in n.inputs if x not in seen]
        if missing:
            raise InputError(f"layer {n.name}: reads {missing[0]!r}, which no earlier layer produces")
        shape = infer_shape(n.name, n.op, tuple(seen[x] for x in n.inputs))
        if shape != n.shape:
            raise InputError(f"layer {n.name}: shape {n.shape} is recorded but {shape} was inferred")
        _verify_finite(n)
        seen[n.name] = n.shape
    if graph.output not in seen:
        raise InputError(f"the output {graph.output!r} is no layer of the graph")
    used = {x for n in graph.nodes for x in n.inputs} | {graph.output}
    dead = [n.name for n in graph.nodes if n.name not in used]
    if dead:
        raise InputError(f"layer {dead[0]}: nothing reads its result")


def _verify_finite(node: Node) -> None:
    if isinstance(node.op, Conv):
        named = {"weight": node.op.weight, "bias": node.op.bias}
    elif isinstance(node.op, BatchNorm):
        named = {"scale": node.op.scale, "offset": node.op.offset}
    else:
        return
    for label, values in named.items():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise InputError(f"layer {node.name}: {bad} of {values.size} {label} values are NaN or infinite; finite numbers were expected")


def rewrite(graph: Graph, replacements: dict[str, Op], removed: dict[str, str]) -> Graph:
    """A new graph, its shapes inferred again.

    `replacements` changes operators in place; `removed` maps a dropped node to the earlier one that takes over its result.
    """

    def target(name: str) -> str:
        while name in removed:
            name = removed[name]
        return name

    builder = GraphBuilder()
    for n in graph.nodes:
        if n.name not in removed:
            builder.add(n.name, replacements.get(n.name, n.op), tuple(target(i) for i in n.inputs))
    return builder.build(target(graph.output))


__all__ = [
    "Add", "BatchNorm", "Concat", "Conv", "GlobalAveragePool", "Graph", "GraphBuilder", "Identity", "Input", "MaxPool", "Node", "Op",
    "Padding", "Relu", "Shape", "ceil_mode_extra", "has_caps", "infer_shape", "replace", "rewrite", "verify", "window_count",
]  # fmt: skip
