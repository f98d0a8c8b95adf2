"""ATen operators on feature maps, one function each: arguments by the names of torch's schemas -> what the Canvas can build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import Padding
from fpga_squeeze.load.canvas import Canvas, check_conv, real, square, standard_deviation
from fpga_squeeze.load.features import BlockedNode, Feature, UnsupportedNode, reshape, text, transpose, unpadded

Array = NDArray[Any]
Result = Feature | tuple[Feature | None, ...] | int


@dataclass(eq=False)
class Tensor:
    """A tensor of the foreign network: a feature map, a constant, or (blocked) the result of what could not be built.

    `feature` changes when an operator works in place. `origin` is a parameter's path in the module, `slot` where an evaluation keeps the value.
    """

    name: str
    feature: Feature | None = None
    constant: torch.Tensor | None = None
    blocked: bool = False
    origin: str = ""
    slot: str = "image"


@dataclass(frozen=True, eq=False)
class Arguments:
    """One call's arguments by name; `layer` is the layer name to use."""

    canvas: Canvas
    op: str
    layer: str
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that not every overload has."""
        return self.values.get(name, default)

    def feature(self, name: str = "self") -> Feature:
        """A feature map argument; `self` also under its other name `input`."""
        found = self._open(self.values[name if name in self.values else "input"])
        if found.tail is not None:
            raise UnsupportedNode(f"it reads what {found.tail} makes of the class scores; nothing but the output may follow that")
        return found

    def open_feature(self) -> Feature:
        """The input, a softmax's result included: reshaping it does no harm."""
        return self._open(self.values["self" if "self" in self.values else "input"])

    def features(self, name: str) -> list[Feature]:
        """A list of feature maps."""
        return [self._open(t) for t in self.values[name]]

    def _open(self, tensor: object) -> Feature:
        if not isinstance(tensor, Tensor):
            raise UnsupportedNode("reads a number where what the image becomes was expected")
        if tensor.blocked:
            raise BlockedNode
        if tensor.feature is None:
            raise UnsupportedNode("reads a constant where what the image becomes was expected")
        return tensor.feature

    def constant(self, name: str, what: str) -> Array | None:
        """A constant tensor argument as an array, or None when it is None."""
        tensor = self.values[name]
        if tensor is None:
            return None
        if tensor.blocked:
            raise BlockedNode
        if tensor.constant is None:
            raise UnsupportedNode(f"its {what} depend on the image; constants were expected")
        return array(tensor.constant, what)

    def needed(self, name: str, what: str) -> Array:
        """A constant that must be there."""
        value = self.constant(name, what)
        if value is None:
            raise UnsupportedNode(f"its {what} are missing")
        return value


def array(tensor: torch.Tensor, what: str) -> Array:
    """A dense CPU tensor as float64 (or its own integer type)."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UnsupportedNode(f"its {what} are {'quantized' if tensor.is_quantized else tensor.layout}; dense numbers were expected")
    return np.asarray((tensor.to(torch.float64) if tensor.is_floating_point() else tensor).detach().contiguous().numpy())


def _pair(values: Any) -> tuple[int, ...]:
    result = tuple(values) if isinstance(values, list | tuple) else (values,)
    return result * 2 if len(result) == 1 else result


def _conv(a: Arguments) -> Feature:
    if a.get("transposed"):
        raise UnsupportedNode("a transposed convolution; only plain ones are supported")
    weight, bias = a.needed("weight", "weights"), a.constant("bias", "biases")
    stride = check_conv(weight.shape, _pair(a["stride"]), _pair(a["dilation"]), a["groups"])
    real(weight, "weights")
    padding = a["padding"]
    if isinstance(padding, str):
        if padding not in ("valid", "same") or (padding == "same" and stride != 1):
            raise UnsupportedNode(f"padding {padding!r} with stride {stride}")
        total = weight.shape[2] - 1 if padding == "same" else 0
        pads: Padding = (total // 2, total // 2, total - total // 2, total - total // 2)
    else:
        pads = _symmetric(padding)
    return a.canvas.conv(a.layer, a.feature(), weight, bias, stride, pads)


def _symmetric(padding: Any) -> Padding:
    pair = _pair(padding)
    if len(pair) != 2 or not all(0 <= p <= 64 for p in pair):
        raise UnsupportedNode(f"padding {text(pair)}; 0 to 64 in height and width was expected")
    return pair[0], pair[1], pair[0], pair[1]


def _max_pool(a: Arguments) -> Feature:
    kernel = square(_pair(a["kernel_size"]), "a window of")
    stride = square(_pair(a["stride"]), "stride") if a["stride"] else kernel
    if any(d != 1 for d in _pair(a["dilation"])):
        raise UnsupportedNode(f"dilation {text(_pair(a['dilation']))}; only 1 is supported")
    pads = _symmetric(a["padding"])
    return a.canvas.max_pool(a.layer, a.feature(), kernel, stride, pads, bool(a["ceil_mode"]))


def _adaptive_pool(a: Arguments) -> Feature:
    x = a.feature()
    if _pair(a["output_size"]) != (1, 1) and _pair(a["output_size"]) != x.shape[1:]:
        raise UnsupportedNode(f"averages to {text(_pair(a['output_size']))}; only the mean over the whole map (1x1) is supported")
    if x.layout != "NCHW":
        raise UnsupportedNode("reads no channels-first map")
    return x if _pair(a["output_size"]) == x.shape[1:] != (1, 1) else a.canvas.global_mean(a.layer, x)


def _average_pool(a: Arguments) -> Feature:
    x, kernel = a.feature(), _pair(a["kernel_size"])
    whole = kernel == x.shape[1:] and not any(_pair(a["padding"])) and a.get("divisor_override") is None
    if x.layout != "NCHW" or not whole:
        raise UnsupportedNode(f"averages over windows of {text(kernel)} on a map of {text(x.shape[1:])}; only the mean over the whole map is supported")
    return a.canvas.global_mean(a.layer, x)


def _mean(a: Arguments) -> Feature:
    if not a.get("dim"):
        raise UnsupportedNode("averages over all dimensions; the mean over height and width was expected")
    return a.canvas.mean(a.layer, a.feature(), _ints(a["dim"]), bool(a["keepdim"]))


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _batch_norm(a: Arguments) -> Feature:
    if a.get("training"):
        raise UnsupportedNode("normalizes by the batch; export the network for inference (model.eval())")
    mean, variance = (real(a.needed(key, "statistics"), "statistics") for key in ("running_mean", "running_var"))
    weight, bias = a.constant("weight", "scales"), a.constant("bias", "offsets")
    deviation = standard_deviation(variance, float(a["eps"]))
    scale = (np.ones_like(mean) if weight is None else real(weight, "scales")) / deviation
    offset = (np.zeros_like(mean) if bias is None else real(bias, "offsets")) - mean * scale
    x = a.feature()
    if x.channel_dim != 1 or scale.shape != (x.shape[0],):
        raise UnsupportedNode(f"{scale.size} channels on a tensor of shape {text(x.dims)}")
    return a.canvas.scale_offset(a.layer, x, scale, offset)


def _batch_norm_tuple(a: Arguments) -> Result:
    return _batch_norm(a), None, None


def _clip(low_name: str, high_name: str) -> Callable[[Arguments], Feature]:
    def apply(a: Arguments) -> Feature:
        low, high = (a.get(key) for key in (low_name, high_name))
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            raise UnsupportedNode("clips at tensors; numbers were expected")
        return a.canvas.clip(a.layer, a.feature(), None if low is None else float(low), None if high is None else float(high))

    return apply


def _arithmetic(a: Arguments) -> Feature:
    kind = a.op.removesuffix("_")
    if a.get("alpha", 1) != 1 or a.get("rounding_mode") is not None:
        raise UnsupportedNode("alpha or rounding_mode is set; plain arithmetic was expected")
    first, second = a["self"], a["other"]
    operands = [t for t in (first, second) if isinstance(t, Tensor)]
    if any(t.blocked for t in operands):
        raise BlockedNode
    if all(t.feature is not None for t in operands) and len(operands) == 2:
        if kind != "add":
            raise UnsupportedNode("only adding is supported between two feature maps")
        return a.canvas.add(a.layer, a.feature("self"), a.feature("other"))
    on_self = isinstance(first, Tensor) and first.feature is not None
    x = a.feature("self" if on_self else "other")
    other = second if on_self else first
    constant = array(other.constant, "operands") if isinstance(other, Tensor) and other.constant is not None else np.array(float(other))
    value = a.canvas.broadcast(x, constant)
    if kind == "div" and not on_self:
        raise UnsupportedNode("divides a constant by a feature map")
    one, nil = np.ones_like(value), np.zeros_like(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = {"add": one, "sub": one if on_self else -one, "mul": value, "div": one / value}[kind]
    offset = {"add": value, "sub": -value if on_self else value, "mul": nil, "div": nil}[kind]
    return a.canvas.scale_offset(a.layer, x, scale, offset)


def _cat(a: Arguments) -> Feature:
    return a.canvas.concat(a.layer, a.features("tensors"), a["dim"])


def _linear(a: Arguments) -> Feature:
    return a.canvas.linear(a.layer, a.feature(), a.needed("weight", "weights"), a.constant("bias", "biases"))


def _addmm(a: Arguments) -> Feature:
    if a["beta"] != 1 or a["alpha"] != 1:
        raise UnsupportedNode("alpha or beta is set; a plain linear layer was expected")
    return a.canvas.linear(a.layer, a.feature("mat1"), a.needed("mat2", "weights").T, a.needed("self", "biases").reshape(-1))


def _matmul(a: Arguments) -> Feature:
    weight = a.needed("mat2" if "mat2" in a.values else "other", "weights")
    return a.canvas.linear(a.layer, a.feature(), weight.T, None)


def _flatten(a: Arguments) -> Feature:
    x = a.open_feature()
    rank = len(x.dims)
    start, end = a["start_dim"] % rank, a["end_dim"] % rank
    return reshape(x, (*x.dims[:start], prod(x.dims[start : end + 1]), *x.dims[end + 1 :]))


def _view(a: Arguments) -> Feature:
    return reshape(a.open_feature(), _ints(a["size"] if "size" in a.values else a["shape"]))


def _squeeze(a: Arguments) -> Feature:
    x = a.open_feature()
    rank = len(x.dims)
    at = {d % rank for d in _ints(a["dim"])} if "dim" in a.values else set(range(rank))
    return reshape(x, tuple(d for i, d in enumerate(x.dims) if d != 1 or i not in at))


def _unsqueeze(a: Arguments) -> Feature:
    x = a.open_feature()
    at = a["dim"] % (len(x.dims) + 1)
    return reshape(x, (*x.dims[:at], 1, *x.dims[at:]))


def _permute(a: Arguments) -> Feature:
    x = a.feature()
    return transpose(x, tuple(d % len(x.dims) for d in a["dims"]))


def _transpose(a: Arguments) -> Feature:
    x = a.feature()
    order = list(range(len(x.dims)))
    i, j = a["dim0"], a["dim1"]
    order[i], order[j] = order[j], order[i]
    return transpose(x, tuple(order))


def _pad(a: Arguments) -> Feature:
    if a.get("mode", "constant") != "constant":
        raise UnsupportedNode(f"mode {a['mode']!r}; only constant zeros are supported")
    x, pads = a.feature(), _ints(a["pad"])
    rank = len(x.dims)
    if len(pads) % 2 or len(pads) > 2 * rank or max(pads, default=0) > 64:
        raise UnsupportedNode(f"paddings {text(pads)} of a tensor of {rank} dimensions; at most 64 each is supported")
    before, after = [0] * rank, [0] * rank
    for i in range(len(pads) // 2):  # torch counts from the last dimension
        before[rank - 1 - i], after[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    return a.canvas.pad(x, tuple(before), tuple(after), float(a["value"] or 0.0))


def _softmax(a: Arguments) -> Feature:
    x = unpadded(a.feature())
    dim, rank = a["dim"], len(x.dims)
    if x.shape[1:] != (1, 1) or not -rank <= dim < rank or x.dims[dim] != x.shape[0]:
        raise UnsupportedNode(f"normalizes dimension {dim} of a tensor of shape {text(x.dims)}; only over the class scores, at the end, it can be left out")
    return replace(x, tail=a.op.strip("_"))


def _dropout(a: Arguments) -> Feature:
    if a["train"]:
        raise UnsupportedNode("drops values at random (training); export the network for inference (model.eval())")
    return a.open_feature()


def _to(a: Arguments) -> Feature:
    if a.get("dtype") not in (None, torch.float32, torch.float64, 6, 7):
        raise UnsupportedNode("casts a feature map to another type than 32 or 64 bit floats")
    return a.open_feature()


def _size(a: Arguments) -> int:
    return int(a.open_feature().dims[a["dim"]])


def _relu(a: Arguments) -> Feature:
    return a.canvas.relu(a.layer, a.feature())


_same: Callable[[Arguments], Feature] = lambda a: a.open_feature()  # noqa: E731

HANDLERS: dict[str, Callable[[Arguments], Result]] = {
    "_adaptive_avg_pool2d": _adaptive_pool, "_convolution": _conv, "_convolution_mode": _conv, "_log_softmax": _softmax, "_softmax": _softmax,
    "_native_batch_norm_legit_no_training": _batch_norm_tuple,
    "_unsafe_view": _view, "adaptive_avg_pool2d": _adaptive_pool, "add": _arithmetic, "add_": _arithmetic, "addmm": _addmm,
    "alias": _same, "avg_pool2d": _average_pool, "batch_norm": _batch_norm, "cat": _cat, "clamp": _clip("min", "max"), "clamp_": _clip("min", "max"),
    "clamp_min": _clip("min", ""), "clamp_min_": _clip("min", ""), "clone": _same, "concat": _cat, "constant_pad_nd": _pad, "contiguous": _same,
    "conv2d": _conv, "convolution": _conv, "detach": _same, "div": _arithmetic, "div_": _arithmetic, "dropout": _dropout, "dropout_": _dropout,
    "feature_dropout": _dropout, "flatten": _flatten, "hardtanh": _clip("min_val", "max_val"), "hardtanh_": _clip("min_val", "max_val"),
    "linear": _linear, "log_softmax": _softmax, "matmul": _matmul, "max_pool2d": _max_pool, "max_pool2d_with_indices": lambda a: (_max_pool(a), None),
    "mean": _mean, "mm": _matmul, "mul": _arithmetic, "mul_": _arithmetic, "pad": _pad, "permute": _permute, "relu": _relu, "relu_": _relu,
    "relu6": lambda a: a.canvas.clip(a.layer, a.feature(), 0.0, 6.0), "relu6_": lambda a: a.canvas.clip(a.layer, a.feature(), 0.0, 6.0),
    "reshape": _view, "size": _size, "softmax": _softmax, "squeeze": _squeeze, "sub": _arithmetic, "sub_": _arithmetic, "sym_size": _size, "to": _to,
    "transpose": _transpose, "unsqueeze": _unsqueeze, "view": _view,
}  # fmt: skip
"""Operators by name."""

CONSTANT_OPS = frozenset(
    (
        "add", "alias", "clone", "contiguous", "detach", "div", "flatten", "mul", "permute", "reshape", "squeeze", "sub", "t", "to", "transpose",
        "unsqueeze", "view",
    )
)  # fmt: skip
"""Operators that may also work on constants, which torch then does at once."""
