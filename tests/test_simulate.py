from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_graphs import conv_node, graph, image_node, pool_node, random_conv, replace_node, sum_node

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QNode, QuantGraph
from fpga_squeeze.simulate.fast import FLOAT32_EXACT, FastSimulator
from fpga_squeeze.simulate.reference import run_reference

seeds = st.integers(0, 2**32 - 1)


def assert_equal(qgraph: QuantGraph, pixels: np.ndarray) -> None:
    """Reference, traced and untraced fast simulation agree on every value."""
    fast = FastSimulator(qgraph)
    trace = fast.trace(pixels)
    sums = fast.run(pixels)
    for i, image in enumerate(pixels):
        expected = run_reference(qgraph, image)
        for node in qgraph.nodes:
            assert np.array_equal(trace[node.name][i], expected[node.name]), node.name
        assert np.array_equal(sums[i], expected[qgraph.output].reshape(-1))


def random_pixels(rng: np.random.Generator, shape: tuple[int, int, int], count: int = 2) -> np.ndarray:
    pixels = rng.integers(0, 256, size=(count, *shape), dtype=np.uint8)
    pixels[0] = rng.choice(np.array([0, 255], dtype=np.uint8), size=shape)
    return pixels


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 16), st.integers(4, 16), st.booleans(), st.sampled_from([1, 2, 3, 5]), st.integers(1, 3), st.booleans())
def test_convolutions(seed: int, weight_bits: int, act_bits: int, signed: bool, kernel: int, stride: int, pads: bool) -> None:
    rng = np.random.default_rng(seed)
    image = image_node((int(rng.integers(1, 5)), int(rng.integers(kernel, 12)), int(rng.integers(kernel, 12))))
    padding = tuple(int(v) for v in rng.integers(0, kernel, size=4))
    fmt = TensorFormat(act_bits, int(rng.integers(-3, 6)), signed)
    first = random_conv(rng, "first", image, 5, kernel, fmt, stride, padding, weight_bits, pads)
    second = random_conv(rng, "second", first, 6, 1, TensorFormat(act_bits, 2, not signed), weight_bits=weight_bits)
    assert_equal(graph(image, first, second), random_pixels(rng, image.shape))


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(4, 16), st.booleans(), st.integers(2, 3), st.integers(1, 3))
def test_fire_with_pools_and_sum(seed: int, act_bits: int, signed: bool, kernel: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    image = image_node((3, int(rng.integers(7, 14)), int(rng.integers(7, 14))))
    padding = tuple(int(v) for v in rng.integers(0, kernel, size=4))
    fmt, out = TensorFormat(act_bits, 1, signed), TensorFormat(act_bits, 3, signed)
    conv1 = random_conv(rng, "conv1", image, 4, 3, fmt, pads=True, padding=(1, 1, 1, 1))
    pool1 = pool_node("pool1", conv1, kernel, stride, padding)
    squeeze = random_conv(rng, "squeeze", pool1, 4, 1, fmt)
    one = random_conv(rng, "one", squeeze, 3, 1, out)
    three = random_conv(rng, "three", squeeze, 5, 3, out, padding=(1, 1, 1, 1))
    concat = QNode("concat", QConcat(), ("one", "three"), (8, *squeeze.shape[1:]), out)
    tail = [pool_node("pool2", concat, 2, 1, (0, 0, 1, 1))] if seed % 2 else []
    conv10 = random_conv(rng, "conv10", (tail or [concat])[0], 7, 1, TensorFormat(act_bits, 2, signed=False))
    assert_equal(graph(image, conv1, pool1, squeeze, one, three, concat, *tail, conv10, sum_node("sum", conv10)), random_pixels(rng, image.shape))


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans(), st.integers(0, 9), st.integers(0, 9), st.integers(-2, 8), st.sampled_from([4, 8, 16]))
def test_add(seed: int, signed: bool, align_a: int, align_b: int, shift: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    image = image_node((2, 5, 6))
    a = random_conv(rng, "a", image, 4, 1, TensorFormat(bits, 0, signed))
    b = random_conv(rng, "b", image, 4, 1, TensorFormat(bits, align_a - align_b, signed))
    add = QNode("add", QAdd((align_a, align_b), shift), ("a", "b"), a.shape, TensorFormat(8, align_a - shift, signed))
    assert_equal(graph(image, a, b, add), random_pixels(rng, image.shape))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("channels", "kernel", "threads"), [(512, 1, 1), (512, 1, 2), (57, 3, 1), (57, 3, 2), (20, 5, 2)])
def test_extremes_just_below_the_float32_bound(sign: int, channels: int, kernel: int, threads: int) -> None:
    """All weights at a limit, all pixels at 255, the bias filling up to one below 2^24: every unit counts."""
    weight = np.full((9, channels, kernel, kernel), 127 if sign > 0 else -128)
    weight[1:] = np.random.default_rng(channels).choice([-128, 127], size=weight[1:].shape)
    extreme = 255 * int(np.abs(weight[0]).sum())
    assert extreme < FLOAT32_EXACT
    bias = np.zeros(9, dtype=np.int64)
    bias[0] = sign * (FLOAT32_EXACT - 1 - extreme)
    image = image_node((channels, kernel + 8, kernel + 7))
    conv = conv_node("conv", image, weight, bias, np.arange(9), TensorFormat(16, 0, signed=True))
    wide = conv_node("wide", image, weight, bias, np.full(9, 8), TensorFormat(16, 0, signed=True))
    pixels = np.full((2, *image.shape), 255, dtype=np.uint8)
    pixels[1] = np.random.default_rng(1).choice(np.array([0, 254, 255], dtype=np.uint8), size=image.shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for node in (conv, wide):
            simulator = FastSimulator(graph(image, node))
            assert simulator.layer_bounds[0].dtype == torch.float32
            assert simulator.layer_bounds[0].bound == FLOAT32_EXACT - 1
            assert_equal(graph(image, node), pixels)
            assert_equal(graph(image, node), pixels[:1])
    finally:
        torch.set_num_threads(before)


def test_one_beyond_the_bound_takes_float64() -> None:
    image = image_node((1, 1, 1))
    conv = conv_node("conv", image, np.array([[[[1]]]]), [FLOAT32_EXACT - 255], [0], TensorFormat(16, 0, signed=True))
    bound = FastSimulator(graph(image, conv)).layer_bounds[0]
    assert (bound.bound, bound.dtype) == (FLOAT32_EXACT, torch.float64)


def test_beyond_float64_is_refused() -> None:
    image = image_node((1, 1, 1))
    conv = conv_node("conv", image, np.array([[[[1]]]]), [1 << 53], [40], TensorFormat(16, 0, signed=True))
    with pytest.raises(InputError, match="layer conv: sums reach"):
        FastSimulator(graph(image, conv))


def test_one_corrupted_weight_changes_the_result() -> None:
    rng = np.random.default_rng(5)
    image = image_node((3, 9, 9))
    conv = random_conv(rng, "conv", image, 4, 3, TensorFormat(8, 0, signed=True), shift=12)
    good = graph(image, conv, sum_node("sum", conv))
    assert isinstance(conv.op, QConv)
    weight = conv.op.weight.copy()
    weight[2, 1, 1, 1] ^= 16
    bad = replace_node(good, "conv", weight=weight)
    pixels = random_pixels(rng, image.shape)
    difference = FastSimulator(good).run(pixels) != FastSimulator(bad).run(pixels)
    assert difference[:, 2].any() and not difference[:, [0, 1, 3]].any()


def test_reference_catches_an_accumulator_that_is_too_narrow() -> None:
    image = image_node((1, 2, 2))
    conv = conv_node("conv", image, np.array([[[[100]]]]), [0], [8], TensorFormat(8, 0, signed=False))
    assert isinstance(conv.op, QConv)
    narrow = replace_node(graph(image, conv), "conv", acc_bits=conv.op.acc_bits - 1)
    with pytest.raises(CheckFailedError, match="layer conv"):
        run_reference(narrow, np.full((1, 2, 2), 255, dtype=np.uint8))


def test_wrong_images_are_refused() -> None:
    image = image_node((1, 2, 2))
    qgraph = graph(image, sum_node("sum", image))
    with pytest.raises(InputError, match="uint8 images of shape"):
        FastSimulator(qgraph).run(np.zeros((1, 1, 3, 2), dtype=np.uint8))
    with pytest.raises(InputError, match="uint8 images of shape"):
        run_reference(qgraph, np.zeros((1, 2, 2), dtype=np.int64))  # type: ignore[arg-type]


def test_batches_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    image = image_node((3, 8, 8))
    conv = random_conv(rng, "conv", image, 6, 3, TensorFormat(8, 0, signed=False))
    simulator = FastSimulator(graph(image, conv, sum_node("sum", conv)))
    pixels = random_pixels(rng, image.shape, 19)
    assert np.array_equal(simulator.run(pixels), np.concatenate([simulator.run(p[np.newaxis]) for p in pixels]))
