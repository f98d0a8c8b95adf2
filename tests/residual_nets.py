"""Small networks with bypasses, as quantized graphs with random integers and as float graphs, for the tests of forks and additions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hls_cases import NetBuilder

from fpga_squeeze import passes
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, Conv, GlobalAveragePool, Graph, GraphBuilder, Input, MaxPool, Relu
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QAdd, QNode, QuantGraph

PAD = (1, 1, 1, 1)


def add(net: NetBuilder, name: str, a: str, b: str, align: tuple[int, int] = (0, 0), shift: int = 1) -> str:
    """An addition of two tensors of one shape; unsigned 8-bit result."""
    nodes = {n.name: n for n in net.nodes}
    frac = nodes[a].fmt.frac + align[0] - shift
    net.nodes.append(QNode(name, QAdd(align, shift), (a, b), nodes[a].shape, TensorFormat(8, frac, signed=False)))
    return name


def simple(size: int = 12) -> QuantGraph:
    """A Fire with an identity around it."""
    net = NetBuilder(1)
    x = net.conv("conv1", net.image(3, size, size), 8, 3, padding=PAD)
    return net.finish(net.conv("conv10", add(net, "fire2.add", x, net.fire("fire2", x, 4, 4, 4)), 5, 1))


def complex_bypass(size: int = 12) -> QuantGraph:
    """A Fire with a 1x1 convolution around it, signed as in the family, and scales that differ."""
    net = NetBuilder(2)
    x = net.conv("conv1", net.image(3, size, size), 6, 3, padding=PAD)
    y = net.fire("fire2", x, 4, 6, 6)
    z = net.conv("fire2.bypass", x, 12, 1, fmt=TensorFormat(8, 3, signed=True))
    return net.finish(net.conv("conv10", add(net, "fire2.add", y, z, (0, 1), 1), 5, 1))


def residual(size: int = 12) -> QuantGraph:
    """A ResNet in small: a block with an identity, then one with stride 2 and a strided 1x1 convolution on the bypass."""
    net = NetBuilder(3)
    x = net.conv("conv1", net.image(3, size, size), 8, 3, padding=PAD)
    y = net.conv("block1.conv2", net.conv("block1.conv1", x, 8, 3, padding=PAD), 8, 3, padding=PAD)
    x = add(net, "block1.add", y, x)
    y = net.conv("block2.conv2", net.conv("block2.conv1", x, 8, 3, 2, PAD), 8, 3, padding=PAD)
    z = net.conv("block2.short", x, 8, 1, 2)
    return net.finish(net.conv("conv10", add(net, "block2.add", z, y), 5, 1))


def nested(size: int = 10) -> QuantGraph:
    """Bypasses inside bypasses, two that begin at one tensor, one from the image itself, and two that overlap without nesting."""
    net = NetBuilder(4)
    image = net.image(4, size, size)
    x = add(net, "a.add", net.conv("a", image, 4, 3, padding=PAD, fmt=TensorFormat(8, 0, signed=False)), image)
    y = net.conv("b", x, 4, 3, padding=PAD, fmt=TensorFormat(8, -1, signed=False))
    inner = add(net, "c.add", net.conv("c", y, 4, 3, padding=PAD, fmt=TensorFormat(8, -1, signed=False)), y)
    outer = add(net, "d.add", net.conv("d", inner, 4, 1, fmt=TensorFormat(8, -1, signed=False)), x, (0, 0))
    over = add(net, "e.add", net.conv("e", outer, 4, 3, padding=PAD, fmt=TensorFormat(8, -2, signed=False)), inner)
    return net.finish(net.conv("conv10", over, 3, 1))


def float_residual(classes: int = 4, size: int = 14) -> Graph:
    """A small residual network as a front end would build it: ReLU behind each sum, stride 2 with a projection, max pool, global mean."""
    rng = np.random.default_rng(5)
    b = GraphBuilder()

    def conv(name: str, x: str, out: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        into = b.shape(x)[0]
        weight = rng.normal(0, (2 / (into * kernel**2)) ** 0.5, (out, into, kernel, kernel))
        pad = kernel // 2
        x = b.add(name, Conv(weight, rng.normal(0, 0.1, out), stride, (pad,) * 4), (x,))
        return b.add(f"{name}.relu", Relu(), (x,)) if relu else x

    x = conv("conv1", b.add("image", Input((3, size, size)), ()), 8, 3)
    x = b.add("pool1", MaxPool(2, 2), (x,))
    y = conv("block1.conv2", conv("block1.conv1", x, 8, 3), 8, 3, relu=False)
    x = b.add("block1.relu", Relu(), (b.add("block1.add", Add(), (y, x)),))
    y = conv("block2.conv2", conv("block2.conv1", x, 12, 3, 2), 12, 3, relu=False)
    x = b.add("block2.relu", Relu(), (b.add("block2.add", Add(), (y, conv("block2.project", x, 12, 1, 2, relu=False))),))
    return b.build(b.add("mean", GlobalAveragePool(), (conv("classify", x, classes, 1),)))


def float_plain(classes: int = 4, size: int = 14) -> Graph:
    """A small plain network: 5x5, 3x3 with stride 2, pool, 1x1, global mean."""
    rng = np.random.default_rng(6)
    b = GraphBuilder()
    x = b.add("image", Input((1, size, size)), ())
    for name, out, kernel, stride in (("c1", 6, 5, 1), ("c2", 8, 3, 2), ("c3", classes, 1, 1)):
        into = b.shape(x)[0]
        weight = rng.normal(0, (2 / (into * kernel**2)) ** 0.5, (out, into, kernel, kernel))
        x = b.add(f"{name}.relu", Relu(), (b.add(name, Conv(weight, rng.normal(0, 0.1, out), stride, (kernel // 2,) * 4), (x,)),))
        x = b.add("pool", MaxPool(3, 2, (0, 0, 1, 1)), (x,)) if name == "c1" else x
    return b.build(b.add("mean", GlobalAveragePool(), (x,)))


def quantized(graph: Graph) -> QuantGraph:
    """Calibrated on random pixels, 8 bits throughout."""
    from fpga_squeeze.load.preprocess import read_preprocess

    channels, size, _ = graph.input.shape
    lowered = passes.lower(graph, read_preprocess("torchvision" if channels == 3 else "digits", size, size, channels))
    pixels = np.random.default_rng(7).integers(0, 256, (8, *graph.input.shape), dtype=np.uint8)
    return quantize(lowered, calibrate(lowered, pixels), QuantOptions())


def with_depth(out: Path, bypass: str, depth: int, top: str = "squeezenet") -> None:
    """Give the FIFO of `bypass` in an RTL folder another depth."""
    path = out / f"rtl/{top}.sv"
    text, count = re.subn(rf"\.DEPTH\(\d+\)(, \.STYLE\(\d\))?\) {bypass}_fifo", rf".DEPTH({depth})\1) {bypass}_fifo", path.read_text())
    assert count == 1
    path.write_text(text)
