"""Evaluates the parts of an ONNX graph that depend on constants only: shapes for Reshape, transposed or dequantized weights, and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.load.features import UnsupportedNode, text

MAX_ELEMENTS = 128_000_000
Array = NDArray[Any]
Attrs = Mapping[str, Any]
_TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64,
    12: np.uint32, 13: np.uint64,
}  # fmt: skip


def evaluate(op: str, attrs: Attrs, inputs: list[Array | None]) -> Array:
    """The first result of `op` on constants. Raises UnsupportedNode when it is unknown, does not fit its inputs, or grows beyond all bounds."""
    function = FUNCTIONS.get(op)
    if function is None:
        raise UnsupportedNode("no constant can be computed with this operator")
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(function(attrs, inputs))
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise UnsupportedNode(f"does not fit its constant inputs ({type(error).__name__})") from error
    if result.size > MAX_ELEMENTS:
        raise UnsupportedNode(f"makes a constant of {result.size} numbers; at most {MAX_ELEMENTS} are supported")
    return result


def ints(values: Array | None) -> tuple[int, ...]:
    """A constant vector of integers (or a single one) as Python ints."""
    if values is None or values.dtype.kind not in "iu" or values.ndim > 1 or values.size > 64:
        raise UnsupportedNode("whole numbers, one a dimension, were expected as a constant")
    return tuple(int(v) for v in values.reshape(-1))


def axes_of(attrs: Attrs, inputs: list[Array | None], position: int = 1) -> tuple[int, ...] | None:
    """`axes` from the attribute (older operator sets) or the input (newer ones)."""
    if "axes" in attrs:
        return tuple(attrs["axes"])
    return ints(inputs[position]) if len(inputs) > position and inputs[position] is not None else None


def unsqueezed(dims: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with 1 put in at `axes` of the result."""
    rank = len(dims) + len(axes)
    at = sorted(a % rank if -rank <= a < rank else rank for a in axes)
    if len(set(at)) != len(at) or (at and at[-1] >= rank):
        raise UnsupportedNode(f"axes {text(axes)} do not fit a tensor of {len(dims)} dimensions")
    rest = iter(dims)
    return tuple(1 if i in at else next(rest) for i in range(rank))


def squeezed(dims: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """A shape without its ones at `axes`, or without any when None."""
    rank = len(dims)
    at = {a % rank for a in axes if -rank <= a < rank} if axes is not None else {i for i, d in enumerate(dims) if d == 1}
    if (axes is not None and len(at) != len(axes)) or any(dims[a] != 1 for a in at):
        raise UnsupportedNode(f"axes {text(axes or ())} of a tensor of shape {text(dims)} are not all of size 1")
    return tuple(d for i, d in enumerate(dims) if i not in at)


def reshape_target(attrs: Attrs, dims: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """ONNX's target shape with 0 (copy this dimension) replaced."""
    if attrs.get("allowzero"):
        return wanted
    if any(w == 0 and i >= len(dims) for i, w in enumerate(wanted)):
        raise UnsupportedNode(f"the target shape {text(wanted)} copies dimensions that a tensor of shape {text(dims)} has not")
    return tuple(dims[i] if w == 0 else w for i, w in enumerate(wanted))


def _bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    if min(shape, default=0) < 0 or prod(shape) > MAX_ELEMENTS:
        raise UnsupportedNode(f"makes a constant of shape {text(shape)}; at most {MAX_ELEMENTS} numbers are supported")
    return shape


def _constant(attrs: Attrs, _: list[Array | None]) -> Array:
    for key, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if key in attrs:
            return np.asarray(attrs[key], dtype=dtype)
    raise UnsupportedNode("a constant of this kind is not supported (a dense tensor or numbers were expected)")


def _slice(attrs: Attrs, x: list[Array | None]) -> Array:
    data = _some(x[0])
    starts, ends = (tuple(attrs["starts"]), tuple(attrs["ends"])) if "starts" in attrs else (ints(x[1]), ints(x[2]))
    axes = tuple(attrs["axes"]) if "axes" in attrs else ints(x[3]) if len(x) > 3 and x[3] is not None else tuple(range(len(starts)))
    steps = ints(x[4]) if len(x) > 4 and x[4] is not None else (1,) * len(starts)
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Attrs, list[Array | None]], Array]:
    def apply(_: Attrs, x: list[Array | None]) -> Array:
        a, b = _some(x[0]), _some(x[1])
        _bounded(np.broadcast_shapes(a.shape, b.shape))
        return np.asarray(function(a, b)).astype(np.result_type(a, b), copy=False)

    return apply


def _divide(a: Array, b: Array) -> Array:
    return np.trunc(np.asarray(a, dtype=np.float64) / b) if a.dtype.kind in "iu" else a / b


def _range(_: Attrs, x: list[Array | None]) -> Array:
    start, limit, delta = (float(_some(v).reshape(())) for v in x[:3])
    if delta == 0 or not (limit - start) / delta < MAX_ELEMENTS:
        raise UnsupportedNode("its range never ends or is too long")
    return np.arange(start, limit, delta).astype(_some(x[0]).dtype)


def dequantize(attrs: Attrs, x: list[Array | None]) -> Array:
    """(q - zero point) * scale, float32; scale and zero point for all or one along `axis`."""
    q, scale = _some(x[0]), _some(x[1])
    zero = x[2] if len(x) > 2 and x[2] is not None else np.zeros(scale.shape, dtype=q.dtype)
    shape = [1] * q.ndim
    if scale.size > 1:
        shape[int(attrs.get("axis", 1))] = scale.size
    offset = np.asarray(zero, dtype=np.int64).reshape(shape if scale.size > 1 else ())
    return ((q.astype(np.int64) - offset) * scale.reshape(shape if scale.size > 1 else ())).astype(np.float32)


def _some(x: Array | None) -> Array:
    if x is None:
        raise UnsupportedNode("an input that it needs is left out")
    return x


def _unary(function: Callable[[Array], Array]) -> Callable[[Attrs, list[Array | None]], Array]:
    return lambda _, x: np.asarray(function(_some(x[0]))).astype(_some(x[0]).dtype, copy=False)


FUNCTIONS: dict[str, Callable[[Attrs, list[Array | None]], Array]] = {
    "Add": _binary(np.add),
    "Cast": lambda a, x: _some(x[0]).astype(_TYPES[a["to"]]),
    "CastLike": lambda a, x: _some(x[0]).astype(_some(x[1]).dtype),
    "Concat": lambda a, x: np.concatenate([_some(v) for v in x], axis=a["axis"]),
    "Constant": _constant,
    "ConstantOfShape": lambda a, x: np.full(_bounded(ints(x[0])), a["value"].reshape(()) if "value" in a else np.float32(0)),
    "DequantizeLinear": dequantize,
    "Div": _binary(_divide),
    "Dropout": lambda a, x: _some(x[0]),
    "Expand": lambda a, x: _some(x[0]) * np.ones(_bounded(np.broadcast_shapes(_some(x[0]).shape, ints(x[1]))), dtype=_some(x[0]).dtype),
    "Flatten": lambda a, x: _some(x[0]).reshape(prod(_some(x[0]).shape[: a.get("axis", 1)]), -1),
    "Floor": _unary(np.floor),
    "Gather": lambda a, x: np.take(_some(x[0]), _some(x[1]), axis=a.get("axis", 0)),
    "Identity": lambda a, x: _some(x[0]),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Pow": _binary(np.power),
    "Range": _range,
    "Reciprocal": _unary(lambda v: 1 / v),
    "ReduceProd": lambda a, x: np.prod(_some(x[0]), axis=axes_of(a, x), keepdims=bool(a.get("keepdims", 1))),
    "Reshape": lambda a, x: _some(x[0]).reshape(reshape_target(a, _some(x[0]).shape, ints(x[1]))),
    "Shape": lambda a, x: np.array(_some(x[0]).shape[a.get("start", 0) : a.get("end")], dtype=np.int64),
    "Slice": _slice,
    "Sqrt": _unary(np.sqrt),
    "Squeeze": lambda a, x: _some(x[0]).reshape(squeezed(_some(x[0]).shape, axes_of(a, x))),
    "Sub": _binary(np.subtract),
    "Transpose": lambda a, x: np.transpose(_some(x[0]), a.get("perm")),
    "Unsqueeze": lambda a, x: _some(x[0]).reshape(unsqueezed(_some(x[0]).shape, axes_of(a, x) or ())),
}
"""Operators by name: (attributes, inputs) -> first result."""
