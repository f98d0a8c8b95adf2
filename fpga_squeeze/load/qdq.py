"""ONNX files that are quantized already (QuantizeLinear and DequantizeLinear around float operators): their formats, to be taken as they are.

The machine's numbers are q * 2^-f with zero point 0, so every scale must be a power of two and every zero point 0. An int8 tensor that never gets
negative holds 0..127: that is the machine's unsigned 7-bit format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, BatchNorm, Concat, Conv, Graph, MaxPool, Node, Relu
from fpga_squeeze.load.features import UnsupportedNode
from fpga_squeeze.prescribed import Prescribed

PIXELS = TensorFormat(8, 0, signed=False)
_WIDTHS = {np.dtype(np.uint8): (8, False), np.dtype(np.int8): (8, True), np.dtype(np.uint16): (16, False), np.dtype(np.int16): (16, True)}
Array = NDArray[Any]


@dataclass(frozen=True)
class ConstantFormat:
    """A quantized constant: `fracs` one for all or one along `axis`."""

    bits: int
    fracs: tuple[int, ...]
    axis: int


@dataclass(eq=False)
class QdqRecord:
    """What a file prescribes: formats of IR nodes (before lowering), of constants by tensor name, of convolutions' weights by IR node."""

    activations: dict[str, TensorFormat] = field(default_factory=dict)
    constants: dict[str, ConstantFormat] = field(default_factory=dict)
    weights: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)

    def activation(self, node: str, fmt: TensorFormat) -> None:
        """A tensor's format; the same again is fine, as each reader may have a pair of its own."""
        known = self.activations.setdefault(node, fmt)
        if known != fmt:
            raise UnsupportedNode(f"quantizes the same tensor as {_text(fmt)} here and as {_text(known)} before; the machine has one format a tensor")


def power_of_two(scale: float) -> int:
    """The frac of a scale 2^-frac. Raises UnsupportedNode for any other number.

    >>> power_of_two(0.125), power_of_two(4.0)
    (3, -2)
    """
    mantissa, exponent = frexp(scale) if np.isfinite(scale) else (0.0, 0)
    if mantissa != 0.5:
        raise UnsupportedNode(f"the scale {scale:.9g} is no power of two; quantize with power-of-two scales, or export the float model")
    return 1 - exponent


def tensor_format(scale: Array, zero: Array | None) -> TensorFormat:
    """The format that a scale and a zero point (uint8 when left out) mean. Raises UnsupportedNode when the machine has no such format."""
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise UnsupportedNode("a scale for each channel of a feature map; one for the whole tensor was expected")
    if zero is not None and int(zero.reshape(())) != 0:
        raise UnsupportedNode(f"the zero point {int(zero.reshape(()))}; only 0 is supported (symmetric quantization)")
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if dtype not in _WIDTHS:
        raise UnsupportedNode(f"quantizes to {dtype}; 8 or 16 bits were expected")
    bits, signed = _WIDTHS[dtype]
    return TensorFormat(bits, power_of_two(float(scale.reshape(()))), signed)


def constant_format(attrs: Mapping[str, Any], values: Array, scale: Array, zero: Array | None) -> ConstantFormat:
    """The format of a quantized weight or bias. Raises UnsupportedNode when the machine has no such format."""
    if zero is not None and np.any(zero):
        raise UnsupportedNode("a zero point other than 0; only symmetric quantization is supported")
    if attrs.get("block_size", 0) or scale.ndim > 1:
        raise UnsupportedNode("scales for blocks of weights; one for all or one an output channel was expected")
    if values.dtype.kind != "i":
        raise UnsupportedNode(f"weights of {values.dtype}; signed integers were expected")
    fracs = tuple(power_of_two(float(s)) for s in scale.reshape(-1))
    return ConstantFormat(values.dtype.itemsize * 8, fracs, int(attrs.get("axis", 1)) if scale.size > 1 else 0)


def weight_format(constant: ConstantFormat, shape: tuple[int, ...], channel_axis: int) -> tuple[int, tuple[int, ...]]:
    """(bits, one frac an output channel) of a layer's weights, whose output channels lie along `channel_axis`."""
    channels = shape[channel_axis]
    if len(constant.fracs) == 1:
        return constant.bits, constant.fracs * channels
    if constant.axis % len(shape) != channel_axis or len(constant.fracs) != channels:
        raise UnsupportedNode(f"weight scales along axis {constant.axis}; one for all or one an output channel was expected")
    return constant.bits, constant.fracs


def resolve(graph: Graph, record: QdqRecord) -> tuple[Prescribed, dict[str, str]]:
    """The formats by the names that the lowered graph will have, and these names for every node of `graph`.

    Raises UnsupportedNode naming the layer for what the formats do not cover or the machine cannot honour.
    """
    if "image" not in record.activations:
        raise UnsupportedNode("its layers are quantized but the image is not; quantize it to uint8 at scale 1")
    norm = next((n.name for n in graph.nodes if isinstance(n.op, BatchNorm)), None)
    if norm is not None:
        raise UnsupportedNode(f"layer {norm} scales a tensor of a quantized network by float numbers; fold it before quantizing")
    lowered: dict[str, str] = {}
    for n in graph.nodes:
        lowered[n.name] = lowered[n.inputs[0]] if isinstance(n.op, Relu) else n.name
    formats: dict[str, TensorFormat] = {}
    for name, fmt in record.activations.items():
        if name not in graph.by_name:
            continue
        wanted = _rectified(fmt) if fmt.signed and _never_negative(graph, graph[name]) else fmt
        known = formats.setdefault(lowered[name], wanted)
        if known != wanted:
            raise UnsupportedNode(f"layer {name}: quantized as {_text(known)} and again as {_text(wanted)}; the machine rounds a tensor once")
    for n in reversed(graph.nodes):
        if isinstance(n.op, MaxPool | Concat) and n.name in formats:
            for source in n.inputs:
                formats.setdefault(lowered[source], formats[n.name])  # rounding commutes with taking the maximum and with joining
    lacking = [n.name for n in graph.nodes if isinstance(n.op, Conv) and n.name not in record.weights]
    if lacking:
        raise UnsupportedNode(f"layers without quantized weights: {', '.join(lacking[:20])}; all of a quantized network's layers must have them")
    unrounded = [n.name for n in graph.nodes if isinstance(n.op, Conv | Add) and n.name not in formats]
    if unrounded:
        raise UnsupportedNode(f"layers whose results are not quantized: {', '.join(unrounded[:20])}; all of a quantized network's layers must be")
    formats.pop(graph.output, None)
    return Prescribed(formats, {name: w for name, w in record.weights.items() if name in graph.by_name}), lowered


def _rectified(fmt: TensorFormat) -> TensorFormat:
    return TensorFormat(fmt.bits - 1, fmt.frac, signed=False)


def _never_negative(graph: Graph, node: Node) -> bool:
    """Whether the lowered node rectifies: a ReLU, or what only a ReLU reads, or pools and concats of such."""
    while isinstance(node.op, MaxPool):
        node = graph[node.inputs[0]]
    if isinstance(node.op, Concat):
        return all(_never_negative(graph, graph[i]) for i in node.inputs)
    readers = graph.consumers(node.name)
    return isinstance(node.op, Relu) or (isinstance(node.op, Conv | Add) and bool(readers) and all(isinstance(r.op, Relu) for r in readers))


def _text(fmt: TensorFormat) -> str:
    return f"{'signed' if fmt.signed else 'unsigned'} {fmt.bits} bits at scale {fmt.scale:g}"
