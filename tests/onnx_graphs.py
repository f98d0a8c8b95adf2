"""Random quantized graphs for the ONNX tests: chains with every operator, and a runner of the emitted file."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from quant_graphs import graph, image_node, pool_node, random_conv, sum_node

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import window_count
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QNode, QuantGraph

ACT_WIDTHS = (4, 5, 7, 8, 8, 9, 12, 15, 16)
WEIGHT_WIDTHS = (2, 3, 5, 8, 8, 9, 12, 16)


def add_node(name: str, a: QNode, b: QNode, fmt: TensorFormat) -> QNode:
    """The bypass sum of two tensors of one shape."""
    finest = max(a.fmt.frac, b.fmt.frac)
    return QNode(name, QAdd((finest - a.fmt.frac, finest - b.fmt.frac), finest - fmt.frac), (a.name, b.name), a.shape, fmt)


def concat_node(name: str, *sources: QNode) -> QNode:
    """The channels of `sources`, which have one format."""
    channels = sum(s.shape[0] for s in sources)
    return QNode(name, QConcat(), tuple(s.name for s in sources), (channels, *sources[0].shape[1:]), sources[0].fmt)


def random_network(seed: int, layers: int = 5) -> QuantGraph:
    """A chain of convolutions, pools, fires and bypass sums over random widths, signs, scales, strides and paddings; legal by construction and checked."""
    choose, rng = random.Random(seed), np.random.default_rng(seed)
    x = image_node((choose.choice([1, 3]), choose.randint(9, 14), choose.randint(9, 14)))
    nodes = [x]

    def fmt() -> TensorFormat:
        return TensorFormat(choose.choice(ACT_WIDTHS), choose.randint(-3, 9), signed=choose.random() < 0.4)

    def conv(name: str, source: QNode, channels: int, kernel: int, form: TensorFormat, *, same: bool = False) -> QNode:
        stride = 1 if same else choose.choice([1, 1, 2, 3])
        near, far = (kernel - 1) // 2, kernel // 2
        pad = (near, near, far, far) if same else tuple(choose.randint(0, kernel) for _ in range(4))
        bits = choose.choice(WEIGHT_WIDTHS)
        nodes.append(random_conv(rng, name, source, channels, kernel, form, stride, pad, bits, pads=choose.random() < 0.5))  # type: ignore[arg-type]
        return nodes[-1]

    for i in range(layers):
        _, h, w = x.shape
        kind = choose.choice(["conv", "conv", "pool", "fire", "add"])
        if kind == "pool" and min(h, w) > 1:
            k = choose.randint(2, min(4, h, w))
            pad = (choose.randint(0, k - 1), choose.randint(0, k - 1), choose.randint(0, k - 1), choose.randint(0, k - 1))
            stride = choose.randint(1, 3)
            if min(window_count(h, k, stride, pad[0], pad[2]), window_count(w, k, stride, pad[1], pad[3])) > 0:
                nodes.append(pool_node(f"n{i}", x, k, stride, pad))
        elif kind == "fire":
            form = fmt()
            squeeze = conv(f"n{i}.squeeze", x, choose.randint(1, 4), 1, fmt(), same=True)
            branches = (conv(f"n{i}.expand1x1", squeeze, choose.randint(1, 5), 1, form, same=True), conv(f"n{i}.expand3x3", squeeze, 3, 3, form, same=True))
            nodes.append(concat_node(f"n{i}.concat", *branches))
        elif kind == "add":
            other = conv(f"n{i}.branch", x, x.shape[0], choose.choice([1, 3]), fmt(), same=True)
            nodes.append(add_node(f"n{i}", x, other, fmt()))
        else:
            k = min(choose.choice([1, 2, 3, 5]), h, w)
            conv(f"n{i}", x, choose.randint(1, 7), k, fmt())
        x = nodes[-1]
    nodes.append(sum_node("total", x))
    top = max(abs(x.fmt.qmin), x.fmt.qmax) * x.shape[1] * x.shape[2]
    nodes[-1] = replace(nodes[-1], fmt=replace(nodes[-1].fmt, bits=max(32, top.bit_length() + 1)))
    result = graph(*nodes)
    verify_quantized(result)
    return result


def run_ort(model: bytes, frames: NDArray[np.uint8], level: str = "ORT_DISABLE_ALL") -> dict[str, NDArray[np.generic]]:
    """Every tensor that a node of the file makes, by name, on ONNX Runtime."""
    proto = onnx.load_model_from_string(model)
    names = [name for node in proto.graph.node for name in node.output]
    known = {v.name: v for v in (*proto.graph.value_info, *proto.graph.output)}
    del proto.graph.output[:]
    proto.graph.output.extend(known[name] for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {proto.graph.input[0].name: frames}), strict=True))
