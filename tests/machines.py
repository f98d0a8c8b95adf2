"""Quantized graphs for the hardware tests: real shapes, random integers (no trained weights)."""

from __future__ import annotations

import numpy as np

from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.ir import ceil_mode_extra, window_count
from fpga_squeeze.quantize.qgraph import QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph

ACT = TensorFormat(8, 4, signed=False)


class Machine:
    """Builds a QuantGraph layer by layer; each method returns the new tensor's name."""

    def __init__(self, channels: int, size: int, weight_bits: int = 8, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.weight_bits = weight_bits
        self.nodes = {"image": QNode("image", QInput(), (), (channels, size, size), TensorFormat(8, 0, signed=False))}

    def conv(self, name: str, source: str, channels: int, kernel: int, stride: int = 1, pad: int = 0) -> str:
        ic, h, w = self.nodes[source].shape
        half = 1 << (self.weight_bits - 1)
        weight = self.rng.integers(-half, half, (channels, ic, kernel, kernel), dtype=np.int32)
        bias = self.rng.integers(-500, 500, channels, dtype=np.int64)
        shift = self.rng.integers(4, 8, channels, dtype=np.int64)
        fmt_in = self.nodes[source].fmt
        low, high = accumulator_range(weight, bias, fmt_in.qmin, fmt_in.qmax)
        acc_bits = signed_bits(int(low.min()), int(high.max()))
        op = QConv(weight, self.weight_bits, shift, bias, shift, stride, (pad,) * 4, (0,) * ic, acc_bits)
        size = [window_count(n, kernel, stride, pad, pad) for n in (h, w)]
        return self._add(QNode(name, op, (source,), (channels, size[0], size[1]), ACT))

    def pool(self, name: str, source: str, kernel: int = 3, stride: int = 2, ceil_mode: bool = True) -> str:
        c, h, w = self.nodes[source].shape
        extra = [ceil_mode_extra(n, kernel, stride, 0) if ceil_mode else 0 for n in (h, w)]
        size = [window_count(n, kernel, stride, 0, e) for n, e in zip((h, w), extra, strict=True)]
        return self._add(QNode(name, QMaxPool(kernel, stride, (0, 0, extra[0], extra[1])), (source,), (c, size[0], size[1]), self.nodes[source].fmt))

    def fire(self, name: str, source: str, squeeze: int, one: int, three: int) -> str:
        s = self.conv(f"{name}.squeeze", source, squeeze, 1)
        a = self.conv(f"{name}.expand1x1", s, one, 1)
        b = self.conv(f"{name}.expand3x3", s, three, 3, 1, 1)
        return self._add(QNode(f"{name}.concat", QConcat(), (a, b), (one + three, *self.nodes[a].shape[1:]), ACT))

    def total(self, name: str, source: str) -> QuantGraph:
        self._add(QNode(name, QGlobalSum(), (source,), (self.nodes[source].shape[0], 1, 1), TensorFormat(32, 4, signed=True)))
        return self.build(name)

    def build(self, output: str) -> QuantGraph:
        return QuantGraph(tuple(self.nodes.values()), output)

    def _add(self, node: QNode) -> str:
        self.nodes[node.name] = node
        return node.name


FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


def squeezenet(version: str, size: int, weight_bits: int = 8, classes: int = 1000) -> QuantGraph:
    """SqueezeNet v1.0 or v1.1 with random weights: `version` "1.0" or "1.1"."""
    m = Machine(3, size, weight_bits)
    x = m.conv("conv1", "image", 96, 7, 2) if version == "1.0" else m.conv("conv1", "image", 64, 3, 2)
    x = m.pool("pool1", x)
    pools = {"1.0": (4, 8), "1.1": (3, 5)}[version]
    for i, (squeeze, expand) in FIRES.items():
        x = m.fire(f"fire{i}", x, squeeze, expand, expand)
        if i in pools:
            x = m.pool(f"pool{i}", x)
    return m.total("pool10", m.conv("conv10", x, classes, 1))


def tiny(seed: int = 0) -> QuantGraph:
    """conv1, pool, one fire, conv10 on a 16 x 16 image."""
    m = Machine(3, 16, seed=seed)
    x = m.fire("fire2", m.pool("pool1", m.conv("conv1", "image", 8, 3, 2)), 4, 8, 8)
    return m.total("pool10", m.conv("conv10", x, 10, 1))
