"""Quantization with formats that the model brings along (QAT checkpoints, ONNX files that are quantized already): nothing is chosen here.

Weights are rounded half to even at the given scales and saturated, biases at the accumulator's scale; no equalization, no error compensation,
no bias correction. The integers are thus a pure function of the weights and the formats, which training computes in the very same way.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool, Node
from fpga_squeeze.prescribed import Prescribed
from fpga_squeeze.quantize.formats import FRAC_LIMIT
from fpga_squeeze.quantize.ptq import ACT_BITS, WEIGHT_BITS, assemble_conv, quantize_other, sum_format
from fpga_squeeze.quantize.qgraph import QConv, QGlobalSum, QNode, QuantGraph
from fpga_squeeze.quantize.weights import round_weights

__all__ = ["Prescribed", "prescribed_of", "quantize_prescribed"]

_PIXELS = TensorFormat(8, 0, signed=False)


def quantize_prescribed(graph: Graph, prescribed: Prescribed) -> QuantGraph:
    """The machine of a lowered graph in the formats prescribed.

    Raises InputError naming the layer: a convolution or addition without a format, a name that is no layer, a format that the operator or the
    machine does not allow (widths, signs that contradict the ReLU, branches that must share one format), a scale beyond the machine's limits.
    """
    _check_names(graph, prescribed)
    formats: dict[str, TensorFormat] = {}
    nodes: list[QNode] = []
    for node in graph.nodes:
        if isinstance(node.op, GlobalAveragePool):
            fmt = sum_format(graph, node, formats)
            _expect(node, prescribed.activations.get(node.name, fmt) == fmt, f"an exact sum has {_text(fmt)}; leave its format out")
        else:
            fmt = formats[node.name] = _format(node, prescribed, formats)
        quantized = _conv(node, (formats[node.inputs[0]], fmt), prescribed) if isinstance(node.op, Conv) else quantize_other(graph, node, formats)
        nodes.append(QNode(node.name, quantized, node.inputs, node.shape, fmt))
    return QuantGraph(tuple(nodes), graph.output)


def prescribed_of(qgraph: QuantGraph) -> Prescribed:
    """The formats of a quantized graph, such as post-training quantization chose."""
    activations = {n.name: n.fmt for n in qgraph.nodes if not isinstance(n.op, QGlobalSum)}
    weights = {n.name: (n.op.weight_bits, tuple(int(f) for f in n.op.weight_frac)) for n in qgraph.nodes if isinstance(n.op, QConv)}
    return Prescribed(activations, weights)


def _conv(node: Node, formats: tuple[TensorFormat, TensorFormat], prescribed: Prescribed) -> QConv:
    op = node.op
    assert isinstance(op, Conv)
    bits, fracs = prescribed.weights[node.name]
    _expect(node, WEIGHT_BITS[0] <= bits <= WEIGHT_BITS[1], f"{WEIGHT_BITS[0]} to {WEIGHT_BITS[1]} weight bits were expected, {bits} are prescribed")
    _expect(node, len(fracs) == len(op.bias), f"it has {len(op.bias)} output channels, weight scales are prescribed for {len(fracs)}")
    frac = np.array(fracs, dtype=np.int64)
    weight = round_weights(op.weight, frac, bits, None)
    return assemble_conv(node.name, op, formats, bits, frac, weight, op.bias)


def _check_names(graph: Graph, prescribed: Prescribed) -> None:
    convolutions = {n.name for n in graph.nodes if isinstance(n.op, Conv)}
    for name in prescribed.activations:
        if name not in graph.by_name:
            raise InputError(f"layer {name}: a format is prescribed for it, but the network has no such layer")
    for name in prescribed.weights:
        if name not in convolutions:
            raise InputError(f"layer {name}: weight scales are prescribed for it, but it is no convolution of the network")
    for node in graph.nodes:
        _expect(node, node.name in prescribed.weights or node.name not in convolutions, "no weight scales are prescribed for it")


def _format(node: Node, prescribed: Prescribed, formats: dict[str, TensorFormat]) -> TensorFormat:
    op = node.op
    if isinstance(op, Input):
        fmt = prescribed.activations.get(node.name, _PIXELS)
        _expect(node, fmt == _PIXELS, f"pixels are {_text(_PIXELS)}, {_text(fmt)} is prescribed")
        return fmt
    passed_on = formats[node.inputs[0]] if isinstance(op, MaxPool | Concat) else None
    found = prescribed.activations.get(node.name, passed_on)
    if found is None:
        raise InputError(f"layer {node.name}: no output format is prescribed for it")
    if passed_on is not None:
        different = [i for i in node.inputs if formats[i] != found]
        if different:
            text = f"it must have its inputs' format, but it is {_text(found)} and {different[0]} {_text(formats[different[0]])}"
            raise InputError(f"layer {node.name}: {text}")
        return found
    low, high = ACT_BITS
    _expect(node, low <= found.bits <= high, f"{low} to {high} activation bits were expected, {found.bits} are prescribed")
    _expect(node, abs(found.frac) <= FRAC_LIMIT, f"a frac between -{FRAC_LIMIT} and {FRAC_LIMIT} was expected, {found.frac} is prescribed")
    if isinstance(op, Conv | Add):
        reach = found.qmax * found.scale
        _expect(node, op.cap is None or reach <= op.cap, f"its upper limit is {op.cap}, but {_text(found)} holds up to {reach:g}, so the limit would be lost")
        rectified = op.relu or (isinstance(op, Add) and not any(formats[i].signed for i in node.inputs))
        if op.relu or not rectified:
            _expect(node, found.signed is not op.relu, f"its output {'is' if op.relu else 'is not'} rectified, {_text(found)} is prescribed")
    return found


def _text(fmt: TensorFormat) -> str:
    return f"{'signed' if fmt.signed else 'unsigned'} {fmt.bits} bits with frac {fmt.frac}"


def _expect(node: Node, condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"layer {node.name}: {message}")
