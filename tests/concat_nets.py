"""Small networks with general concats and with long bypasses, as quantized graphs with random integers."""

from __future__ import annotations

import random

from hls_cases import NetBuilder
from residual_nets import PAD, add

from fpga_squeeze.quantize.qgraph import QConcat, QNode, QuantGraph


def concat(net: NetBuilder, name: str, a: str, b: str) -> str:
    """Channels of `a`, then of `b`, which share one format."""
    nodes = {n.name: n for n in net.nodes}
    first, second = nodes[a], nodes[b]
    assert first.fmt == second.fmt
    net.nodes.append(QNode(name, QConcat(), (a, b), (first.shape[0] + second.shape[0], *first.shape[1:]), first.fmt))
    return name


def dense(size: int = 10) -> QuantGraph:
    """A DenseNet in small: each layer's input with its result, either first; channel counts without a common divisor."""
    net = NetBuilder(11)
    x = net.conv("conv1", net.image(3, size, size), 5, 3, padding=PAD)
    x = concat(net, "d1.cat", x, net.conv("d1", x, 3, 3, padding=PAD))
    x = concat(net, "d2.cat", net.conv("d2", x, 7, 3, padding=PAD), x)
    return net.finish(net.conv("conv10", x, 5, 1))


def pairs(size: int = 12) -> QuantGraph:
    """Two convolutions that are no Fire pair: 1x1 | 5x5 with stride 2, 3x3 | 1x1, and two of one kernel."""
    net = NetBuilder(12)
    x = net.conv("conv1", net.image(3, size, size), 4, 3, padding=PAD)
    x = concat(net, "p1.cat", net.conv("p1.one", x, 3, 1, 2), net.conv("p1.five", x, 5, 5, 2, (2, 2, 2, 2)))
    x = concat(net, "p2.cat", net.conv("p2.three", x, 6, 3, padding=PAD), net.conv("p2.one", x, 4, 1))
    x = concat(net, "p3.cat", net.conv("p3.a", x, 4, 3, padding=PAD), net.conv("p3.b", x, 4, 3, padding=PAD))
    return net.finish(net.conv("conv10", x, 5, 1))


def chains(size: int = 12) -> QuantGraph:
    """Bypasses through a pool and through several stages: an inception block of two branches, a pool beside a convolution of stride 2, a long shortcut."""
    net = NetBuilder(13)
    x = net.conv("conv1", net.image(3, size, size), 4, 3, padding=PAD)
    y = net.conv("i1.c", net.conv("i1.b", net.conv("i1.a", x, 4, 1), 6, 3, padding=PAD), 6, 3, padding=PAD)
    x = concat(net, "i1.cat", net.conv("i1.project", net.pool("i1.pool", x, 3, 1, PAD), 3, 1), y)
    x = concat(net, "down.cat", net.conv("down.conv", x, 6, 3, 2, PAD), net.pool("down.pool", x, 2, 2))
    y = net.conv("s.m3", net.conv("s.m2", net.conv("s.m1", x, 6, 3, padding=PAD), 6, 3, padding=PAD), 6, 3, padding=PAD)
    z = net.conv("s.b2", net.conv("s.b1", x, 4, 1), 6, 3, padding=PAD)
    return net.finish(net.conv("conv10", add(net, "s.add", z, y), 5, 1))


NETS = {"dense": dense, "pairs": pairs, "chains": chains}


def random_dag(seed: int) -> QuantGraph:
    """A random network of the supported form: blocks of a main branch and a bypass that meet in an addition or a concat, plain layers between them."""
    draw = random.Random(seed)
    net = NetBuilder(seed)
    x = net.conv("stem", net.image(3, draw.randint(6, 10), draw.randint(6, 10)), draw.randint(2, 6), 3, padding=PAD)

    def channels(name: str) -> int:
        return int(net._node(name).shape[0])

    def branch(name: str, source: str, layers: int, stride: int, out: int) -> str:
        """`layers` convolutions or pools, the first of them with the stride, the last of them a convolution of `out` channels."""
        for i in range(layers):
            step = stride if i == 0 else 1
            if i + 1 < layers and draw.random() < 0.3:
                source = net.pool(f"{name}.pool{i}", source, 3, step, PAD)
                continue
            kernel = draw.choice([1, 3, 3, 5])
            source = net.conv(f"{name}.conv{i}", source, out if i + 1 == layers else draw.randint(2, 6), kernel, step, (kernel // 2,) * 4)
        return source

    for block in range(draw.randint(1, 3)):
        name = f"b{block}"
        stride = draw.choice([1, 1, 2]) if min(net._node(x).shape[1:]) >= 6 else 1
        kind, identity = draw.choice(["add", "cat"]), stride == 1 and draw.random() < 0.5
        out = channels(x) if kind == "add" and identity else draw.randint(2, 7)
        main = branch(f"{name}.m", x, draw.randint(1, 3), stride, out)
        if identity:
            side = x
        elif kind == "cat" and draw.random() < 0.3:
            side = net.pool(f"{name}.s", x, 3, stride, PAD)
        else:
            side = branch(f"{name}.s", x, draw.randint(1, 2), stride, out if kind == "add" else draw.randint(2, 7))
        operands = (main, side) if draw.random() < 0.5 else (side, main)
        x = add(net, f"{name}.add", *operands, (0, 0), 0) if kind == "add" else concat(net, f"{name}.cat", *operands)
        if draw.random() < 0.5:
            x = net.conv(f"{name}.next", x, draw.randint(2, 6), 3, padding=PAD)
    return net.finish(net.conv("last", x, 3, 1))
