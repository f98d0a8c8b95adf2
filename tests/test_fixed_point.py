from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, requantize, round_shift_half_even, signed_bits

U8, S8 = TensorFormat(8, 0, signed=False), TensorFormat(8, 0, signed=True)


@pytest.mark.parametrize(
    ("value", "shift", "expected"),
    [
        (0, 1, 0), (1, 1, 0), (2, 1, 1), (3, 1, 2), (5, 1, 2), (7, 1, 4),
        (-1, 1, 0), (-3, 1, -2), (-5, 1, -2), (-7, 1, -4),
        (4, 3, 0), (5, 3, 1), (12, 3, 2), (11, 3, 1), (20, 3, 2), (28, 3, 4), (-4, 3, 0), (-12, 3, -2), (-11, 3, -1), (-13, 3, -2),
        (9, 0, 9), (-9, 0, -9), (3, -2, 12), (-3, -2, -12), (1, 40, 0), (1 << 39, 40, 0), ((1 << 39) + 1, 40, 1), (3 << 39, 40, 2),
    ],
)  # fmt: skip
def test_rounding_table(value: int, shift: int, expected: int) -> None:
    assert int(round_shift_half_even(np.array(value), shift)) == expected


@pytest.mark.parametrize(
    ("value", "shift", "fmt", "expected"),
    [
        (255, 0, U8, 255), (256, 0, U8, 255), (-1, 0, U8, 0), (509, 1, U8, 254), (510, 1, U8, 255), (511, 1, U8, 255), (100, -2, U8, 255),
        (127, 0, S8, 127), (128, 0, S8, 127), (-128, 0, S8, -128), (-129, 0, S8, -128), (-257, 1, S8, -128), (-255, 1, S8, -128), (-253, 1, S8, -126),
        (1 << 60, 0, TensorFormat(16, 3, signed=False), 65535), (-(1 << 60), 0, TensorFormat(16, 3, signed=True), -32768),
    ],
)  # fmt: skip
def test_limits_table(value: int, shift: int, fmt: TensorFormat, expected: int) -> None:
    assert int(requantize(np.array(value), shift, fmt)) == expected


@given(st.integers(-(1 << 61), 1 << 61), st.integers(0, 45))
def test_rounding_equals_exact_fractions(value: int, shift: int) -> None:
    assert int(round_shift_half_even(np.array(value), shift)) == round(Fraction(value, 1 << shift))


@given(st.lists(st.tuples(st.integers(-(1 << 40), 1 << 40), st.integers(-10, 40)), min_size=1, max_size=8))
def test_shift_per_element(pairs: list[tuple[int, int]]) -> None:
    values, shifts = (np.array(column) for column in zip(*pairs, strict=True))
    together = round_shift_half_even(values, shifts)
    assert together.tolist() == [int(round_shift_half_even(np.array(v), s)) for v, s in pairs]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([(0, 255), (-128, 127), (0, 15)]))
def test_accumulator_range_is_reached_and_never_left(seed: int, inputs: int, limits: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-8, 8, size=(2, inputs, 1, 1))
    bias = rng.integers(-100, 100, size=2)
    low, high = accumulator_range(weight, bias, *limits)
    corners = np.stack(np.meshgrid(*[[limits[0], 0, limits[1]]] * inputs), axis=-1).reshape(-1, inputs)
    sums = bias + corners @ weight[:, :, 0, 0].T
    assert np.array_equal(sums.min(axis=0), low)
    assert np.array_equal(sums.max(axis=0), high)


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 40), 1 << 40))
def test_signed_bits_is_the_smallest_width(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    bits = signed_bits(low, high)
    assert -(1 << (bits - 1)) <= low and high < 1 << (bits - 1)
    assert bits == 1 or low < -(1 << (bits - 2)) or high >= 1 << (bits - 2)
