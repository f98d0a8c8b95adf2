"""Random quantized graphs for tests: every operator, every width, both signs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Input, MaxPool, Padding, Shape, window_count
from fpga_squeeze.quantize.qgraph import QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph

PIXELS = TensorFormat(8, 0, signed=False)


def image_node(shape: Shape, fmt: TensorFormat = PIXELS) -> QNode:
    """The QInput node `image`."""
    return QNode("image", QInput(), (), shape, fmt)


def conv_node(
    name: str, source: QNode, weight: np.ndarray, bias: np.ndarray, shift: np.ndarray, fmt: TensorFormat,
    stride: int = 1, padding: Padding = (0, 0, 0, 0), pad_value: tuple[int, ...] | None = None, weight_bits: int = 8,
) -> QNode:  # fmt: skip
    """A QConv on `source` whose accumulator width is proven from its weights."""
    ic, h, w = source.shape
    pad_value = pad_value or (0,) * ic
    bias, shift = np.asarray(bias, dtype=np.int64), np.asarray(shift, dtype=np.int64)
    low, high = accumulator_range(weight, bias, min(source.fmt.qmin, *pad_value), max(source.fmt.qmax, *pad_value))
    acc_bits = signed_bits(int(min(low.min(), 0)), int(max(high.max(), 0)))
    frac = shift - source.fmt.frac + fmt.frac
    op = QConv(np.asarray(weight, dtype=np.int32), weight_bits, frac, bias, shift, stride, padding, pad_value, acc_bits)
    k = op.kernel
    shape = (len(bias), window_count(h, k, stride, padding[0], padding[2]), window_count(w, k, stride, padding[1], padding[3]))
    return QNode(name, op, (source.name,), shape, fmt)


def random_conv(
    rng: np.random.Generator, name: str, source: QNode, channels: int, kernel: int, fmt: TensorFormat,
    stride: int = 1, padding: Padding = (0, 0, 0, 0), weight_bits: int = 8, pads: bool = False, shift: int | None = None,
) -> QNode:  # fmt: skip
    """A convolution of random weights whose shifts put the results around the output range, so that both limits and ties occur."""
    ic = source.shape[0]
    limit = 1 << (weight_bits - 1)
    weight = rng.integers(-limit, limit, size=(channels, ic, kernel, kernel))
    pad_value = tuple(int(v) for v in rng.integers(source.fmt.qmin, source.fmt.qmax + 1, size=ic)) if pads else None
    typical = limit * source.fmt.qmax * np.sqrt(ic * kernel * kernel) / 2
    centre = int(np.round(np.log2(max(typical, 1.0) / max(fmt.qmax, 1)))) if shift is None else shift
    shifts = centre + rng.integers(-1, 2, size=channels)
    bias = rng.integers(-int(typical) - 1, int(typical) + 2, size=channels)
    return conv_node(name, source, weight, bias, shifts, fmt, stride, padding, pad_value, weight_bits)


def sum_node(name: str, source: QNode) -> QNode:
    """The class sums of `source`."""
    return QNode(name, QGlobalSum(), (source.name,), (source.shape[0], 1, 1), TensorFormat(32, source.fmt.frac, signed=True))


def pool_node(name: str, source: QNode, kernel: int, stride: int, padding: Padding) -> QNode:
    """A max pool on `source`."""
    c, h, w = source.shape
    shape = (c, window_count(h, kernel, stride, padding[0], padding[2]), window_count(w, kernel, stride, padding[1], padding[3]))
    return QNode(name, QMaxPool(kernel, stride, padding), (source.name,), shape, source.fmt)


def graph(*nodes: QNode) -> QuantGraph:
    """The nodes in order, the last one the output."""
    return QuantGraph(tuple(nodes), nodes[-1].name)


def replace_node(qgraph: QuantGraph, name: str, **changes: object) -> QuantGraph:
    """The same graph with some fields of one operator changed."""
    nodes = tuple(replace(n, op=replace(n.op, **changes)) if n.name == name else n for n in qgraph.nodes)  # type: ignore[type-var]
    return QuantGraph(nodes, qgraph.output)


def fire_network(seed: int = 0, classes: int = 7, size: int = 21) -> Graph:
    """A lowered float network: conv1 with folded preprocessing, pools, two Fire modules, conv10 and the global mean."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder()
    x = b.add("image", Input((3, size, size)), ())

    def conv(name: str, source: str, oc: int, k: int, padding: int = 0, stride: int = 1, gain: float = 1.0, pads: bool = False) -> str:
        ic = b.shape(source)[0]
        weight = rng.standard_normal((oc, ic, k, k)) * gain * np.sqrt(2.0 / (ic * k * k))
        values = (104.2, 116.7, 122.9) if pads else None
        return b.add(name, Conv(weight, rng.standard_normal(oc) * 0.1, stride, (padding,) * 4, True, values), (source,))

    x = conv("conv1", x, 8, 3, padding=1, stride=2, gain=1 / 64, pads=True)
    x = b.add("pool1", MaxPool(3, 2, (0, 0, 1, 1)), (x,))
    for i in (2, 3):
        squeeze = conv(f"fire{i}.squeeze", x, 4, 1)
        one, three = conv(f"fire{i}.expand1x1", squeeze, 6, 1), conv(f"fire{i}.expand3x3", squeeze, 6, 3, padding=1)
        x = b.add(f"fire{i}.concat", Concat(), (one, three))
    x = conv("conv10", x, classes, 1)
    return b.build(b.add("pool10", GlobalAveragePool(), (x,)))


def bypass_network(relu: bool) -> Graph:
    """Two branches of very different scale, added; signed where `relu` is False."""
    rng = np.random.default_rng(3)
    b = GraphBuilder()
    x = b.add("image", Input((3, 9, 9)), ())
    a = b.add("a", Conv(rng.standard_normal((6, 3, 3, 3)) / 300, rng.standard_normal(6) * 0.1, 1, (1,) * 4, relu), (x,))
    c = b.add("c", Conv(rng.standard_normal((6, 3, 1, 1)) / 10, rng.standard_normal(6), 1, (0,) * 4, relu), (x,))
    x = b.add("add", Add(relu), (a, c))
    x = b.add("conv10", Conv(rng.standard_normal((5, 6, 1, 1)), np.zeros(5), relu=True), (x,))
    return b.build(b.add("sum", GlobalAveragePool(), (x,)))
