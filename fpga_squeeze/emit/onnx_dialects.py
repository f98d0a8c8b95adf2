"""How each dialect writes numbers: QDQ with integer tensors between QuantizeLinear and DequantizeLinear, QONNX with Quant nodes on float carriers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from fpga_squeeze.emit.onnx_builder import FLOAT, INT64, QONNX_DOMAIN, UINT8, OnnxBuilder
from fpga_squeeze.emit.onnx_exact import check_exponents
from fpga_squeeze.fixed_point import Int64, TensorFormat, signed_bits
from fpga_squeeze.quantize.qgraph import QNode

PIXELS_DOC = "uint8 pixels, channels in the order RGB, rows from the top"
NATIVE_BITS = (8, 16)


def powers(name: str, exponents: NDArray[np.integer] | int) -> NDArray[np.float32]:
    """2^exponents as float32, exactly. Raises InputError outside the range of EXPONENTS."""
    values = np.asarray(exponents, dtype=np.int64)
    check_exponents(name, values)
    return np.asarray(np.ldexp(np.float32(1.0), values.astype(np.int32)), dtype=np.float32)


def storage_type(low: int, high: int, signed: bool) -> type[np.integer]:
    """The smallest native integer type that holds [low, high].

    >>> storage_type(0, 15, False).__name__, storage_type(-129, 3, True).__name__
    ('uint8', 'int16')
    """
    types: tuple[type[np.integer], ...] = (np.int8, np.int16, np.int32, np.int64) if signed else (np.uint8, np.uint16, np.uint32, np.uint64)
    return next(t for t in types if np.iinfo(t).min <= low and high <= np.iinfo(t).max)


class Dialect(Protocol):
    """Writes constants and stage tensors; `real` tensors are float32 values q * 2^-frac, exact."""

    def input(self, node: QNode) -> None:
        """Declare the graph's input."""

    def weight(self, name: str, values: Int64, frac: Int64, bits: int) -> str:
        """A weight tensor (OC, IC, K, K) as real values; `frac` per output channel."""

    def bias(self, name: str, values: Int64, frac: Int64) -> str:
        """A bias (OC,) within +-2^24 as real values."""

    def activation(self, node: QNode, real: str, rectify: bool) -> None:
        """Quantize a real tensor: round half to even, clamp to the node's format. The result is the tensor that carries the node's name."""

    def real(self, node: QNode) -> str:
        """The real values of a stage tensor."""

    def integers(self, node: QNode) -> str:
        """The integers of a stage tensor, int64."""


class Qdq:
    """Stage tensors are integers (uint8, int8, uint16, int16)."""

    def __init__(self, builder: OnnxBuilder) -> None:
        self._b = builder
        self._scales: dict[str, str] = {}
        self._reals: dict[str, str] = {}

    def input(self, node: QNode) -> None:
        """uint8 (N, C, H, W)."""
        self._b.declare_input(node.name, UINT8, node.shape, PIXELS_DOC)

    def weight(self, name: str, values: Int64, frac: Int64, bits: int) -> str:
        """int8 or int16 initialiser behind DequantizeLinear along axis 0."""
        dtype = storage_type(int(values.min()), int(values.max()), signed=True)
        constant = self._b.initializer(name, values.astype(dtype))
        scale = self._b.initializer(f"{name}/scale", powers(name, -frac))
        # Its own, not a shared one: ONNX Runtime's s8-to-u8 rewrite of weights refuses a zero point that two weights share.
        zero = self._b.initializer(f"{name}/zero_point", np.zeros(len(frac), dtype=dtype))
        return self._b.node("DequantizeLinear", (constant, scale, zero), f"{name}/dequantize", FLOAT, values.shape, axis=0, doc=f"{bits}-bit weights")

    def bias(self, name: str, values: Int64, frac: Int64) -> str:
        """int32 initialiser behind DequantizeLinear at the accumulator's scale."""
        constant = self._b.initializer(name, values.astype(np.int32))
        scale = self._b.initializer(f"{name}/scale", powers(name, -frac))
        return self._b.node("DequantizeLinear", (constant, scale), f"{name}/dequantize", FLOAT, values.shape, axis=0)

    def activation(self, node: QNode, real: str, rectify: bool) -> None:
        """[Relu | Clip] -> QuantizeLinear. Widths without a native type are clipped before: rounding keeps the integers that the limits are."""
        b, fmt, shape = self._b, node.fmt, (self._b.batch, *node.shape)
        if rectify and fmt.bits not in NATIVE_BITS:
            low, high = (b.initializer(f"{node.name}/{limit}", powers(node.name, -fmt.frac) * np.float32(q)) for limit, q in _limits(fmt))
            real = b.node("Clip", (real, low, high), f"{node.name}/clip", FLOAT, shape, doc=f"the limits of {_describe(fmt)}")
        elif rectify and not fmt.signed:
            real = b.node("Relu", (real,), f"{node.name}/relu", FLOAT, shape)
        scale, zero, dtype = self._grid(node)
        onnx_type = _onnx_type(dtype)
        b.node("QuantizeLinear", (real, scale, zero), f"{node.name}/quantize", onnx_type, shape, output=node.name, doc=_describe(fmt))

    def real(self, node: QNode) -> str:
        """The stage tensor behind one DequantizeLinear, shared by its readers."""
        if node.name not in self._reals:
            scale, zero, _ = self._grid(node)
            shape = (self._b.batch, *node.shape)
            self._reals[node.name] = self._b.node("DequantizeLinear", (node.name, scale, zero), f"{node.name}/dequantize", FLOAT, shape)
        return self._reals[node.name]

    def integers(self, node: QNode) -> str:
        """Cast of the stage tensor."""
        return self._b.node("Cast", (node.name,), f"{node.name}/integers", INT64, (self._b.batch, *node.shape), to=INT64)

    def _grid(self, node: QNode) -> tuple[str, str, type[np.integer]]:
        dtype = storage_type(node.fmt.qmin, node.fmt.qmax, node.fmt.signed)
        if node.name not in self._scales:
            self._scales[node.name] = self._b.initializer(f"{node.name}/scale", powers(node.name, -node.fmt.frac))
        return self._scales[node.name], self._b.shared(f"zero_{np.dtype(dtype).name}", np.zeros((), dtype=dtype)), dtype


class Qonnx:
    """Stage tensors are float32 real values on the grid of their Quant node; no standard ONNX runtime executes Quant."""

    def __init__(self, builder: OnnxBuilder) -> None:
        self._b = builder

    def input(self, node: QNode) -> None:
        """float32 (1, C, H, W) that carries uint8 integers, as QONNX and FINN annotate it."""
        self._b.declare_input(node.name, FLOAT, node.shape, PIXELS_DOC, "UINT8")

    def weight(self, name: str, values: Int64, frac: Int64, bits: int) -> str:
        """float32 initialiser behind Quant, one scale an output channel."""
        return self._constant(name, values, frac, bits)

    def bias(self, name: str, values: Int64, frac: Int64) -> str:
        """float32 initialiser behind Quant at the accumulator's scale."""
        return self._constant(name, values, frac, signed_bits(int(values.min()), int(values.max())))

    def activation(self, node: QNode, real: str, rectify: bool) -> None:
        """[Relu] -> Quant."""
        shape = (self._b.batch, *node.shape)
        if rectify and not node.fmt.signed:
            real = self._b.node("Relu", (real,), f"{node.name}/relu", FLOAT, shape)
        scale = self._b.initializer(f"{node.name}/scale", powers(node.name, -node.fmt.frac))
        self._quant(node.name, real, scale, node.fmt.bits, node.fmt.signed, shape, node.name)

    def real(self, node: QNode) -> str:
        """The stage tensor itself."""
        return node.name

    def integers(self, node: QNode) -> str:
        """Real values by 2^frac, cast."""
        b, shape = self._b, (self._b.batch, *node.shape)
        steps = b.node("Mul", (node.name, b.initializer(f"{node.name}/steps", powers(node.name, node.fmt.frac))), f"{node.name}/to_steps", FLOAT, shape)
        return b.node("Cast", (steps,), f"{node.name}/integers", INT64, shape, to=INT64)

    def _constant(self, name: str, values: Int64, frac: Int64, bits: int) -> str:
        scale = powers(name, -frac).reshape(-1, *(1,) * (values.ndim - 1))
        constant = self._b.initializer(name, values.astype(np.float32) * scale)
        # The executor has its own meaning for a signed width of 1, the two values -1 and +1.
        return self._quant(name, constant, self._b.initializer(f"{name}/scale", scale), max(bits, 2), True, values.shape, None)

    def _quant(self, name: str, source: str, scale: str, bits: int, signed: bool, shape: tuple[int | str, ...], output: str | None) -> str:
        zero = self._b.shared("zero", np.zeros((), dtype=np.float32))
        width = self._b.shared(f"bits_{bits}", np.array(bits, dtype=np.float32))
        return self._b.node(
            "Quant", (source, scale, zero, width), f"{name}/quant", FLOAT, shape, output=output, domain=QONNX_DOMAIN,
            signed=int(signed), narrow=0, rounding_mode="ROUND", doc=f"{bits} bits, {'signed' if signed else 'unsigned'}",
        )  # fmt: skip


def _limits(fmt: TensorFormat) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("min", fmt.qmin), ("max", fmt.qmax)


def _describe(fmt: TensorFormat) -> str:
    return f"{'signed' if fmt.signed else 'unsigned'}, {fmt.bits} bits, scale 2^{-fmt.frac}"


def _onnx_type(dtype: type[np.integer]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
