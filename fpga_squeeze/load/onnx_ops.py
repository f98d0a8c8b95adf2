"""ONNX operators on feature maps, one function each: attributes and inputs as ONNX defines them -> what the Canvas can build.

Every function checks what it can without its input first, so that a bad attribute is reported even behind an unsupported node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.ir import Padding
from fpga_squeeze.load.canvas import Canvas, check_conv, real, square, standard_deviation
from fpga_squeeze.load.features import BlockedNode, Feature, UnsupportedNode, clean, reshape, text, transpose, unpadded, view
from fpga_squeeze.load.onnx_const import axes_of, ints, reshape_target, squeezed, unsqueezed
from fpga_squeeze.load.qdq import PIXELS, QdqRecord, tensor_format

Array = NDArray[Any]
CLASS_SUMS = "the sum of integers"
"""Tail of an output that holds the machine's class sums as they are."""


class Blocked:
    """Stands for the result of a node that could not be built."""


Value = Feature | Array | Blocked | None


@dataclass(frozen=True, eq=False)
class Call:
    """One node: `name` is the layer name to use, `inputs` its values (None where left out)."""

    canvas: Canvas
    name: str
    attrs: Mapping[str, Any]
    inputs: tuple[Value, ...]
    opset: int
    record: QdqRecord = field(default_factory=QdqRecord)

    def feature(self, position: int = 0) -> Feature:
        """A feature map input."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(value, Blocked):
            raise BlockedNode
        if not isinstance(value, Feature):
            raise UnsupportedNode(f"input {position + 1} is {'left out' if value is None else 'a constant'}; what the image becomes was expected")
        if value.tail is not None:
            raise UnsupportedNode(f"it reads what {value.tail} makes of the class scores; nothing but the output may follow that")
        if value.quantized is not None:
            raise UnsupportedNode("computes with the integers of a quantized tensor; DequantizeLinear was expected before it")
        return value

    def constant(self, position: int, what: str) -> Array | None:
        """A constant input, None when left out."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(value, Blocked):
            raise BlockedNode
        if isinstance(value, Feature):
            raise UnsupportedNode(f"its {what} depend on the image; constants were expected")
        return value

    def needed(self, position: int, what: str) -> Array:
        """A constant input that must be there."""
        value = self.constant(position, what)
        if value is None:
            raise UnsupportedNode(f"its {what} are left out")
        return value

    def constants(self) -> list[Array | None]:
        """Every input, feature maps as None."""
        return [None if isinstance(v, Feature | Blocked) else v for v in self.inputs]


def _conv(c: Call) -> Feature:
    weight, bias = c.needed(1, "weights"), c.constant(2, "biases")
    strides = tuple(c.attrs.get("strides", (1, 1)))
    kernel = tuple(c.attrs.get("kernel_shape", weight.shape[2:]))
    stride = check_conv(weight.shape, strides, tuple(c.attrs.get("dilations", (1,))), c.attrs.get("group", 1))
    if kernel != weight.shape[2:]:
        raise UnsupportedNode(f"kernel_shape {text(kernel)} with weights of shape {text(weight.shape)}")
    real(weight, "weights")
    x = c.feature()
    return c.canvas.conv(c.name, x, weight, bias, stride, _padding(c.attrs, kernel, strides, x))


def _max_pool(c: Call) -> Feature:
    kernel, stride = _window(c.attrs)
    x = c.feature()
    return c.canvas.max_pool(c.name, x, kernel, stride, _padding(c.attrs, (kernel,) * 2, (stride,) * 2, x), bool(c.attrs.get("ceil_mode", 0)))


def _window(attrs: Mapping[str, Any]) -> tuple[int, int]:
    kernel = tuple(attrs.get("kernel_shape", ()))
    if len(kernel) != 2:
        raise UnsupportedNode(f"a window of {len(kernel)} dimensions; height and width were expected")
    if any(d != 1 for d in attrs.get("dilations", (1,))):
        raise UnsupportedNode(f"dilation {text(tuple(attrs['dilations']))}; only 1 is supported")
    if attrs.get("storage_order", 0):
        raise UnsupportedNode("storage_order 1; only row-major is supported")
    return square(kernel, "a window of"), square(tuple(attrs.get("strides", (1, 1))), "stride")


def _padding(attrs: Mapping[str, Any], kernel: tuple[int, ...], strides: tuple[int, ...], x: Feature) -> Padding:
    """`pads`, or what auto_pad means for the input's size: (top, left, bottom, right)."""
    mode = attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        size = [s + x.pads[i] + x.pads[i + 2] for i, s in enumerate(x.shape[1:])]
        total = [max(0, (-(-s // d) - 1) * d + k - s) for s, k, d in zip(size, kernel, strides, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        return before[0], before[1], after[0], after[1]
    if mode not in ("NOTSET", "VALID", ""):
        raise UnsupportedNode(f"auto_pad {mode!r}; NOTSET, VALID, SAME_UPPER or SAME_LOWER was expected")
    pads = tuple(attrs.get("pads", (0, 0, 0, 0))) if mode != "VALID" else (0, 0, 0, 0)
    if len(pads) != 4 or min(pads) < 0 or max(pads) > 64:
        raise UnsupportedNode(f"pads {text(pads)}; four numbers from 0 to 64 were expected")
    return pads


def _average_pool(c: Call) -> Feature:
    kernel = tuple(c.attrs.get("kernel_shape", ()))
    padded = c.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(c.attrs.get("pads", (0,)))
    x = c.feature()
    if x.layout != "NCHW" or kernel != x.shape[1:] or padded:
        raise UnsupportedNode(f"averages over windows of {text(kernel)} on a map of {text(x.shape[1:])}; only the mean over the whole map is supported")
    return c.canvas.global_mean(c.name, x)


def _global_average_pool(c: Call) -> Feature:
    x = c.feature()
    if x.layout != "NCHW":
        raise UnsupportedNode(f"reads channels, height, width in this order, its input is {text(x.dims)} in another one")
    return c.canvas.global_mean(c.name, x)


def _reduce_mean(c: Call) -> Feature:
    axes = axes_of(c.attrs, c.constants())
    if axes is None:
        raise UnsupportedNode("averages over all dimensions; the mean over height and width was expected")
    return c.canvas.mean(c.name, c.feature(), axes, bool(c.attrs.get("keepdims", 1)))


def _reduce_sum(c: Call) -> Feature:
    """The exact sum of a quantized map's integers: the machine's own class sums, as this tool's quantized.onnx ends."""
    axes = axes_of(c.attrs, c.constants())
    x = _open(c)
    if x.quantized is None or axes is None:
        raise UnsupportedNode("sums a map of floats or over all dimensions; only the integers of a quantized map are summed, over height and width")
    return replace(c.canvas.mean(c.name, replace(x, quantized=None), axes, bool(c.attrs.get("keepdims", 1))), tail=CLASS_SUMS)


def _batch_norm(c: Call) -> Feature:
    if c.attrs.get("training_mode", 0) or not c.attrs.get("spatial", 1):
        raise UnsupportedNode("normalizes by the batch or by single pixels; export the network for inference (model.eval())")
    scale, offset, mean, variance = (real(c.needed(i + 1, what), what) for i, what in enumerate(("scales", "offsets", "means", "variances")))
    x = c.feature()
    if x.channel_dim != 1 or any(v.shape != (x.shape[0],) for v in (scale, offset, mean, variance)):
        raise UnsupportedNode(f"{scale.size} channels on a tensor of shape {text(x.dims)}")
    deviation = standard_deviation(variance, float(c.attrs.get("epsilon", 1e-5)))
    return c.canvas.scale_offset(c.name, x, scale / deviation, offset - mean * scale / deviation)


def _clip(c: Call) -> Feature:
    limits = [float(v.reshape(())) if (v := c.constant(i + 1, "limits")) is not None else None for i in range(2)]
    low, high = (c.attrs.get(key, limits[i]) for i, key in enumerate(("min", "max")))
    return c.canvas.clip(c.name, c.feature(), low, high)


def _max(c: Call) -> Feature:
    """Max(x, 0) is a ReLU."""
    flipped = c if isinstance(c.inputs[0], Feature | Blocked) else replace(c, inputs=c.inputs[::-1])
    limit = flipped.needed(1, "limits")
    if len(c.inputs) != 2 or limit.size != 1 or float(limit.reshape(())) != 0.0:
        raise UnsupportedNode("a maximum with anything but 0 (a ReLU)")
    return c.canvas.relu(c.name, flipped.feature())


def _arithmetic(op: str) -> Callable[[Call], Feature]:
    def apply(c: Call) -> Feature:
        if any(isinstance(v, Blocked) for v in c.inputs):
            raise BlockedNode
        if len(c.inputs) != 2:
            raise UnsupportedNode(f"{len(c.inputs)} inputs; two were expected")
        if all(isinstance(v, Feature) for v in c.inputs):
            if op != "Add":
                raise UnsupportedNode(f"{'subtracts' if op == 'Sub' else 'multiplies or divides'} two feature maps; only adding is supported")
            return c.canvas.add(c.name, c.feature(0), c.feature(1))
        first = isinstance(c.inputs[0], Feature)
        x = c.feature(0 if first else 1)
        value = c.canvas.broadcast(x, c.needed(1 if first else 0, "operands"))
        if op == "Div" and not first:
            raise UnsupportedNode("divides a constant by a feature map")
        one, nil = np.ones_like(value), np.zeros_like(value)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = {"Add": one, "Sub": one if first else -one, "Mul": value, "Div": one / value}[op]
        offset = {"Add": value, "Sub": -value if first else value, "Mul": nil, "Div": nil}[op]
        return c.canvas.scale_offset(c.name, x, scale, offset)

    return apply


def _sum(c: Call) -> Feature:
    total = c.feature(0)
    for i in range(1, len(c.inputs)):
        total = c.canvas.add(c.name, total, c.feature(i))
    return total


def _concat(c: Call) -> Feature:
    parts = [c.feature(i) for i in range(len(c.inputs))]
    return c.canvas.concat(c.name, parts, int(c.attrs.get("axis", 1)))


def _gemm(c: Call) -> Feature:
    weight, bias = real(c.needed(1, "weights"), "weights"), c.constant(2, "biases")
    if c.attrs.get("transA", 0) or weight.ndim != 2:
        raise UnsupportedNode("its first input is transposed, or its weights are no matrix")
    weight = (weight if c.attrs.get("transB", 0) else weight.T) * float(c.attrs.get("alpha", 1.0))
    added = None if bias is None else np.broadcast_to(real(bias, "biases").reshape(-1), weight.shape[:1]) * float(c.attrs.get("beta", 1.0))
    return c.canvas.linear(c.name, c.feature(), weight, added)


def _matmul(c: Call) -> Feature:
    weight = real(c.needed(1, "weights"), "weights")
    if weight.ndim != 2:
        raise UnsupportedNode(f"multiplies with a constant of shape {text(weight.shape)}; a matrix was expected")
    x = unpadded(c.feature())
    if x.layout == "NHWC":
        made = c.canvas.conv(c.name, view(x.node, x.shape), weight.T[:, :, None, None], None, 1, (0, 0, 0, 0))
        return view(made.node, made.shape, "NHWC")
    return c.canvas.linear(c.name, x, weight.T, None)


def _pad(c: Call) -> Feature:
    if c.attrs.get("mode", "constant") != "constant":
        raise UnsupportedNode(f"mode {c.attrs['mode']!r}; only constant zeros are supported")
    pads = tuple(c.attrs["pads"]) if "pads" in c.attrs else ints(c.needed(1, "paddings"))
    given = c.constant(2, "values")
    value = float(given.reshape(())) if given is not None and given.size else float(c.attrs.get("value", 0.0))
    x = c.feature()
    rank = len(x.dims)
    axes = ints(c.constant(3, "axes")) if c.constant(3, "axes") is not None else tuple(range(rank))
    if len(pads) != 2 * len(axes) or any(not -rank <= a < rank for a in axes):
        raise UnsupportedNode(f"{len(pads)} paddings for a tensor of {rank} dimensions")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if max(*before, *after) > 64:
        raise UnsupportedNode(f"a padding of {max(*before, *after)}; at most 64 is supported")
    return c.canvas.pad(x, tuple(before), tuple(after), value)


def _reshape(c: Call) -> Feature:
    wanted = ints(c.needed(1, "target shapes"))
    x = _open(c)
    return reshape(x, reshape_target(c.attrs, x.dims, wanted))


def _flatten(c: Call) -> Feature:
    x = _open(c)
    axis = int(c.attrs.get("axis", 1))
    return reshape(x, (prod(x.dims[:axis]), prod(x.dims[axis:])))


def _squeeze(c: Call) -> Feature:
    x = _open(c)
    return reshape(x, squeezed(x.dims, axes_of(c.attrs, c.constants())))


def _unsqueeze(c: Call) -> Feature:
    axes = axes_of(c.attrs, c.constants())
    x = _open(c)
    return reshape(x, unsqueezed(x.dims, axes or ()))


def _transpose(c: Call) -> Feature:
    x = c.feature()
    return transpose(x, tuple(c.attrs.get("perm", tuple(reversed(range(len(x.dims)))))))


def _open(c: Call) -> Feature:
    """The input, a softmax's result included: reshaping it does no harm."""
    value = c.inputs[0]
    return value if isinstance(value, Feature) and (value.tail is not None or value.quantized is not None) else c.feature()


def _softmax(label: str) -> Callable[[Call], Feature]:
    def apply(c: Call) -> Feature:
        x = unpadded(c.feature())
        axis, rank = int(c.attrs.get("axis", -1 if c.opset >= 13 else 1)), len(x.dims)
        if x.shape[1:] != (1, 1) or not -rank <= axis < rank or x.dims[axis] != x.shape[0]:
            where = f"dimension {axis} of a tensor of shape {text(x.dims)}"
            raise UnsupportedNode(f"normalizes {where}; only over the class scores, at the end, it can be left out")
        return replace(x, tail=label)

    return apply


def _identity(c: Call) -> Feature:
    return _open(c)


def _dropout(c: Call) -> Feature:
    training = c.constant(2, "modes")
    if training is not None and bool(training.reshape(-1)[0]):
        raise UnsupportedNode("drops values at random (training_mode); export the network for inference (model.eval())")
    return _open(c)


def _cast(c: Call) -> Feature:
    if c.attrs.get("to") in (6, 7) and isinstance(c.inputs[0], Feature) and c.inputs[0].quantized is not None:
        return c.inputs[0]  # the same integers, with room for a sum
    if c.attrs.get("to") not in (1, 10, 11):
        raise UnsupportedNode("casts a feature map to another type than 16, 32 or 64 bit floats")
    x = _open(c)
    if x.quantized is not None and x.quantized.frac != 0:
        raise UnsupportedNode("takes integers for numbers; DequantizeLinear was expected")
    return replace(x, quantized=None)


def _quantize(c: Call) -> Feature:
    if c.attrs.get("output_dtype", 0) or c.attrs.get("block_size", 0):
        raise UnsupportedNode("output_dtype or block_size is set; the zero point's type and one scale were expected")
    fmt = tensor_format(c.needed(1, "scales"), c.constant(2, "zero points"))
    x = unpadded(c.feature())
    if x.node == "image" and fmt != PIXELS:
        raise UnsupportedNode("quantizes the image at another scale than 1 or to another type than uint8; raw pixels 0..255 were expected")
    if c.canvas.is_mean(x.node):
        return replace(x, tail="QuantizeLinear")
    c.record.activation(x.node, fmt)
    return replace(x, quantized=fmt)


def _dequantize(c: Call) -> Feature:
    fmt = tensor_format(c.needed(1, "scales"), c.constant(2, "zero points"))
    x = _open(c)
    if x.tail is not None:
        return x
    if x.quantized != fmt:
        raise UnsupportedNode("reads a tensor that was not quantized at this very scale and type")
    if x.node == "image" and fmt == PIXELS:
        c.record.activation(x.node, fmt)
    return replace(x, quantized=None)


_WINDOW = frozenset({"kernel_shape", "strides", "pads", "auto_pad", "dilations"})
Handler = Callable[[Call], Feature]
HANDLERS: dict[str, tuple[Handler, frozenset[str]]] = {
    "Add": (_arithmetic("Add"), frozenset()),
    "AveragePool": (_average_pool, _WINDOW | {"ceil_mode", "count_include_pad"}),
    "BatchNormalization": (_batch_norm, frozenset({"epsilon", "momentum", "spatial", "training_mode"})),
    "Cast": (_cast, frozenset({"to", "saturate", "round_mode"})),
    "Clip": (_clip, frozenset({"min", "max"})),
    "Concat": (_concat, frozenset({"axis"})),
    "Conv": (_conv, _WINDOW | {"group"}),
    "DequantizeLinear": (_dequantize, frozenset({"axis", "block_size"})),
    "Div": (_arithmetic("Div"), frozenset()),
    "Dropout": (_dropout, frozenset({"ratio", "seed"})),
    "Flatten": (_flatten, frozenset({"axis"})),
    "Gemm": (_gemm, frozenset({"alpha", "beta", "transA", "transB"})),
    "GlobalAveragePool": (_global_average_pool, frozenset()),
    "Identity": (_identity, frozenset()),
    "LogSoftmax": (_softmax("LogSoftmax"), frozenset({"axis"})),
    "MatMul": (_matmul, frozenset()),
    "Max": (_max, frozenset()),
    "MaxPool": (_max_pool, _WINDOW | {"ceil_mode", "storage_order"}),
    "Mul": (_arithmetic("Mul"), frozenset()),
    "Pad": (_pad, frozenset({"mode", "pads", "value"})),
    "QuantizeLinear": (_quantize, frozenset({"axis", "saturate", "block_size", "output_dtype", "precision"})),
    "ReduceMean": (_reduce_mean, frozenset({"axes", "keepdims", "noop_with_empty_axes"})),
    "ReduceSum": (_reduce_sum, frozenset({"axes", "keepdims", "noop_with_empty_axes"})),
    "Relu": (lambda c: c.canvas.relu(c.name, c.feature()), frozenset()),
    "Reshape": (_reshape, frozenset({"allowzero"})),
    "Softmax": (_softmax("Softmax"), frozenset({"axis"})),
    "Squeeze": (_squeeze, frozenset({"axes"})),
    "Sub": (_arithmetic("Sub"), frozenset()),
    "Sum": (_sum, frozenset()),
    "Transpose": (_transpose, frozenset({"perm"})),
    "Unsqueeze": (_unsqueeze, frozenset({"axes"})),
}
"""Operators by name: the function and the attributes it knows; any other attribute is refused."""

_LISTS = frozenset({"strides", "pads", "dilations", "kernel_shape", "perm", "axes"})
_TEXTS = frozenset({"auto_pad", "mode", "round_mode"})
_REALS = frozenset({"epsilon", "momentum", "alpha", "beta", "min", "max", "value", "ratio"})


def check_attributes(attrs: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raises UnsupportedNode for an attribute that the operator does not have or whose value is of another kind."""
    for name in sorted(attrs):
        value = attrs[name]
        if name not in allowed:
            raise UnsupportedNode(f"unknown attribute {clean(name)!r}")
        if name in _LISTS:
            good = isinstance(value, tuple) and all(isinstance(v, int) for v in value)
        else:
            good = isinstance(value, str if name in _TEXTS else (float, int) if name in _REALS else int)
        if not good:
            raise UnsupportedNode(f"the attribute {name!r} is of the wrong kind")
