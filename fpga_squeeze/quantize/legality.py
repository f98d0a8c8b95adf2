"""What a QuantGraph must fulfil before anything reads it: structure, ranges, and the accumulator proof."""

from __future__ import annotations

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import accumulator_range
from fpga_squeeze.ir import Shape, window_count
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph


def verify_quantized(qgraph: QuantGraph) -> None:
    """Raise InputError naming the first layer that breaks the contract between quantizer, simulators and emitters."""
    seen: dict[str, QNode] = {}
    for i, n in enumerate(qgraph.nodes):
        if isinstance(n.op, QInput) != (i == 0):
            raise InputError(f"layer {n.name}: exactly one QInput, and first, was expected")
        _expect(n, n.name not in seen, "its name is used twice")
        for name in n.inputs:
            _expect(n, name in seen, f"reads {name!r}, which no earlier layer produces")
        sources = tuple(seen[name] for name in n.inputs)
        if not isinstance(n.op, QInput):
            _expect(n, bool(sources), "reads nothing")
            shape = _shape(n, sources)
            _expect(n, shape == n.shape, f"shape {n.shape} is recorded but {shape} follows from its inputs")
        _verify_arithmetic(n, sources)
        seen[n.name] = n
    if qgraph.output not in seen or qgraph.output != qgraph.nodes[-1].name:
        raise InputError(f"the output {qgraph.output!r} must be the last layer")


def _verify_arithmetic(n: QNode, sources: tuple[QNode, ...]) -> None:
    op = n.op
    if isinstance(op, QConv):
        _verify_conv(n, op, sources[0])
    elif isinstance(op, QMaxPool):
        _expect(n, n.fmt == sources[0].fmt, "a pool passes its input's format on")
    elif isinstance(op, QConcat):
        _expect(n, all(s.fmt == n.fmt for s in sources), "every input of a concat has the concat's format")
    elif isinstance(op, QAdd):
        _expect(n, len(sources) == 2, "Add reads two tensors")
        fracs = {s.fmt.frac + a for s, a in zip(sources, op.align, strict=True)}
        _expect(n, len(fracs) == 1 and fracs == {n.fmt.frac + op.shift} and min(op.align) >= 0, "its operands are not aligned to one scale")
    elif isinstance(op, QGlobalSum):
        _expect(n, n.fmt.frac == sources[0].fmt.frac, "a sum has its input's scale")


def _verify_conv(n: QNode, op: QConv, source: QNode) -> None:
    channels = n.shape[0]
    _expect(n, all(a.shape == (channels,) for a in (op.weight_frac, op.bias, op.shift)), "one scale, bias and shift per output channel was expected")
    _expect(n, len(op.pad_value) == source.shape[0], "one pad value per input channel was expected")
    limit = 1 << (op.weight_bits - 1)
    _expect(n, bool((op.weight >= -limit).all() and (op.weight < limit).all()), f"a weight does not fit {op.weight_bits} bits")
    _expect(n, np.array_equal(op.shift, op.weight_frac + source.fmt.frac - n.fmt.frac), "a shift differs from what its scales imply")
    low, high = accumulator_range(op.weight, op.bias, min(source.fmt.qmin, *op.pad_value), max(source.fmt.qmax, *op.pad_value))
    bound = 1 << (op.acc_bits - 1)
    _expect(n, int(low.min()) >= -bound and int(high.max()) < bound, f"its sums do not fit the recorded {op.acc_bits} bits")


def _shape(n: QNode, sources: tuple[QNode, ...]) -> Shape:
    c, h, w = sources[0].shape
    op = n.op
    if isinstance(op, QConv):
        _expect(n, op.weight.ndim == 4 and op.weight.shape[1] == c, f"weights for {op.weight.shape[1:2]} channels on {c}")
        c = int(op.weight.shape[0])
    if isinstance(op, QConv | QMaxPool):
        top, left, bottom, right = op.padding
        return c, window_count(h, op.kernel, op.stride, top, bottom), window_count(w, op.kernel, op.stride, left, right)
    if isinstance(op, QConcat):
        return sum(s.shape[0] for s in sources), h, w
    if isinstance(op, QGlobalSum):
        return c, 1, 1
    return c, h, w


def _expect(n: QNode, condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"layer {n.name}: {message}")
