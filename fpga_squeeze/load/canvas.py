"""Builds the IR from a foreign graph's operators: what each of them needs of its input, and what of it the IR can say.

Both importers (ONNX, ATen) work on this; they read attributes, the canvas knows layouts, padding and the rewrites that keep the function:
a linear layer after the global mean moves before it (both are linear), a linear layer on a flattened map is a convolution as large as the map.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import F64, Add, BatchNorm, Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Input, MaxPool, Node, Op, Padding, Relu, Shape
from fpga_squeeze.load.features import Feature, UnsupportedNode, axis_groups, like, text, unpadded, view

_WORDS = frozenset({"input", "output", "add", "final", "signed", "return", "new", "this", "reg", "wire", "bit", "do", "if", "for", "top", "main"})
"""What layers are sometimes called and a language or the machine's own files claim."""
MAX_NODES = 4096
MAX_MAP_ELEMENTS = 1 << 26
MAX_MACS = 100_000_000_000
Array = NDArray[np.generic]


class Canvas:
    """Adds operators one by one. Every method takes and gives Features and raises UnsupportedNode with the reason."""

    def __init__(self) -> None:
        self._builder = GraphBuilder()
        self._nodes: dict[str, Node] = {}
        self._never_negative: set[str] = set()
        self._taken: set[str] = set()
        self._macs = 0

    def input(self, shape: Shape, layout: str) -> Feature:
        """The image, first of all."""
        return view(self._add("image", Input(shape), ()), shape, layout)

    def conv(self, name: str, x: Feature, weight: Array, bias: Array | None, stride: int, padding: Padding) -> Feature:
        """A dense convolution of a channels-first map; weight (OC, IC, K, K)."""
        if x.layout != "NCHW":
            raise UnsupportedNode(f"a convolution reads channels, height, width in this order, its input is {text(x.dims)} in another one")
        w = real(weight, "weights")
        b = np.zeros(w.shape[0]) if bias is None else real(bias, "biases")
        if b.shape != (w.shape[0],):
            raise UnsupportedNode(f"a bias of shape {text(b.shape)} for {w.shape[0]} output channels")
        if x.pad_value is not None and any(padding):
            raise UnsupportedNode("pads with zeros a tensor that is padded with other values already")
        top, left, bottom, right = (p + q for p, q in zip(padding, x.pads, strict=True))
        node = self._add(name, Conv(w, b, stride, (top, left, bottom, right), pad_value=x.pad_value), (x.node,))
        return view(node, self._nodes[node].shape)

    def linear(self, name: str, x: Feature, weight: Array, bias: Array | None) -> Feature:
        """y = W x + b; weight (OC, IN) over the last dimension of a (1, IN) tensor."""
        w = real(weight, "weights")
        x = unpadded(x)
        if w.ndim != 2 or x.dims != (1, w.shape[1]):
            raise UnsupportedNode(f"weights of shape {text(w.shape)} on a tensor of shape {text(x.dims)}; (1, inputs) was expected")
        source = self._nodes[x.node]
        if isinstance(source.op, GlobalAveragePool):
            before = self._nodes[source.inputs[0]]
            moved = self.conv(name, view(before.name, before.shape), w[:, :, None, None], bias, 1, (0, 0, 0, 0))
            return replace(self.global_mean(f"{name}.mean", moved), dims=(1, w.shape[0]))
        c, h, width = x.shape
        if h != width:
            raise UnsupportedNode(f"a linear layer on a flattened {text(x.shape)} map; the map must be square")
        sizes = dict(zip("CHW", x.shape, strict=True))
        order = x.order + "".join(a for a in "CHW" if a not in x.order)
        kernel = w.reshape(-1, *(sizes[a] for a in order)).transpose(0, *(1 + order.index(a) for a in "CHW"))
        made = self.conv(name, view(x.node, (c, h, width)), kernel, bias, 1, (0, 0, 0, 0))
        return replace(made, dims=(1, w.shape[0]))

    def scale_offset(self, name: str, x: Feature, scale: F64, offset: F64) -> Feature:
        """y = x * scale[c] + offset[c]; (C,) each. Padding around x is scaled with it; scalings in a row become one, or none where they cancel."""
        if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
            raise UnsupportedNode("its scale or offset is not finite")
        if any(x.pads):
            pads = np.array(x.pad_value or (0.0,) * len(scale)) * scale + offset
            x = replace(x, pad_value=tuple(float(v) for v in pads) if pads.any() else None)
        source = self._nodes[x.node]
        if isinstance(source.op, BatchNorm):
            scale, offset = source.op.scale * scale, source.op.offset * scale + offset
            source = self._nodes[source.inputs[0]]
            if (scale == 1.0).all() and not offset.any():
                return replace(x, node=source.name)
            x = replace(x, node=source.name)
        if isinstance(source.op, GlobalAveragePool):
            before = self._nodes[source.inputs[0]]
            moved = self._add(name, BatchNorm(scale, offset), (before.name,))
            return replace(self.global_mean(f"{name}.mean", view(moved, before.shape)), dims=x.dims)
        node = self._add(name, BatchNorm(scale, offset), (x.node,))
        return replace(x, node=node)

    def broadcast(self, x: Feature, values: Array) -> F64:
        """A constant that is added to or multiplied with `x`, as one number a channel, (C,)."""
        v = real(values, "constant", finite=False)
        channels = x.shape[0]
        if v.size == 1:
            return np.full(channels, float(v.reshape(())))
        dim = x.channel_dim
        aligned = (1,) * (len(x.dims) - v.ndim) + v.shape
        if dim is None or len(aligned) != len(x.dims) or aligned[dim] != channels or v.size != channels:
            raise UnsupportedNode(f"a constant of shape {text(v.shape)} on a tensor of shape {text(x.dims)}; one number for all or one a channel was expected")
        return v.reshape(channels)

    def relu(self, name: str, x: Feature) -> Feature:
        """max(x, 0)."""
        return replace(unpadded(x), node=self._add(name, Relu(), (x.node,)))

    def clip(self, name: str, x: Feature, low: float | None, high: float | None) -> Feature:
        """A clip from 0: ReLU, or ReLU6 and the like with an upper limit."""
        if low != 0.0:
            raise UnsupportedNode(f"clips from {low if low is not None else '-infinity'}; only a lower limit of 0 is a ReLU")
        if high is None or high >= 3.0e38:
            return self.relu(name, x)
        if not high > 0.0:
            raise UnsupportedNode(f"clips to between 0 and {high:g}; an upper limit above 0 was expected")
        return replace(unpadded(x), node=self._add(name, Relu(float(high)), (x.node,)))

    def max_pool(self, name: str, x: Feature, kernel: int, stride: int, padding: Padding, ceil_mode: bool) -> Feature:
        """Max over windows of a channels-first map."""
        if x.layout != "NCHW":
            raise UnsupportedNode(f"a pool reads channels, height, width in this order, its input is {text(x.dims)} in another one")
        if any(x.pads) and x.node not in self._never_negative:
            raise UnsupportedNode("it reads a tensor padded with zeros that may be negative: zeros would win")
        if x.pad_value is not None:
            raise UnsupportedNode("it reads a tensor padded with values other than zero")
        top, left, bottom, right = (p + q for p, q in zip(padding, x.pads, strict=True))
        if ceil_mode:
            bottom += ceil_extra(x.shape[1], kernel, stride, top, bottom)
            right += ceil_extra(x.shape[2], kernel, stride, left, right)
        node = self._add(name, MaxPool(kernel, stride, (top, left, bottom, right)), (x.node,))
        return view(node, self._nodes[node].shape)

    def global_mean(self, name: str, x: Feature) -> Feature:
        """Mean over height and width, both kept as 1."""
        node = self._add(name, GlobalAveragePool(), (unpadded(x).node,))
        return like(x, node, (x.shape[0], 1, 1))

    def mean(self, name: str, x: Feature, axes: tuple[int, ...], keep: bool) -> Feature:
        """Mean over foreign dimensions: exactly height and width, in any order or as one."""
        rank = len(x.dims)
        if any(not -rank <= a < rank for a in axes):
            raise UnsupportedNode(f"averages over dimension {text(axes)} of a tensor of {rank} dimensions")
        wanted = {a % rank for a in axes}
        groups = axis_groups(unpadded(x))
        covered = {letter for a in wanted for letter in groups[a]}
        if covered != set("HW") & set(x.order):
            raise UnsupportedNode(f"averages over dimensions {sorted(wanted)} of a tensor of shape {text(x.dims)}; the mean over height and width was expected")
        node = self._add(name, GlobalAveragePool(), (x.node,))
        dims = tuple(1 if i in wanted else d for i, d in enumerate(x.dims) if keep or i not in wanted)
        return Feature(node, (x.shape[0], 1, 1), dims, "C" if x.shape[0] > 1 else "")

    def concat(self, name: str, parts: list[Feature], axis: int) -> Feature:
        """Channels of all parts, in order."""
        first = parts[0]
        layouts = {unpadded(p).layout for p in parts}
        dim = first.channel_dim
        if len(layouts) != 1 or dim is None:
            raise UnsupportedNode(f"joins tensors of different layouts: {', '.join(text(p.dims) for p in parts)}")
        if not -len(first.dims) <= axis < len(first.dims) or axis % len(first.dims) != dim:
            raise UnsupportedNode(f"joins along dimension {axis} of {text(first.dims)}; only channels can be joined")
        if len(parts) == 1:
            return first
        node = self._add(name, Concat(), tuple(p.node for p in parts))
        return like(first, node, self._nodes[node].shape)

    def add(self, name: str, a: Feature, b: Feature) -> Feature:
        """Elementwise sum of two tensors of one shape and layout."""
        if unpadded(a).dims != unpadded(b).dims or a.order != b.order or a.shape != b.shape:
            raise UnsupportedNode(f"adds tensors of shapes {text(a.dims)} and {text(b.dims)}; two of one shape and layout were expected")
        return replace(a, node=self._add(name, Add(), (a.node, b.node)))

    def pad(self, x: Feature, before: tuple[int, ...], after: tuple[int, ...], value: float) -> Feature:
        """Zeros around height and width, kept for the reader; paddings one a foreign dimension."""
        if value != 0.0:
            raise UnsupportedNode(f"pads with {value:g}; only zeros are supported")
        if min(*before, *after) < 0:
            raise UnsupportedNode("a negative padding cuts the map; only zeros around it are supported")
        if not any(before) and not any(after):
            return x
        if x.pad_value is not None:
            raise UnsupportedNode("pads with zeros a tensor that is padded with other values already")
        layout = x.layout
        rows = {"NCHW": 2, "NHWC": 1}.get(layout or "")
        if rows is None or len(before) != 4 or any(p for i, p in enumerate((*before, *after)) if i % 4 not in (rows, rows + 1)):
            raise UnsupportedNode(f"pads {text(before)} before and {text(after)} behind a tensor of shape {text(x.dims)}; only height and width can be padded")
        top, left, bottom, right = x.pads
        return replace(x, pads=(top + before[rows], left + before[rows + 1], bottom + after[rows], right + after[rows + 1]))

    def is_mean(self, node: str) -> bool:
        """Whether a node is a global mean."""
        return isinstance(self._nodes[node].op, GlobalAveragePool)

    def finish(self, output: Feature) -> Graph:
        """The verified graph that ends in `output`'s class scores; operators that do not lead there are left out.

        Raises UnsupportedNode when the output is no vector of scores, InputError when the graph is not legal.
        """
        x = unpadded(output)
        if x.shape[1:] != (1, 1):
            wanted = "class scores (one number a class) were expected: end in a global average pool or a linear layer"
            raise UnsupportedNode(f"the output is a map of {text(x.shape)}; {wanted}")
        end = x.node
        if not isinstance(self._nodes[end].op, GlobalAveragePool):
            end = self._add("scores", GlobalAveragePool(), (end,))  # the mean of one number; the machine ends in the sum over a map
        needed = {end}
        for n in reversed(self._nodes.values()):
            if n.name in needed:
                needed.update(n.inputs)
        if "image" not in needed:
            raise UnsupportedNode("the output does not depend on the input")
        builder = GraphBuilder()
        for n in self._nodes.values():
            if n.name in needed:
                builder.add(n.name, n.op, n.inputs)
        return builder.build(end)

    def _add(self, hint: str, op: Op, inputs: tuple[str, ...]) -> str:
        if len(self._nodes) >= MAX_NODES:
            raise UnsupportedNode(f"the graph has more than {MAX_NODES} layers")
        name = self._unique(hint)
        try:
            self._builder.add(name, op, inputs)
        except InputError as error:
            raise UnsupportedNode(str(error).removeprefix(f"layer {name}: ")) from error
        shape = self._builder.shape(name)
        if prod(shape) > MAX_MAP_ELEMENTS:
            raise UnsupportedNode(f"its result of {text(shape)} has more than {MAX_MAP_ELEMENTS} values")
        if isinstance(op, Conv):
            self._macs += shape[1] * shape[2] * op.weight.size
            if self._macs > MAX_MACS:
                raise UnsupportedNode(f"the network needs more than {MAX_MACS} multiplications a frame up to here")
        self._nodes[name] = Node(name, op, inputs, shape)
        passes_on = isinstance(op, MaxPool | Concat | Add | GlobalAveragePool)
        if isinstance(op, Relu) or (passes_on and all(i in self._never_negative for i in inputs)):
            self._never_negative.add(name)
        return name

    def _unique(self, hint: str) -> str:
        """A layer name that C++ and Verilog names are made of without clashes: letters, digits, single dots and underscores, a letter first."""
        base = re.sub(r"__+", "_", re.sub(r"[^0-9A-Za-z_]+", ".", hint))[:80].strip("._") or "layer"
        if not base[0].isalpha() or base.lower() in _WORDS:
            base = f"layer_{base}"
        name, number = base, 2
        while name.replace(".", "_").lower() in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name.replace(".", "_").lower())
        return name


def real(values: Array, what: str, finite: bool = True) -> F64:
    """Numbers of a float or integer constant as float64. Raises UnsupportedNode for other types, NaN or infinity."""
    if values.dtype.kind not in "fiu":
        raise UnsupportedNode(f"its {what} are {values.dtype}, numbers were expected")
    with np.errstate(invalid="ignore"):  # signalling NaNs; they are counted below
        result = np.asarray(values, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(result))) if finite else 0
    if bad:
        raise UnsupportedNode(f"{bad} of {result.size} {what} values are NaN or infinite")
    return result


def standard_deviation(variance: F64, epsilon: float) -> F64:
    """sqrt(variance + epsilon), as BatchNorm divides by it. Raises UnsupportedNode when it is not a positive number."""
    inside = variance + epsilon
    if not (inside > 0).all():
        raise UnsupportedNode("a variance is negative")
    return np.asarray(np.sqrt(inside))


def square(values: tuple[int, ...], what: str) -> int:
    """The one number of (n, n) (or (n,)). Raises UnsupportedNode when height and width differ."""
    if len(values) not in (1, 2) or len(set(values)) != 1 or values[0] < 1:
        raise UnsupportedNode(f"{what} {text(values)}; a positive one, equal in height and width, was expected")
    return values[0]


def check_conv(weight_shape: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], groups: int) -> int:
    """What the machine's convolutions can be, all that is wrong in one reason; gives the stride."""
    wrong = []
    if groups != 1:
        wrong.append(f"{groups} groups; only dense convolutions are supported")
    if any(d != 1 for d in dilations):
        wrong.append(f"dilation {text(dilations)}; only 1 is supported")
    if len(weight_shape) != 4:
        wrong.append(f"weights of shape {text(weight_shape)}; only 2-D convolutions, four dimensions, are supported")
    elif weight_shape[2] != weight_shape[3]:
        wrong.append(f"a {weight_shape[2]}x{weight_shape[3]} kernel; only square ones are supported")
    if len(set(strides)) != 1 or strides[0] < 1:
        wrong.append(f"stride {text(strides)}; a positive one, equal in height and width, was expected")
    if wrong:
        raise UnsupportedNode(", ".join(wrong))
    return strides[0]


def ceil_extra(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Padding behind that turns floor pooling into ceil_mode pooling; a window that would start in the padding behind is dropped."""
    outputs = -(-(size + before + after - kernel) // stride) + 1
    if (outputs - 1) * stride >= size + before:
        outputs -= 1
    return max(0, (outputs - 1) * stride + kernel - size - before - after)
