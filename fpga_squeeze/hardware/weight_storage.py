"""Weight memories that take less room, without loss: indices into a table of the distinct weights, or a bitmap and the weights that are not zero.

What a memory holds follows from the integers and the fold alone, so it can be checked and computed again. The decoders are fsq_codebook and
fsq_sparse_group (RTL) and weight_reader.h (HLS); docs/weight-storage.md describes the formats.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.cost_weights import COLUMN_ROWS, weight_memory_resources
from fpga_squeeze.hardware.engine import Engine, WeightCoding
from fpga_squeeze.hardware.weight_lanes import weight_lanes
from fpga_squeeze.quantize.qgraph import QConv

DENSE = "dense"
KINDS = ("codebook", "sparse", "sparse-codebook")
"""What Engine.coding may be called."""

MAX_INDEX_BITS = 6
"""A table of up to 64 entries is a LUT of six inputs a bit."""

GROUP_LANES = (8, 4)
"""Most lanes that share a stream of values. A lane chooses among about as many columns, so its multiplexer grows with the group; smaller groups have more
memories, and their numbers of values differ more."""

BLOCK_LUTS = 150
"""LUTs that an 18 Kb block is worth where group and values at a time are chosen: as many as a ZCU102 has for each. Not the device's own ratio, so that a
file of folds stores the same on every device."""

READ_DELAY, ROOM_DELAY = 3, 2
"""fsq_sparse_group: cycles from asking for values to the columns that hold them, and from taking values to the room that is seen."""


def coding_of(kind: str, engine: Engine, qconv: QConv) -> WeightCoding:
    """The coding `kind` of the weights of `engine`, folded as it is.

    Raises InputError, naming the layer, when the weights do not allow it: too many distinct ones for a table.
    """
    if kind not in KINDS:
        raise InputError(f"layer {engine.node}: weight coding {kind!r}; {DENSE}, {', '.join(KINDS)} were expected")
    codings = _codings(kind, engine.node, _Weights(weight_lanes(engine, qconv)), engine.weight_bits)
    if len(codings) == 1:
        return codings[0]
    return min(codings, key=lambda c: (_worth(replace(engine, coding=c)), codings.index(c)))


def _worth(engine: Engine) -> int:
    """LUTs of a weight memory and its decoder, blocks counted as BLOCK_LUTS each."""
    taken = weight_memory_resources(engine, None)
    return taken.lut + BLOCK_LUTS * taken.bram18


class _Weights:
    """Weights in memory order, int64 (words, lanes), compared by their values, so that a coding is computed once for them."""

    def __init__(self, lanes: Int64) -> None:
        self.lanes = lanes
        self._bytes = lanes.tobytes()

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Weights) and self.lanes.shape == other.lanes.shape and self._bytes == other._bytes


@lru_cache(maxsize=256)
def _codings(kind: str, node: str, weights: _Weights, weight_bits: int) -> tuple[WeightCoding, ...]:
    """The coding; sparse: for every size of a group and every number of values read at a time that keeps the rate."""
    lanes = weights.lanes
    codebook: tuple[int, ...] = ()
    bits = weight_bits
    if kind != "sparse":
        values = sorted(int(v) for v in np.unique(lanes))
        # Zero is entry 0: what a lane without a value holds.
        codebook = (0, *(v for v in values if v)) if 0 in values or kind != "codebook" else tuple(values)
        bits = max(1, (len(codebook) - 1).bit_length())
        if bits > min(MAX_INDEX_BITS, weight_bits - 1):
            most = 1 << min(MAX_INDEX_BITS, weight_bits - 1)
            raise InputError(f"layer {node}: {len(codebook)} distinct weights, a codebook beside {weight_bits}-bit weights holds at most {most}")
        codebook += (0,) * ((1 << bits) - len(codebook))
    if kind == "codebook":
        return (WeightCoding(kind, bits, codebook),)
    found: dict[WeightCoding, None] = {}
    for most in GROUP_LANES:
        groups = ceil(lanes.shape[1] / most)
        group = ceil(lanes.shape[1] / groups)
        for read, columns, words in _readings(_counts(lanes, groups, group)):
            found[WeightCoding(kind, bits, codebook, groups, group, read, columns, words)] = None
    return tuple(found)


def _counts(lanes: Int64, groups: int, group: int) -> Int64:
    """Weights that are not zero, int64 (words, groups)."""
    marked = np.zeros((lanes.shape[0], groups * group), dtype=np.int64)
    marked[:, : lanes.shape[1]] = lanes != 0
    return np.asarray(marked.reshape(lanes.shape[0], groups, group).sum(2), dtype=np.int64)


def _readings(counts: Int64) -> list[tuple[int, int, int]]:
    """(values a word of the memory, columns, words) for groups that take `counts` values word by word, (words, groups): the fewest at a time that keep the
    rate, one more, and as many as any word takes, which always keep it."""
    most = max(1, int(counts.max()))
    largest = int(counts.sum(0).max())
    found: list[tuple[int, int, int]] = []
    for read in range(1, most + 1):
        words, columns = max(1, ceil(largest / read)), ceil(most / read) * read
        wanted = len(found) < 2 or read == most
        if wanted and words <= counts.shape[0] and keeps_rate(filled(counts, words * read), read, columns):
            found.append((read, columns, words))
    return found


def filled(counts: Int64, total: int) -> Int64:
    """`counts` (words, groups), some raised so that every group has `total` values: zeros are stored as values until the last word of its memory is full.
    No word takes more than the largest did; the emptiest take them first."""
    result = counts.copy()
    most = max(1, int(counts.max()))
    for g in range(counts.shape[1]):
        column = result[:, g]
        missing = total - int(column.sum())
        while missing > 0:
            order = np.argsort(column, kind="stable")
            order = order[column[order] < most][:missing]
            column[order] += 1
            missing -= len(order)
    return result


def keeps_rate(counts: Int64, read: int, columns: int) -> bool:
    """Whether groups that take `counts` values a cycle (words, groups), again and again without a pause, never find a column empty.

    Values to be read are work for a server that does `read` a cycle; its backlog over two rounds, the first one from full columns, is the largest ever
    if a round is no more work than it has cycles. Behind the backlog are what is on its way and what is not yet known to be free. A pause of the
    multipliers only lets the memory catch up.
    """
    if int(counts.sum(0).max()) > read * counts.shape[0]:
        return False
    work = np.cumsum(np.concatenate([counts, counts]) - read, axis=0)
    lowest = np.minimum(np.minimum.accumulate(np.concatenate([np.zeros_like(work[:1]), work[:-1]])), 0)
    backlog = int((work - lowest).max()) + read
    return backlog + (READ_DELAY + 1) * read + (ROOM_DELAY + 1) * int(counts.max()) <= COLUMN_ROWS * columns


def index_lanes(coding: WeightCoding, lanes: Int64) -> Int64:
    """What is stored of each weight: its place in the table, or the weight itself; same shape."""
    if not coding.codebook:
        return lanes
    used = np.array(sorted(set(coding.codebook)), dtype=np.int64)
    place = np.array([coding.codebook.index(v) for v in used.tolist()], dtype=np.int64)
    at = np.searchsorted(used, lanes).clip(max=len(used) - 1)
    if not np.array_equal(used[at], lanes):
        raise InputError("a weight that is not in the codebook: the network is not the one the machine was planned for; plan it again")
    return np.asarray(place[at], dtype=np.int64)


def bitmap_lanes(coding: WeightCoding, lanes: Int64) -> Int64:
    """Which lanes of each word have a stored value, int64 0 or 1 (words, groups * group): those that are not zero, and zeros that fill up the memory."""
    depth = lanes.shape[0]
    marked = np.zeros((depth, coding.groups * coding.group), dtype=np.int64)
    marked[:, : lanes.shape[1]] = lanes != 0
    by_group = marked.reshape(depth, coding.groups, coding.group)
    counts = by_group.sum(2)
    extra = filled(counts, coding.words * coding.read) - counts
    empty = 1 - by_group
    filling = empty & (np.cumsum(empty, axis=2) <= extra[:, :, None])
    return np.asarray(by_group | filling, dtype=np.int64).reshape(depth, -1)


def value_words(coding: WeightCoding, lanes: Int64, bitmap: Int64) -> list[Int64]:
    """Each group's memory, int64 (words, read): the stored values of all words of the bitmap in order."""
    padded = np.zeros(bitmap.shape, dtype=np.int64)
    padded[:, : lanes.shape[1]] = index_lanes(coding, lanes)
    shape = (lanes.shape[0], coding.groups, coding.group)
    values, marks = padded.reshape(shape), bitmap.reshape(shape) != 0
    return [values[:, g][marks[:, g]].reshape(coding.words, coding.read) for g in range(coding.groups)]


def decoded(coding: WeightCoding, lanes: int, stored: Int64, values: list[Int64]) -> Int64:
    """The weights that memories hold, int64 (words, lanes), as the hardware decodes them: `stored` indices (words, lanes) or bitmap (words, groups * group),
    `values` each group's memory as unsigned or two's complement numbers."""
    table = np.array(coding.codebook, dtype=np.int64)
    if not coding.sparse:
        return table[stored]
    shape = (stored.shape[0], coding.groups, coding.group)
    found = np.zeros(shape, dtype=np.int64)
    for g, memory in enumerate(values):
        marks = stored.reshape(shape)[:, g] != 0
        group = found[:, g]
        group[marks] = memory.reshape(-1)
    plain = found.reshape(stored.shape[0], -1)[:, :lanes]
    return table[plain] if coding.codebook else plain


def with_coding(engine: Engine, kind: str, qconv: QConv) -> Engine:
    """`engine` with its weights stored as `kind` says, "dense" or one of KINDS."""
    return replace(engine, coding=None if kind == DENSE else coding_of(kind, engine, qconv))


def kind_of(engine: Engine) -> str:
    """How an engine's weights are stored: "dense" or one of KINDS."""
    return engine.coding.kind if engine.coding else DENSE
