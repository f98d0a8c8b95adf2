"""The number contract: formats, round-half-even requantization and accumulator ranges.

Every integer the hardware produces is defined here once; exporter, simulators, testbenches and tests all call these functions.
A tensor is q * 2**-frac with integer q (power-of-two scales, zero point 0). `frac` may be negative or larger than `bits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class TensorFormat:
    """Fixed-point format of an activation tensor: value = q * 2**-frac, q an integer of `bits` bits."""

    bits: int
    frac: int
    signed: bool

    @property
    def qmin(self) -> int:
        """Smallest integer of the format (0 when unsigned).

        >>> TensorFormat(8, 4, signed=True).qmin, TensorFormat(8, 4, signed=False).qmin
        (-128, 0)
        """
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest integer of the format.

        >>> TensorFormat(8, 4, signed=True).qmax, TensorFormat(8, 4, signed=False).qmax
        (127, 255)
        """
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def scale(self) -> float:
        """Real value of one step, 2**-frac."""
        return 2.0**-self.frac


def round_shift_half_even(values: Int64, shift: int | Int64) -> Int64:
    """round_half_even(values * 2**-shift), exactly, in integers.

    For shift s >= 1 this is the hardware's form (v + 2**(s-1) - 1 + v[s]) >> s with an arithmetic shift; s = 0 passes and s < 0 shifts left.

    Args:
        values: int64, any shape. `shift`: scalar or an array that broadcasts against `values`.
    Returns:
        int64 of the broadcast shape.

    >>> round_shift_half_even(np.array([1, 2, 3, 5, 6, 7, -1, -2, -3, -6]), 2).tolist()
    [0, 0, 1, 1, 2, 2, 0, 0, -1, -2]
    """
    v = np.asarray(values, dtype=np.int64)
    s = np.asarray(shift, dtype=np.int64)
    right = np.maximum(s, 0)
    half_minus_one = np.where(right > 0, (np.int64(1) << np.maximum(right - 1, 0)) - 1, 0)
    tie_bit = np.where(right > 0, (v >> right) & 1, 0)
    shifted = (v + half_minus_one + tie_bit) >> right
    return np.asarray(shifted << np.maximum(-s, 0), dtype=np.int64)


def requantize(acc: Int64, shift: int | Int64, fmt: TensorFormat) -> Int64:
    """clamp(round_half_even(acc * 2**-shift), qmin, qmax): the only way an accumulator becomes an activation.

    Args:
        acc: int64 accumulators. `shift`: f_acc - f_out, scalar or broadcastable (per output channel). `fmt`: the output format.

    >>> requantize(np.array([-9, 24, 40, 5000]), 4, TensorFormat(8, 0, signed=False)).tolist()
    [0, 2, 2, 255]
    """
    return np.clip(round_shift_half_even(acc, shift), fmt.qmin, fmt.qmax)


def signed_bits(low: int, high: int) -> int:
    """Width of the smallest two's complement integer that holds every value in [low, high].

    >>> signed_bits(-128, 127), signed_bits(-129, 0), signed_bits(0, 128), signed_bits(0, 0)
    (8, 9, 9, 1)
    """
    bits = 1
    while low < -(1 << (bits - 1)) or high > (1 << (bits - 1)) - 1:
        bits += 1
    return bits


def accumulator_range(weight: NDArray[np.integer], bias: Int64, input_min: int, input_max: int) -> tuple[Int64, Int64]:
    """Per-channel extremes of bias + sum(w * x) over every x in [input_min, input_max], and over every partial sum from the bias.

    Positive weights reach high with input_max and low with input_min, negative ones the other way round. Zero is always an allowed
    contribution (padding, a tap not added yet), so the extremes bound every partial sum in any order too.

    Args:
        weight: integers, (OC, IC, K, K). `bias`: int64, (OC,). `input_min` <= 0 <= `input_max` after widening.
    Returns:
        (low, high), int64, each (OC,).
    """
    flat = np.asarray(weight, dtype=np.int64).reshape(weight.shape[0], -1)
    x_min, x_max = min(input_min, 0), max(input_max, 0)
    positive = np.where(flat > 0, flat, 0).sum(axis=1)
    negative = np.where(flat < 0, flat, 0).sum(axis=1)
    low = bias + positive * x_min + negative * x_max
    high = bias + positive * x_max + negative * x_min
    return low, high
