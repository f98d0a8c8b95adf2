"""The entropy coder: what goes in comes out, to within a small margin of the entropy, and damaged streams are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.package.coder import Encoder, decode_layer, encode_layer
from fpga_squeeze.package.contexts import DIRECT, WEIGHT, bit_lengths, decisions
from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.network import Geometry, Values
from tests.package_cases import random_geometry, random_values

LAYER = Geometry("conv", 24, 40, 3, 8, 20, 5, -3, 1, 1, 1, True)


def entropy_bytes(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) / 8


def laplace(seed: int, scale: float, g: Geometry = LAYER) -> Values:
    rng = np.random.default_rng(seed)
    half = 1 << (g.weight_bits - 1)
    weight = np.clip(np.rint(rng.laplace(0, scale, (g.oc, g.ic, g.kernel, g.kernel))), -half, half - 1).astype(np.int64)
    return Values(weight, rng.integers(-9000, 9000, g.oc), np.full(g.oc, g.shift_min + 6))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_every_layer_comes_back(seed: int, delta: bool) -> None:
    rng = np.random.default_rng(seed)
    g = random_geometry(rng, "layer")
    values, base = random_values(rng, g), random_values(rng, g) if delta else None
    stream = encode_layer(g, values, base)
    assert decode_layer(g, stream, base).equals(values)
    assert stream == encode_layer(g, values, base)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-(1 << 17) + 1, (1 << 17) - 1), min_size=1, max_size=40))
def test_decisions_of_numbers_are_what_the_decoder_asks_for(numbers: list[int]) -> None:
    """The array form against the definition, decision by decision."""
    expected = []
    for v in numbers:
        expected.append((5, int(v != 0)))
        if not v:
            continue
        length = abs(v).bit_length()
        expected.append((864, int(v < 0)))
        expected += [(5 + j, 1) for j in range(1, length)] + ([(5 + length, 0)] if length < WEIGHT.longest else [])
        prefix = 1
        for below in range(length - 2, -1, -1):
            bit = abs(v) >> below & 1
            expected.append((WEIGHT.tree + (1 << (min(length, 8) - 1)) + prefix - 1 if prefix < 128 else DIRECT, bit))
            prefix = 2 * prefix + bit
    given_numbers = np.array(numbers, dtype=np.int64)
    same = [np.full(len(numbers), x) for x in (5, 864, WEIGHT.tree, WEIGHT.depth, WEIGHT.longest)]
    assert decisions(given_numbers, *same).tolist() == [2 * m + b for m, b in expected]


def test_lengths_of_the_largest_numbers() -> None:
    powers = np.array([1 << i for i in range(62)])
    assert bit_lengths(powers).tolist() == list(range(1, 63)) and bit_lengths(powers - 1).tolist() == list(range(62))


@pytest.mark.parametrize("scale", [0.3, 2.0, 20.0])
def test_the_size_is_near_the_entropy(scale: float) -> None:
    """Independent numbers: nothing can be gained from neighbours, and models and contexts may cost 2% and 60 bytes to learn."""
    values = laplace(1, scale, replace(LAYER, oc=64))
    size = len(encode_layer(replace(LAYER, oc=64), values))
    biases = len(encode_layer(replace(LAYER, oc=64), Values(np.zeros_like(values.weight), values.bias, values.shift)))
    entropy = entropy_bytes(values.weight)
    assert 0.98 * entropy < size - biases < 1.02 * entropy + 60


def test_weights_that_cluster_take_less_than_their_entropy() -> None:
    quiet, loud = laplace(2, 1.0), laplace(3, 12.0)
    weight = np.where(np.arange(LAYER.oc)[:, None, None, None] % 2, loud.weight, quiet.weight)
    size = len(encode_layer(LAYER, Values(weight, np.zeros(LAYER.oc, dtype=np.int64), quiet.shift)))
    assert size < 0.97 * entropy_bytes(weight)


def test_what_did_not_change_takes_next_to_nothing() -> None:
    values = laplace(4, 10.0)
    assert len(encode_layer(LAYER, values, values)) < 40
    one = values.weight.copy()
    one[3, 7, 1, 1] += 1
    assert len(encode_layer(LAYER, Values(one, values.bias, values.shift), values)) < 60


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_a_sparse_change_takes_little_more_than_its_entropy(share: float) -> None:
    """Weights here and there moved by a few steps: 2% and 90 bytes over the order-0 entropy of the change at the most."""
    g = replace(LAYER, oc=300, ic=400, kernel=1)
    values = laplace(8, 10.0, g)
    rng = np.random.default_rng(9)
    moved = np.clip(values.weight + (rng.random(values.weight.shape) < share) * rng.integers(-3, 4, values.weight.shape), -128, 127)
    size = len(encode_layer(g, Values(moved, values.bias, values.shift), values))
    assert size <= 1.02 * entropy_bytes(moved - values.weight) + 90


def test_a_carry_runs_back_through_bytes_of_ones() -> None:
    """Decisions that keep the interval at its upper end until it passes a power of two: without the carry the decoder would go astray."""
    carried = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        encoder = Encoder()
        for model in rng.integers(0, 3, 400).tolist():
            before = bytes(encoder.out)
            encoder.encode([2 * model + int(rng.random() < 0.9)])
            carried += bytes(encoder.out[: len(before)]) != before
    assert carried > 10


def test_streams_that_no_encoder_writes_are_refused() -> None:
    values = laplace(5, 5.0)
    stream = encode_layer(LAYER, values)
    for cut in (0, 1, 3, 4, 100, len(stream) - 1):
        with pytest.raises(PackageError) as caught:
            decode_layer(LAYER, stream[:cut])
        assert caught.value.code is Code.STREAM
    with pytest.raises(PackageError, match="do not end where they should"):
        decode_layer(LAYER, stream + b"\0")
    refused = 0
    rng = np.random.default_rng(6)
    for _ in range(25):
        damaged = bytearray(stream)
        damaged[int(rng.integers(len(stream)))] ^= 1 << int(rng.integers(8))
        try:
            assert not decode_layer(LAYER, bytes(damaged)).equals(values)
        except PackageError as error:
            refused += error.code in (Code.STREAM, Code.VALUE)
    assert refused > 20


def test_numbers_beyond_their_width_are_refused() -> None:
    values = laplace(7, 5.0)
    wide = replace(LAYER, weight_bits=10, bias_bits=30, shift_bits=8)
    for odd in (
        Values(np.where(np.arange(9).reshape(3, 3) == 4, 300, values.weight), values.bias, values.shift),
        Values(values.weight, values.bias + (1 << 25), values.shift),
        Values(values.weight, values.bias, values.shift + 100),
    ):
        stream = encode_layer(wide, odd)
        assert decode_layer(wide, stream).equals(odd)
        with pytest.raises(PackageError) as caught:
            decode_layer(LAYER, stream)
        assert caught.value.code is Code.VALUE
