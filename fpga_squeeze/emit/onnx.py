"""QuantGraph -> ONNX: the machine's arithmetic for any runtime that computes float convolutions in float32 and keeps the graph as it is.

Two dialects: "qdq" (standard QuantizeLinear/DequantizeLinear, integer initialisers, uint8 input) and "qonnx" (Quant nodes). Scales are powers of
two, zero points 0. A tensor that carries a QuantGraph node's name holds that node's integers (qdq) or integers * 2^-frac (qonnx). The output is
the exact class sums, int64 (N, classes).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fpga_squeeze.emit.onnx_builder import DOUBLE, FLOAT, INT64, OnnxBuilder
from fpga_squeeze.emit.onnx_dialects import Dialect, Qdq, Qonnx, powers, storage_type
from fpga_squeeze.emit.onnx_exact import FLOAT32_EXACT, ConvSplit, add_bound, check_exponents, split_conv
from fpga_squeeze.errors import InputError
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph

DIALECTS = ("qdq", "qonnx")
FILES = {"qdq": "model/quantized.onnx", "qonnx": "model/quantized_qonnx.onnx"}
OPSET, OPSET_16_BIT = 13, 21
"""The first opset with scales per channel, and the first whose QuantizeLinear knows 16-bit integers."""


def onnx_files(qgraph: QuantGraph, dialect: str) -> dict[str, bytes]:
    """model/quantized.onnx always; with dialect "qonnx" model/quantized_qonnx.onnx beside it."""
    return {FILES[name]: emit_onnx(qgraph, name) for name in DIALECTS if name in ("qdq", dialect)}


def emit_onnx(qgraph: QuantGraph, dialect: str = "qdq") -> bytes:
    """The model as bytes; the same graph gives the same bytes.

    Raises:
        InputError: a scale beyond float32, sums beyond 2^53, or an unknown dialect.
    """
    if dialect not in DIALECTS:
        raise InputError(f"ONNX dialect: one of {', '.join(DIALECTS)} was expected, got {dialect!r}")
    return _Emitter(qgraph, dialect).run()


class _Emitter:
    def __init__(self, qgraph: QuantGraph, dialect: str) -> None:
        convs = [n for n in qgraph.nodes if isinstance(n.op, QConv)]
        stages = [n for n in qgraph.nodes if not isinstance(n.op, QGlobalSum)]
        self.splits = {n.name: split_conv(n.name, n.op, qgraph[n.inputs[0]].fmt) for n in convs if isinstance(n.op, QConv)}
        constants = [storage_type(int(d.values.min()), int(d.values.max()), signed=True) for s in self.splits.values() for d in s.digits]
        wide = any(n.fmt.bits > 8 for n in stages) or any(t is not np.int8 for t in constants)
        self.qgraph = qgraph
        self.name = dialect
        # qonnx executes with the shapes that the file states, so that its batch is 1.
        self.b = OnnxBuilder(OPSET_16_BIT if wide else OPSET, "N" if dialect == "qdq" else 1, frozenset(n.name for n in qgraph.nodes))
        self.dialect: Dialect = Qdq(self.b) if dialect == "qdq" else Qonnx(self.b)

    def run(self) -> bytes:
        for node in self.qgraph.nodes:
            self._emit(node)
        last = self.qgraph[self.qgraph.output]
        classes = int(np.prod(last.shape))
        integers = last.name if isinstance(last.op, QGlobalSum) else self.dialect.integers(last)
        output = self.b.node("Flatten", (integers,), "class_sums", INT64, (self.b.batch, classes), axis=1)
        doc = "Fixed-point network as fpga-squeeze builds it: scales are powers of two, zero points 0; a tensor with a layer's name holds its integers"
        if self.name == "qonnx":
            doc += " times its scale"
        output_doc = f"exact sums over the map per class, int64; divide by {last_area(self.qgraph)} * 2^{last.fmt.frac} for the mean"
        return self.b.build("quantized", f"{doc}.", output, output_doc, {"dialect": self.name})

    def _emit(self, node: QNode) -> None:
        op = node.op
        if isinstance(op, QInput):
            self.dialect.input(node)
        elif isinstance(op, QConv):
            self._conv(node, op)
        elif isinstance(op, QMaxPool):
            self._pool(node, op)
        elif isinstance(op, QConcat):
            self._reals("Concat", node, axis=1)
        elif isinstance(op, QAdd):
            self._add(node, op)
        else:
            integers = self.dialect.integers(self.qgraph[node.inputs[0]])
            axes = self.b.shared("map_axes", np.array([2, 3], dtype=np.int64))
            self.b.node("ReduceSum", (integers, axes), node.name, INT64, self._shape(node), output=node.name, keepdims=1)

    def _shape(self, node: QNode) -> tuple[int | str, ...]:
        return (self.b.batch, *node.shape)

    def _source(self, node: QNode, i: int = 0) -> str:
        return self.dialect.real(self.qgraph[node.inputs[i]])

    def _reals(self, op: str, node: QNode, **attributes: Any) -> None:
        """An operator whose float result lies on the node's grid already."""
        inputs = tuple(self._source(node, i) for i in range(len(node.inputs)))
        self.dialect.activation(node, self.b.node(op, inputs, node.name, FLOAT, self._shape(node), **attributes), rectify=False)

    def _pool(self, node: QNode, op: QMaxPool) -> None:
        """MaxPool ignores padded positions. The far padding is cut to what windows reach: runtimes refuse one as large as the kernel."""
        source, (top, left, _, _) = self.qgraph[node.inputs[0]].shape, op.padding
        sides = zip(node.shape[1:], source[1:], (top, left), strict=True)
        bottom, right = (max(0, (out - 1) * op.stride + op.kernel - size - near) for out, size, near in sides)
        self._reals("MaxPool", node, kernel_shape=[op.kernel] * 2, strides=[op.stride] * 2, pads=[top, left, bottom, right])

    def _add(self, node: QNode, op: QAdd) -> None:
        a, b = (self.qgraph[i] for i in node.inputs)
        frac = node.fmt.frac + op.shift
        check_exponents(node.name, np.array([-frac]))
        bound = add_bound(op, (a.fmt, b.fmt))
        reals = (self._source(node, 0), self._source(node, 1))
        if bound <= FLOAT32_EXACT:
            doc = f"sums within {bound} steps of 2^{-frac}: exact in float32"
            self.dialect.activation(node, self.b.node("Add", reals, node.name, FLOAT, self._shape(node), doc=doc), rectify=True)
            return
        wide = tuple(self._cast(real, f"{node.name}/operand{i}", DOUBLE) for i, real in enumerate(reals))
        doc = f"sums reach {bound} steps of 2^{-frac}, beyond 2^24: added in float64"
        self._round_wide(node, self.b.node("Add", wide, node.name, DOUBLE, self._shape(node), doc=doc))

    def _conv(self, node: QNode, op: QConv) -> None:
        source = self.qgraph[node.inputs[0]]
        split = self.splits[node.name]
        frac = op.weight_frac + source.fmt.frac
        check_exponents(node.name, -frac)
        x, pads = self._pad(node, op)
        attributes: dict[str, Any] = {"kernel_shape": [op.kernel] * 2, "strides": [op.stride] * 2, "pads": pads}
        if not split.whole:
            self._conv_wide(node, op, x, attributes)
            return
        weight = self.dialect.weight(f"{node.name}/weight", split.digits[0].values, op.weight_frac, op.weight_bits)
        bias = self.dialect.bias(f"{node.name}/bias", op.bias, frac)
        doc = f"{op.weight_bits}-bit weights, accumulators of {op.acc_bits} bits; no partial sum exceeds {split.bound} <= 2^24: exact in float32"
        self.dialect.activation(node, self.b.node("Conv", (x, weight, bias), node.name, FLOAT, self._shape(node), doc=doc, **attributes), rectify=True)

    def _conv_wide(self, node: QNode, op: QConv, x: str, attributes: dict[str, Any]) -> None:
        """A float32 convolution for each pair of digits, added in float64 with the bias."""
        split, frac_in = self.splits[node.name], self.qgraph[node.inputs[0]].fmt.frac
        inputs = self._input_digits(node, x, split, frac_in)
        doc = f"part of a sum of {op.acc_bits} bits; no partial sum exceeds {split.bound} <= 2^24 steps: exact in float32"
        bias = self.b.initializer(f"{node.name}/bias", op.bias.astype(storage_type(int(op.bias.min()), int(op.bias.max()), signed=True)).reshape(-1, 1, 1))
        scale = self.b.initializer(f"{node.name}/bias/scale", powers(node.name, -(op.weight_frac + frac_in)).astype(np.float64).reshape(-1, 1, 1))
        shape = (len(op.bias), 1, 1)
        total = self.b.node("Mul", (self._cast(bias, f"{node.name}/bias/cast", DOUBLE), scale), f"{node.name}/bias/dequantize", DOUBLE, shape)
        for j, digit in enumerate(split.digits):
            name = f"{node.name}/weight" if len(split.digits) == 1 else f"{node.name}/weight/digit{j}"
            bits = op.weight_bits if len(split.digits) == 1 else digit_bits(digit.values)
            weight = self.dialect.weight(name, digit.values, op.weight_frac - digit.position, bits)
            for i, part in enumerate(inputs):
                name = node.name if len(inputs) * len(split.digits) == 1 else f"{node.name}/part{j * len(inputs) + i}"
                product = self.b.node("Conv", (part, weight), name, FLOAT, self._shape(node), doc=doc, **attributes)
                wide = self._cast(product, f"{name}/cast", DOUBLE)
                total = self.b.node("Add", (wide, total), f"{name}/sum", DOUBLE, self._shape(node))
        self._round_wide(node, total)

    def _input_digits(self, node: QNode, x: str, split: ConvSplit, frac: int) -> list[str]:
        """x with its low bits cleared, position by position; a digit is the difference of two neighbours."""
        shape, cleared = self.b.shape(x), [x]
        for position in split.positions[1:]:
            name = f"{node.name}/input/bit{position}"
            up = self.b.initializer(f"{name}/scale_up", powers(node.name, frac - position))
            down = self.b.initializer(f"{name}/scale_down", powers(node.name, position - frac))
            steps = self.b.node("Mul", (x, up), f"{name}/to_steps", FLOAT, shape)
            floor = self.b.node("Floor", (steps,), f"{name}/floor", FLOAT, shape)
            cleared.append(self.b.node("Mul", (floor, down), name, FLOAT, shape))
        digits = [
            self.b.node("Sub", (low, high), f"{node.name}/input/digit{i}", FLOAT, shape)
            for i, (low, high) in enumerate(pairwise(cleared))
        ]
        return [*digits, cleared[-1]]

    def _pad(self, node: QNode, op: QConv) -> tuple[str, list[int]]:
        """The input as the convolution reads it, and the zero padding that is left to the convolution.

        A pad value per channel that is not 0 becomes x - value, zero padding, + value: exact, whatever the values are.
        """
        x, source = self._source(node), self.qgraph[node.inputs[0]]
        top, left, bottom, right = op.padding
        if not any(op.padding) or not any(op.pad_value):
            return x, [top, left, bottom, right]
        c, h, w = source.shape
        values = np.array(op.pad_value, dtype=np.float32).reshape(-1, 1, 1) * powers(node.name, -source.fmt.frac)
        name = f"{node.name}/pad"
        constant = self.b.initializer(f"{name}/values", values.astype(np.float32))
        shifted = self.b.node("Sub", (x, constant), f"{name}/subtract", FLOAT, self.b.shape(x))
        amounts = self.b.initializer(f"{name}/amounts", np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64))
        shape = (self.b.batch, c, h + top + bottom, w + left + right)
        padded = self.b.node("Pad", (shifted, amounts), f"{name}/zeros", FLOAT, shape, mode="constant")
        return self.b.node("Add", (padded, constant), name, FLOAT, shape, doc=f"padding of {', '.join(map(str, op.pad_value))} by channel"), [0, 0, 0, 0]

    def _round_wide(self, node: QNode, real: str) -> None:
        """Round and clamp in float64 (a cast of the sum would round twice); what is left fits float32."""
        b, shape, fmt = self.b, self._shape(node), node.fmt
        up = b.initializer(f"{node.name}/steps", powers(node.name, fmt.frac).astype(np.float64))
        steps = b.node("Mul", (real, up), f"{node.name}/to_steps", DOUBLE, shape)
        rounded = b.node("Round", (steps,), f"{node.name}/round", DOUBLE, shape)
        low, high = (b.initializer(f"{node.name}/round/{limit}", np.array(q, dtype=np.float64)) for limit, q in (("min", fmt.qmin), ("max", fmt.qmax)))
        clipped = b.node("Clip", (rounded, low, high), f"{node.name}/round/clip", DOUBLE, shape)
        down = b.initializer(f"{node.name}/step", powers(node.name, -fmt.frac))
        narrow = self._cast(clipped, f"{node.name}/narrow", FLOAT)
        self.dialect.activation(node, b.node("Mul", (narrow, down), f"{node.name}/to_real", FLOAT, shape), rectify=False)

    def _cast(self, tensor: str, name: str, dtype: int) -> str:
        return self.b.node("Cast", (tensor,), name, dtype, self.b.shape(tensor), to=dtype)


def digit_bits(values: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Signed width that holds every value, at least 2."""
    top = int(max(values.max(), -values.min() - 1, 1))
    return top.bit_length() + 1


def last_area(qgraph: QuantGraph) -> int:
    """Positions over which the class sums run."""
    last = qgraph[qgraph.output]
    _, h, w = qgraph[last.inputs[0]].shape if isinstance(last.op, QGlobalSum) else (1, 1, 1)
    return h * w
