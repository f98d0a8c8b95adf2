"""The definition of every bit: the quantized graph in plain int64 numpy, one image at a time, one function per operator.

Slow on purpose. The fast simulator, the HLS sources and the RTL are all held equal to this.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.fixed_point import Int64, TensorFormat, requantize
from fpga_squeeze.ir import Padding
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph

LOWEST = np.int64(np.iinfo(np.int64).min)


def run_reference(qgraph: QuantGraph, pixels: NDArray[np.uint8]) -> dict[str, Int64]:
    """Run one image through the machine.

    Args:
        pixels: uint8 (C, H, W), channels in the graph's input order (RGB).
    Returns:
        int64 (C, H, W) for every node by name; the output node holds the class sums, (classes, 1, 1).
    Raises:
        InputError: wrong shape or dtype. CheckFailedError: an accumulator leaves its proven width.
    """
    check_pixels(qgraph, pixels[np.newaxis])
    values: dict[str, Int64] = {}
    for node in qgraph.nodes:
        if isinstance(node.op, QInput):
            values[node.name] = pixels.astype(np.int64)
        else:
            values[node.name] = apply_node(node, tuple(values[i] for i in node.inputs))
    return values


def check_pixels(qgraph: QuantGraph, pixels: NDArray[np.uint8]) -> None:
    """Raise InputError unless `pixels` is uint8 (N, C, H, W) with the graph's input shape."""
    if pixels.dtype != np.uint8 or pixels.shape[1:] != qgraph.input.shape:
        raise InputError(f"the machine takes uint8 images of shape {qgraph.input.shape}, got {pixels.dtype} {pixels.shape[1:]}")


def apply_node(node: QNode, inputs: tuple[Int64, ...]) -> Int64:
    """One operator on int64 (C, H, W) tensors."""
    op = node.op
    if isinstance(op, QConv):
        return requantize(accumulate(node.name, op, inputs[0]), op.shift[:, None, None], node.fmt)
    if isinstance(op, QMaxPool):
        return max_pool(inputs[0], op)
    if isinstance(op, QConcat):
        return np.concatenate(inputs, axis=0)
    if isinstance(op, QAdd):
        return add(op, inputs[0], inputs[1], node.fmt)
    if isinstance(op, QGlobalSum):
        return np.asarray(inputs[0].sum(axis=(1, 2), keepdims=True), dtype=np.int64)
    raise InputError(f"layer {node.name}: the machine has no operator {type(op).__name__}")


def accumulate(name: str, op: QConv, x: Int64) -> Int64:
    """bias + sum(weight * x) over the window, exact: (IC, H, W) -> (OC, OH, OW). Raises CheckFailedError beyond `acc_bits`."""
    k, s = op.kernel, op.stride
    padded = pad(x, op.padding, np.array(op.pad_value, dtype=np.int64))
    out_h, out_w = (padded.shape[1] - k) // s + 1, (padded.shape[2] - k) // s + 1
    weight = op.weight.astype(np.int64)
    acc = np.repeat(op.bias.astype(np.int64)[:, None], out_h * out_w, axis=1)
    for kh in range(k):
        for kw in range(k):
            window = padded[:, kh : kh + (out_h - 1) * s + 1 : s, kw : kw + (out_w - 1) * s + 1 : s]
            acc += weight[:, :, kh, kw] @ window.reshape(x.shape[0], -1)
    limit = 1 << (op.acc_bits - 1)
    if acc.min() < -limit or acc.max() > limit - 1:
        raise CheckFailedError(f"layer {name}: an accumulator in [{-limit}, {limit - 1}] ({op.acc_bits} bits) was proven, got {acc.min()}..{acc.max()}")
    return acc.reshape(-1, out_h, out_w)


def pad(x: Int64, padding: Padding, values: Int64) -> Int64:
    """Surround (C, H, W) with one constant per channel, `values` (C,)."""
    top, left, bottom, right = padding
    c, h, w = x.shape
    out = np.empty((c, h + top + bottom, w + left + right), dtype=np.int64)
    out[:] = values[:, None, None]
    out[:, top : top + h, left : left + w] = x
    return out


def max_pool(x: Int64, op: QMaxPool) -> Int64:
    """Max over K x K windows; a padded position holds less than any integer of any format, so it never wins."""
    padded = pad(x, op.padding, np.full(x.shape[0], LOWEST))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (op.kernel, op.kernel), axis=(1, 2))
    return np.asarray(windows[:, :: op.stride, :: op.stride].max(axis=(3, 4)), dtype=np.int64)


def add(op: QAdd, a: Int64, b: Int64, fmt: TensorFormat) -> Int64:
    """Both operands aligned to the finer scale, added exactly, requantized.

    >>> add(QAdd((0, 2), 2), np.array([3]), np.array([1]), TensorFormat(8, 0, signed=False)).tolist()
    [2]
    """
    return requantize((a << op.align[0]) + (b << op.align[1]), op.shift, fmt)
