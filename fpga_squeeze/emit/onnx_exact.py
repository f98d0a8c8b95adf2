"""Which float arithmetic reproduces a layer's integers: the proof that one float32 convolution is exact, or a split into several that are.

ONNX has convolutions in float only, and float32 holds every integer up to 2^24. If no subset of a layer's products (with or without its bias)
can reach further, every partial sum is exact in whatever order a runtime adds. A layer that can is split: weights and inputs into digits,
w = sum(W_j 2^p_j) and x = sum(X_i 2^p_i), such that each conv(X_i, W_j) passes the proof; the parts are added in float64, exact up to 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64, TensorFormat, accumulator_range
from fpga_squeeze.quantize.qgraph import QAdd, QConv

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53
EXPONENTS = (-126, 100)
"""Powers of two that scales may be: normal float32 numbers, with room above for 2^24 steps."""


@dataclass(frozen=True, eq=False)
class WeightDigit:
    """int64 (OC, IC, K, K); stands for values * 2^position."""

    values: Int64
    position: int


@dataclass(frozen=True, eq=False)
class ConvSplit:
    """One float32 convolution for each pair of an input digit and a weight digit.

    `bound`: the largest magnitude that any partial sum of any of them reaches, at most 2^24. `whole`: it is one convolution and takes the bias too.
    `positions`: of the input digits, ascending from 0; digit i has the bits from positions[i] up to positions[i + 1], the last has the sign.
    """

    bound: int
    whole: bool
    positions: tuple[int, ...]
    digits: tuple[WeightDigit, ...]


def input_range(op: QConv, fmt: TensorFormat) -> tuple[int, int]:
    """Smallest and largest integer that the convolution reads, its padding included."""
    return min(fmt.qmin, *op.pad_value), max(fmt.qmax, *op.pad_value)


def split_conv(name: str, op: QConv, fmt: TensorFormat) -> ConvSplit:
    """The split with the fewest convolutions whose sums float32 holds exactly.

    Args:
        name: of the layer, for messages. `fmt`: the format of its input.
    Raises:
        InputError: the sums of the parts could leave what float64 holds exactly.
    """
    low_in, high_in = input_range(op, fmt)
    weight = op.weight.astype(np.int64)
    low, high = accumulator_range(weight, op.bias, low_in, high_in)
    # A runtime may add the bias first or last: bound the sums with and without it.
    bound = int(max(np.abs(v).max() for v in (low, high, low - op.bias, high - op.bias)))
    if bound <= FLOAT32_EXACT:
        return ConvSplit(bound, True, (0,), (WeightDigit(weight, 0),))
    counts = sorted(((nx, nw) for nx in range(1, fmt.bits + 1) for nw in range(1, op.weight_bits + 1)), key=lambda c: (c[0] * c[1], c[0]))
    cached: dict[int, tuple[WeightDigit, ...]] = {}
    for input_count, weight_count in counts:
        positions = _positions(fmt.bits, input_count)
        if weight_count not in cached:
            cached[weight_count] = weight_digits(weight, op.weight_bits, weight_count)
        digits = cached[weight_count]
        bounds = [(_bound(d, r), p + d.position) for d in digits for p, r in zip(positions, _digit_ranges(positions, low_in, high_in), strict=True)]
        worst = max(b for b, _ in bounds)
        if worst > FLOAT32_EXACT:
            continue
        total = sum(b << p for b, p in bounds) + int(np.abs(op.bias).max())
        if total > FLOAT64_EXACT:
            raise InputError(f"layer {name}: sums reach {total}, beyond the 2^53 that ONNX arithmetic holds exactly; use fewer bits")
        return ConvSplit(worst, False, positions, digits)
    raise InputError(f"layer {name}: sums over {weight[0].size} products are beyond what ONNX convolutions hold exactly")


def weight_digits(weight: Int64, bits: int, count: int) -> tuple[WeightDigit, ...]:
    """`count` balanced digits of equal width, lowest first.

    >>> [(d.values.tolist(), d.position) for d in weight_digits(np.array([100, -9, 7]), 8, 2)]
    [([4, 7, 7], 0), ([6, -1, 0], 4)]
    """
    step = -(-bits // count)
    half = 1 << (step - 1)
    digits: list[WeightDigit] = []
    rest = np.asarray(weight, dtype=np.int64)
    for i in range(count - 1):
        low = ((rest + half) & ((1 << step) - 1)) - half
        digits.append(WeightDigit(low, i * step))
        rest = (rest - low) >> step
    return (*digits, WeightDigit(rest, (count - 1) * step))


def add_bound(op: QAdd, formats: tuple[TensorFormat, TensorFormat]) -> int:
    """Largest magnitude of an aligned operand or of the sum, in steps of the finer scale."""
    return sum(max(-f.qmin, f.qmax) << a for f, a in zip(formats, op.align, strict=True))


def check_exponents(name: str, exponents: Int64) -> None:
    """Raise InputError unless 2^e is a comfortable float32 for every exponent e."""
    for e in (int(exponents.min()), int(exponents.max())):
        if not EXPONENTS[0] <= e <= EXPONENTS[1]:
            raise InputError(f"layer {name}: a scale of 2^{e} cannot be written as ONNX float32; 2^{EXPONENTS[0]} to 2^{EXPONENTS[1]} were expected")


def _positions(bits: int, count: int) -> tuple[int, ...]:
    step = -(-bits // count)
    return tuple(i * step for i in range(count))


def _digit_ranges(positions: tuple[int, ...], low: int, high: int) -> tuple[tuple[int, int], ...]:
    lower = tuple((0, (1 << (after - p)) - 1) for p, after in pairwise(positions))
    return (*lower, (low >> positions[-1], high >> positions[-1]))


def _bound(digit: WeightDigit, limits: tuple[int, int]) -> int:
    low, high = accumulator_range(digit.values, np.zeros(digit.values.shape[0], dtype=np.int64), *limits)
    return int(max(np.abs(low).max(), np.abs(high).max()))
