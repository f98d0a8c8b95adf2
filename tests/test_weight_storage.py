"""Coded weights: what is stored decodes to the same integers, never leaves a word waiting, and follows from weights and fold alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.emit.weights import stored_rows, weight_lanes
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware import weight_storage
from fpga_squeeze.hardware.cost_weights import COLUMN_ROWS
from fpga_squeeze.hardware.engine import Engine, EngineFold, WeightCoding
from fpga_squeeze.hardware.structure import make_engine
from fpga_squeeze.hardware.weight_storage import bitmap_lanes, coding_of, decoded, filled, index_lanes, keeps_rate, value_words
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from tests.hls_cases import NetBuilder

KINDS = ("codebook", "sparse", "sparse-codebook")


def layer(lanes: Int64, weight_bits: int = 8) -> tuple[Engine, QConv]:
    """A 1x1 convolution whose weight memory holds `lanes`, (words, lanes), one input channel at a time."""
    words, width = lanes.shape
    net = NetBuilder(seed=1)
    net.conv("conv1", net.image(words, 2, 2), width, 1)
    graph = net.finish("conv1")
    node = graph["conv1"]
    assert isinstance(node.op, QConv)
    op = replace(node.op, weight=lanes.T.reshape(width, words, 1, 1).astype(np.int32), weight_bits=weight_bits)
    graph = QuantGraph(tuple(replace(n, op=op) if n.name == "conv1" else n for n in graph.nodes), graph.output)
    engine = replace(make_engine(graph, graph["conv1"]), fold=EngineFold(width, 1, 1))
    assert np.array_equal(weight_lanes(engine, op), lanes)
    return engine, op


@st.composite
def weights(draw: st.DrawFn, values: tuple[int, ...] = ()) -> Int64:
    """int64 (words, lanes): any density, rows of zeros, rows without one, one word, one lane."""
    words, lanes = draw(st.integers(1, 70)), draw(st.integers(1, 27))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    keep = draw(st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.95, 1.0]))
    chosen = rng.choice(np.array(values or [v for v in range(-128, 128) if v], dtype=np.int64), (words, lanes))
    chosen *= rng.random((words, lanes)) < keep
    # Bursts: what a share of the lanes never has, others have in words that follow each other.
    if draw(st.booleans()):
        first, last = sorted(draw(st.tuples(st.integers(0, words), st.integers(0, words))))
        chosen[first:last] = 7 if not values else values[0]
    return chosen


FEW = (-90, -41, -3, 5, 60)


@given(lanes=weights())
@settings(max_examples=60, deadline=None)
def test_a_sparse_memory_holds_the_weights(lanes: Int64) -> None:
    check(lanes, "sparse")


@given(lanes=weights(FEW))
@settings(max_examples=60, deadline=None)
def test_indices_hold_the_weights(lanes: Int64) -> None:
    lanes = np.where(np.isin(lanes, (0, *FEW)), lanes, 0)
    check(lanes, "codebook")
    check(lanes, "sparse-codebook")


def check(lanes: Int64, kind: str) -> None:
    engine, op = layer(lanes)
    coding = coding_of(kind, engine, op)
    rows = {r.kind: r for r in stored_rows(replace(engine, coding=coding), op)}
    stored_bits = sum(r.bits * len(m) for r in rows.values() for m in r.memories) + len(coding.codebook) * 8
    assert replace(engine, coding=coding).stored_weight_bits == stored_bits
    if kind == "codebook":
        assert np.array_equal(decoded(coding, lanes.shape[1], fields(rows["indices"].memories[0], lanes.shape[1], coding.value_bits, False), []), lanes)
        return
    bitmap = fields(rows["bitmap"].memories[0], coding.groups * coding.group, 1, False)
    values = [fields(m, coding.read, coding.value_bits, not coding.codebook) for m in rows["values"].memories]
    assert np.array_equal(decoded(coding, lanes.shape[1], bitmap, values), lanes)
    counts = bitmap.reshape(len(lanes), coding.groups, coding.group).sum(2)
    assert (counts.sum(0) == coding.words * coding.read).all(), "a round must end with a full word, or the next one would begin in another column"
    assert counts.max() <= coding.columns and coding.columns % coding.read == 0
    for g in range(coding.groups):
        assert never_waits(counts[:, g], coding, 5 * COLUMN_ROWS * coding.columns, None)
        assert never_waits(counts[:, g], coding, 300, random.Random(g))


def fields(rows: list[int], lanes: int, bits: int, signed: bool) -> Int64:
    """Fields out of memory rows, int64 (rows, lanes)."""
    found = np.array([[row >> (i * bits) & ((1 << bits) - 1) for i in range(lanes)] for row in rows], dtype=np.int64).reshape(len(rows), lanes)
    return np.where(found >= 1 << (bits - 1), found - (1 << bits), found) if signed else found


def never_waits(counts: Int64, coding: WeightCoding, cycles: int, pauses: random.Random | None) -> bool:
    """fsq_sparse_group cycle by cycle: whether every word finds its values. `pauses`: words come by chance, else one a cycle."""
    room = coding.columns * COLUMN_ROWS
    there, on_its_way, freed = 0, [0, 0, 0], [0, 0]
    started, word = False, 0
    reading = False
    for _ in range(cycles + 2 * COLUMN_ROWS * coding.columns):
        there += on_its_way.pop()
        on_its_way.insert(0, coding.read if reading else 0)
        if started and (pauses is None or pauses.random() < 0.7):
            need = int(counts[word % len(counts)])
            if need > there:
                return False
            there -= need
            word += 1
            freed.insert(0, need)
        else:
            freed.insert(0, 0)
        room += freed.pop() - (coding.read if reading else 0)
        reading = room >= coding.read
        started = started or not reading
    return word > 0


def test_a_memory_read_too_slowly_is_noticed() -> None:
    """The check of the rate can fail: six values a word from a memory of five."""
    counts = np.full((40, 1), 6, dtype=np.int64)
    coding = WeightCoding("sparse", 8, (), 1, 8, 5, 10, 48)
    assert not keeps_rate(counts, 5, 10)
    assert not never_waits(counts[:, 0], coding, 2000, None)


def test_a_burst_longer_than_the_columns_hold_is_noticed() -> None:
    counts = np.concatenate([np.full((300, 1), 8), np.zeros((900, 1))]).astype(np.int64)
    assert not keeps_rate(counts, 2, 8), "2 a word on the average, but 300 words of 8 take more than 8 columns of 32"
    assert not never_waits(counts[:, 0], WeightCoding("sparse", 8, (), 1, 8, 2, 8, 1200), 3000, None)
    assert keeps_rate(counts[270:], 2, 8), "30 words of 8 fit"


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 1), (3, 16)])
@pytest.mark.parametrize("value", [0, -128])
def test_all_zero_and_no_zero(shape: tuple[int, int], value: int) -> None:
    lanes = np.full(shape, value, dtype=np.int64)
    for kind in KINDS:
        check(lanes, kind)


def test_every_group_is_filled_with_zeros_to_the_same_length() -> None:
    counts = np.array([[1, 0], [2, 0], [3, 1]], dtype=np.int64)
    full = filled(counts, 8)
    assert full.sum(0).tolist() == [8, 8]
    assert (full >= counts).all() and full.max() == counts.max()


def test_zero_is_the_first_entry() -> None:
    """A lane without a value holds index 0."""
    engine, op = layer(np.array([[5, 0, -7], [0, 0, 5]], dtype=np.int64))
    assert coding_of("sparse-codebook", engine, op).codebook == (0, -7, 5, 0)
    full, op = layer(np.array([[5, -7, 5]], dtype=np.int64))
    assert coding_of("codebook", full, op).codebook == (-7, 5)
    assert coding_of("sparse-codebook", full, op).codebook == (0, -7, 5, 0)


@pytest.mark.parametrize(("distinct", "bits", "possible"), [(64, 8, True), (65, 8, False), (8, 4, True), (9, 4, False), (2, 2, True), (3, 2, False)])
def test_a_table_has_at_most_64_entries_and_saves_a_bit(distinct: int, bits: int, possible: bool) -> None:
    engine, op = layer(np.arange(distinct, dtype=np.int64).reshape(1, -1) - (1 << bits >> 1), bits)
    if possible:
        assert coding_of("codebook", engine, op).value_bits == max(1, (distinct - 1).bit_length())
    else:
        with pytest.raises(InputError, match=f"layer conv1: {distinct} distinct weights, a codebook beside {bits}-bit weights holds at most"):
            coding_of("codebook", engine, op)


def test_other_weights_than_the_planned_ones_are_refused() -> None:
    engine, op = layer(np.array([[5, 0, -7]], dtype=np.int64))
    coding = coding_of("codebook", engine, op)
    with pytest.raises(InputError, match="not in the codebook"):
        index_lanes(coding, np.array([[5, 0, -6]], dtype=np.int64))


def test_unknown_coding() -> None:
    engine, op = layer(np.ones((1, 1), dtype=np.int64))
    with pytest.raises(InputError, match="weight coding 'zip'"):
        coding_of("zip", engine, op)


def test_the_group_is_chosen_by_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sizes of a group are weighed: where blocks cost nothing the small one is taken, with its narrower multiplexers."""
    rng = np.random.default_rng(0)
    engine, op = layer(rng.integers(-128, 128, (512, 24)) * (rng.random((512, 24)) < 0.3))
    engine = replace(engine, weight_storage="bram")
    for luts, group in ((0, 4), (1000, 8)):
        monkeypatch.setattr(weight_storage, "BLOCK_LUTS", luts)
        assert coding_of("sparse", engine, op).group == group


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_of_the_bitmap_shows(bit: int) -> None:
    rng = np.random.default_rng(3)
    lanes = rng.integers(1, 100, (20, 8)) * (rng.random((20, 8)) < 0.4)
    engine, op = layer(lanes)
    coding = coding_of("sparse", engine, op)
    bitmap = bitmap_lanes(coding, lanes)
    values = value_words(coding, lanes, bitmap)
    bitmap[7, bit] ^= 1
    with pytest.raises(ValueError, match="assign"):  # one value too many or too few for the memory
        decoded(coding, 8, bitmap, values)
