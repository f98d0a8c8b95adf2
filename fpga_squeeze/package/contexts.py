"""The probability models of a layer's numbers: which binary decisions a number is made of, and which model each decision is coded with.

A number v is coded as: is it zero; its sign; the bits of |v| counted up one by one (1 = one more); the bits of |v| below its leading one, high first.
docs/over-the-air.md gives the same in a table; the C decoder has the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import Int64

P_BITS = 28
P_ONE = 1 << P_BITS
HALF = P_ONE // 2
"""A new model's probability of 0, in units of 2^-28: so fine that a model of what never happens still learns at its slowest."""
LEARN_LIMIT = 1022
"""A model moves by 1 / (decisions seen + 2), and by 1 / 1024 from then on."""
P_MIN, P_MAX = 1 << 14, P_ONE - (1 << 14)

NEIGHBOUR_CLASSES = 6
SHIFT_CLASSES = 4
BANK = NEIGHBOUR_CLASSES * SHIFT_CLASSES


@dataclass(frozen=True)
class Kind:
    """Where the models of a kind of numbers are: `head` the zero flag of context 0 and behind it the flags of length 1 to `longest`; then signs; then
    the bits below the leading one, of which the first `depth - 1` have models."""

    head: int
    sign: int
    tree: int
    depth: int
    longest: int

    @property
    def stride(self) -> int:
        """Models of a context."""
        return self.longest + 1


WEIGHT = Kind(head=0, sign=864, tree=873, depth=8, longest=17)
BIAS = Kind(head=1129, sign=1187, tree=1188, depth=3, longest=57)
SHIFT = Kind(head=1196, sign=1214, tree=1215, depth=3, longest=17)
DIRECT = 1223
"""The model of the bits that have none of their own: one half, and it learns nothing."""
MODELS = DIRECT + 1
NEVER_LEARNS = P_ONE

assert WEIGHT.head + 2 * BANK * WEIGHT.stride == WEIGHT.sign and WEIGHT.sign + 9 == WEIGHT.tree and WEIGHT.tree + 256 == BIAS.head
assert BIAS.head + BIAS.stride == BIAS.sign and BIAS.tree + 8 == SHIFT.head and SHIFT.head + SHIFT.stride == SHIFT.sign and SHIFT.tree + 8 == DIRECT


def fresh_models() -> tuple[list[int], list[int]]:
    """(probability of 0, decisions seen) of every model at the beginning of a layer."""
    return [HALF] * MODELS, [0] * DIRECT + [NEVER_LEARNS]


def bit_lengths(magnitudes: Int64) -> Int64:
    """Bits of each non-negative integer below 2^62.

    >>> bit_lengths(np.array([0, 1, 2, 3, 4, 255, 256])).tolist()
    [0, 1, 2, 2, 3, 8, 9]
    """
    return np.searchsorted(np.int64(1) << np.arange(62, dtype=np.int64), magnitudes, side="right").astype(np.int64)


def weight_contexts(numbers: Int64, shift_class: Int64, base: Int64 | None) -> tuple[Int64, Int64]:
    """(models of the zero flags, models of the signs) of weights or their changes, int64 (channels, weights of a channel).

    The context is how large the two numbers before were, the channel's shift modulo 4 and, for changes, whether the base's weight was zero; a sign's is
    what the two numbers before were. A channel begins after two zeros.
    """
    before = np.zeros((2, *numbers.shape), dtype=np.int64)
    before[0, :, 1:], before[1, :, 2:] = numbers[:, :-1], numbers[:, :-2]
    size = np.minimum(bit_lengths((abs(before[0]) + abs(before[1]) + 1) >> 1), NEIGHBOUR_CLASSES - 1)
    bank = np.zeros_like(numbers) if base is None else (base == 0).astype(np.int64)
    head = WEIGHT.head + WEIGHT.stride * (bank * BANK + shift_class[:, None] * NEIGHBOUR_CLASSES + size)
    kind = np.where(before == 0, 0, np.where(before < 0, 1, 2))
    return head, WEIGHT.sign + 3 * kind[0] + kind[1]


def decisions(numbers: Int64, head: Int64, sign: Int64, tree: Int64, depth: Int64, longest: Int64) -> NDArray[np.uint16]:
    """Every decision of the numbers, in order, as 2 * model + bit. All arguments (n,); numbers of at most `longest` bits."""
    magnitude = abs(numbers)
    length = bit_lengths(magnitude)
    nonzero = length > 0
    unary = length - (length == longest)
    count = 1 + nonzero * (unary + length)
    start = np.cumsum(count) - count
    out = np.empty(int(count.sum()), dtype=np.uint16)
    out[start] = 2 * head + nonzero
    at = np.flatnonzero(nonzero)
    out[start[at] + 1] = 2 * sign[at] + (numbers[at] < 0)
    for j in range(1, int(length.max(initial=0)) + 1):
        at = np.flatnonzero(unary >= j)
        out[start[at] + 1 + j] = 2 * (head[at] + j) + (length[at] > j)
    for i in range(int(length.max(initial=0)) - 1):
        at = np.flatnonzero(length - 2 >= i)
        below = length[at] - 2 - i
        prefix = magnitude[at] >> (below + 1)
        base = np.int64(1) << (np.minimum(length[at], depth[at]) - 1)
        model = np.where(prefix < np.int64(1) << (depth[at] - 1), tree[at] + base + prefix - 1, DIRECT)
        out[start[at] + 2 + unary[at] + i] = 2 * model + (magnitude[at] >> below & 1)
    return out
