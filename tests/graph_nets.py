"""Networks that are no chain with bypasses: branches that fork again, joins of branches, branches that overtake each other; as quantized graphs with random
integers."""

from __future__ import annotations

import random

from concat_nets import concat
from hls_cases import NetBuilder
from residual_nets import PAD, add

from fpga_squeeze.quantize.qgraph import QuantGraph

SUM = ((0, 0), 0)
"""Alignment and shift of an addition whose result has its operands' format, so that it can be concatenated with them."""


def side_by_side(size: int = 10) -> QuantGraph:
    """Two residual blocks on one tensor, of different length, summed."""
    net = NetBuilder(21)
    x = net.conv("stem", net.image(3, size, size), 4, 3, padding=PAD)
    a = add(net, "a.add", net.conv("a.c2", net.conv("a.c1", x, 4, 3, padding=PAD), 4, 3, padding=PAD), x, *SUM)
    b = add(net, "b.add", net.conv("b.c1", x, 4, 3, padding=PAD), x, *SUM)
    return net.finish(net.conv("last", add(net, "sum", a, b, *SUM), 3, 1))


def inception_c(size: int = 10) -> QuantGraph:
    """A split whose branches both fork again into two 3x3s and are concatenated, as the widest block of Inception v3; beside them a pool."""
    net = NetBuilder(22)
    x = net.conv("stem", net.image(3, size, size), 5, 3, padding=PAD)
    p = net.conv("p.in", x, 4, 1)
    left = concat(net, "p.cat", net.conv("p.a", p, 3, 3, padding=PAD), net.conv("p.b", p, 2, 3, padding=PAD))
    q = net.conv("q.mid", net.conv("q.in", x, 3, 1), 4, 3, padding=PAD)
    right = concat(net, "q.cat", net.conv("q.a", q, 3, 3, padding=PAD), net.conv("q.b", q, 3, 3, padding=PAD))
    y = concat(net, "cat", concat(net, "cat.join1", left, right), net.conv("pool.project", net.pool("pool", x, 3, 1, PAD), 2, 1))
    return net.finish(net.conv("last", y, 3, 1))


def overtaking(size: int = 12) -> QuantGraph:
    """Strided branches, each ahead of the other somewhere: without padding in the middle of the map, with padding at its bottom; then a wide branch beside
    a main branch that forks itself and looks nowhere ahead."""
    net = NetBuilder(23)
    x = net.conv("stem", net.image(3, size, size), 4, 3, padding=PAD)
    x = concat(net, "down", net.conv("d.two", x, 3, 2, 2), net.conv("d.three", x, 4, 3, 2, (1, 1, 0, 0)))
    y = net.conv("m1", x, 4, 1)
    inner = add(net, "inner", net.conv("m2", y, 4, 1), y, *SUM)
    return net.finish(net.conv("last", add(net, "sum", inner, net.conv("wide", x, 4, 5, padding=(2, 2, 2, 2)), *SUM), 3, 1))


def itself(size: int = 8) -> QuantGraph:
    """A tensor added to itself and one concatenated with itself; and the image read twice."""
    net = NetBuilder(24)
    image = net.image(3, size, size)
    x = concat(net, "twice.cat", *[net.conv("stem", image, 4, 3, padding=PAD)] * 2)
    x = add(net, "twice.add", x, x, *SUM)
    y = net.conv("other", net.conv("early", image, 3, 3, padding=PAD), 8, 1)
    return net.finish(net.conv("last", add(net, "sum", x, y, *SUM), 3, 1))


NETS = {"side_by_side": side_by_side, "inception_c": inception_c, "overtaking": overtaking, "itself": itself}


def random_graph(seed: int) -> QuantGraph:
    """A random network: each layer reads any earlier tensors that fit it, so that tensors have several readers and joins join anything; what is left unread
    is brought to one size and concatenated."""
    draw = random.Random(seed)
    net = NetBuilder(seed)
    image = net.image(3, draw.randint(7, 12), draw.randint(7, 12))
    tensors = [net.conv("stem", image, draw.randint(2, 6), 3, padding=PAD)]
    unread = set(tensors)

    def shape(name: str) -> tuple[int, int, int]:
        return net._node(name).shape

    def new(name: str, *inputs: str) -> None:
        unread.difference_update(inputs)
        unread.add(name)
        tensors.append(name)

    def source() -> str:
        # Later tensors more often: depth as well as width.
        return draw.choice([image, *tensors, *tensors[-3:], *tensors[-3:]])

    for i in range(draw.randint(4, 11)):
        kind = draw.choice(["conv", "conv", "pool", "add", "add", "cat"])
        a = source()
        if kind in ("add", "cat") and a != image:
            same = [t for t in tensors if shape(t)[1:] == shape(a)[1:] and (kind == "cat" or shape(t) == shape(a))]
            b = draw.choice(same)
            if kind == "add":
                new(add(net, f"n{i}.add", a, b, *SUM), a, b)
            elif shape(a)[0] + shape(b)[0] <= 16:
                new(concat(net, f"n{i}.cat", a, b), a, b)
            continue
        small = min(shape(a)[1:]) < 6
        stride = 1 if small else draw.choice([1, 1, 1, 2])
        if kind == "pool" and a != image:
            kernel = draw.choice([2, 3]) if stride == 2 else 3
            new(net.pool(f"n{i}.pool", a, kernel, stride, PAD if kernel == 3 else (0, 0, 0, 0)), a)
        else:
            kernel = draw.choice([1, 3, 3, 5])
            new(net.conv(f"n{i}", a, draw.randint(2, 6), kernel, stride, (kernel // 2,) * 4), a)
    ends = [t for t in tensors if t in unread]
    while len(ends) > 1:
        ends.sort(key=lambda t: shape(t)[1] * shape(t)[2])
        a, b = ends[:2]
        (_, low, narrow), (_, high, wide) = shape(a), shape(b)
        if (low, narrow) != (high, wide):
            # A window that covers what is too much.
            b = net.conv(f"fit.{b}", b, 3, high - low + 1, padding=(0, 0, 0, 0)) if high - low == wide - narrow and high - low < 7 else _halved(net, b)
            ends = [a, b, *ends[2:]]
            continue
        ends = [concat(net, f"{a}.{b}", a, b), *ends[2:]]
    return net.finish(net.conv("last", ends[0], 3, 1))


def _halved(net: NetBuilder, name: str) -> str:
    return net.conv(f"half.{name}", name, 3, 3, 2, PAD)
