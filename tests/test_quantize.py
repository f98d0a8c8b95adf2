from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_graphs import bypass_network, fire_network

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Input, MaxPool, Relu
from fpga_squeeze.quantize.calibrate import Calibration, calibrate
from fpga_squeeze.quantize.equalize import channel_scales, rescale
from fpga_squeeze.quantize.formats import best_format, squared_error
from fpga_squeeze.quantize.groups import format_groups
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QAdd, QConv, QuantGraph
from fpga_squeeze.quantize.stats import TensorStats
from fpga_squeeze.quantize.weights import choose_weight_frac, round_weights
from fpga_squeeze.simulate.evaluate import layer_sqnr
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

PIXELS = np.random.default_rng(0).integers(0, 256, size=(12, 3, 21, 21), dtype=np.uint8)
U8 = TensorFormat(8, 0, signed=False)


def quantized(graph: Graph, options: QuantOptions | None = None, pixels: np.ndarray = PIXELS) -> tuple[Calibration, QuantGraph]:
    calibration = calibrate(graph, pixels)
    qgraph = quantize(graph, calibration, options or QuantOptions())
    verify_quantized(qgraph)
    return calibration, qgraph


def test_contract_of_a_fire_network() -> None:
    calibration, qgraph = quantized(fire_network())
    assert qgraph.input.fmt == U8
    for node in qgraph.nodes[1:]:
        if isinstance(node.op, QConv):
            assert not node.fmt.signed and node.fmt.bits == 8
            assert np.abs(node.op.weight).max() <= 128
    assert qgraph["conv1"].op.pad_value == (104, 117, 123)  # type: ignore[union-attr]
    for name in ("fire2.expand1x1", "fire2.expand3x3", "fire2.concat"):
        assert qgraph[name].fmt == qgraph["fire2.concat"].fmt
    assert qgraph["pool1"].fmt == qgraph["conv1"].fmt
    assert qgraph["pool10"].fmt.bits == 32 and qgraph["pool10"].fmt.frac == qgraph["conv10"].fmt.frac
    assert min(row.sqnr_db for row in layer_sqnr(calibration.graph, qgraph, PIXELS)) > 22.0


def test_more_bits_less_noise() -> None:
    graph = fire_network(4)
    noise = []
    for weight_bits, act_bits in ((4, 4), (8, 8), (12, 12), (16, 16)):
        calibration, qgraph = quantized(graph, QuantOptions(weight_bits, act_bits))
        noise.append(layer_sqnr(calibration.graph, qgraph, PIXELS)[-1].sqnr_db)
    assert noise == sorted(noise)
    assert noise[-1] > 60.0


def test_same_input_same_integers() -> None:
    first, second = (quantized(fire_network(2))[1] for _ in range(2))
    for a, b in zip(first.nodes, second.nodes, strict=True):
        assert a.fmt == b.fmt
        if isinstance(a.op, QConv) and isinstance(b.op, QConv):
            assert np.array_equal(a.op.weight, b.op.weight) and np.array_equal(a.op.bias, b.op.bias)


@pytest.mark.parametrize("relu", [True, False])
def test_addition_aligns_its_operands(relu: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, size=(9, 3, 9, 9), dtype=np.uint8)
    calibration, qgraph = quantized(bypass_network(relu), pixels=pixels)
    op = qgraph["add"].op
    assert isinstance(op, QAdd) and min(op.align) == 0
    assert qgraph["add"].fmt.signed is not relu and qgraph["a"].fmt.signed is not relu
    assert min(row.sqnr_db for row in layer_sqnr(calibration.graph, qgraph, pixels)) > 20.0


def nested_concats(rectified: tuple[bool, bool, bool]) -> tuple[Graph, tuple[str, ...]]:
    b = GraphBuilder()
    x = b.add("image", Input((1, 4, 4)), ())
    names = []
    for i, gain in enumerate((0.01, 1.0, 5.0)):
        names.append(b.add(f"c{i}", Conv(np.full((2, 1, 1, 1), gain), np.zeros(2), relu=rectified[i]), (x,)))
    inner = b.add("inner", Concat(), (names[0], names[1]))
    pool = b.add("pool", MaxPool(2, 2), (b.add("outer", Concat(), (inner, names[2])),))
    return b.build(b.add("sum", GlobalAveragePool(), (pool,))), (*names, "inner", "outer", "pool")


@pytest.mark.parametrize("relu", [False, True])
def test_nested_concats_share_one_format(relu: bool) -> None:
    graph, names = nested_concats((relu,) * 3)
    assert len({format_groups(graph)[n] for n in names}) == 1
    _, qgraph = quantized(graph, pixels=np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4))
    assert len({qgraph[n].fmt for n in names}) == 1
    assert qgraph["outer"].fmt.signed is not relu


def test_rectified_and_plain_branches_of_a_concat_are_refused() -> None:
    """One format serves both, and rectification is the format being unsigned: a signed one would lose the ReLU."""
    graph, _ = nested_concats((False, True, True))
    with pytest.raises(InputError, match="layers c1 and c0: joined by a concat, but one is rectified"):
        quantized(graph, pixels=np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4))


def test_dead_channels_and_dead_layers() -> None:
    graph = fire_network(5)
    conv = graph["fire2.expand3x3"].op
    assert isinstance(conv, Conv)
    conv.weight[2] = 0.0
    conv.weight[3] *= 1e-12
    conv.bias[2] = 0.7
    calibration, qgraph = quantized(graph)
    op, fmt = qgraph["fire2.expand3x3"].op, qgraph["fire2.expand3x3"].fmt
    assert isinstance(op, QConv)
    assert not op.weight[2].any() and op.shift[2] == 0
    real = calibration.graph["fire2.expand3x3"].op.bias[2]  # type: ignore[union-attr]
    assert abs(op.bias[2] * fmt.scale - real) <= fmt.scale
    assert np.abs(op.shift).max() <= 40 and op.acc_bits <= 40


def test_layer_bits_by_name() -> None:
    _, qgraph = quantized(fire_network(), QuantOptions(layer_bits=(("fire2.squeeze", 4), ("conv10", 12))))
    bits = {n.name: n.op.weight_bits for n in qgraph.nodes if isinstance(n.op, QConv)}
    assert (bits.pop("fire2.squeeze"), bits.pop("conv10")) == (4, 12)
    assert set(bits.values()) == {8}
    with pytest.raises(InputError, match=r"'fire2.squeze' is no convolution .* fire2.squeeze"):
        quantized(fire_network(), QuantOptions(layer_bits=(("fire2.squeze", 4),)))


@pytest.mark.parametrize("options", [(1, 8, ()), (17, 8, ()), (8, 3, ()), (8, 17, ()), (8, 8, (("conv1", 1),))])
def test_widths_out_of_range(options: tuple[int, int, tuple[tuple[str, int], ...]]) -> None:
    with pytest.raises(InputError, match="was expected, got"):
        QuantOptions(*options)


def test_calibration_refuses_what_it_cannot_use() -> None:
    graph = fire_network()
    for pixels in (PIXELS[:0], PIXELS[:, :, :5], PIXELS.astype(np.float32)):
        with pytest.raises(InputError, match="calibration: uint8 images"):
            calibrate(graph, pixels)
    with pytest.raises(InputError, match="calibration of this very network"):
        quantize(fire_network(classes=3), calibrate(graph, PIXELS), QuantOptions())


def test_operators_the_machine_lacks() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((1, 4, 4)), ())
    x = b.add("conv", Conv(np.ones((2, 1, 1, 1)), np.zeros(2)), (x,))
    relu = b.build(b.add("relu", Relu(), (x,)))
    pixels = np.ones((1, 1, 4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="layer relu: Relu must be folded away"):
        quantize(relu, calibrate(relu, pixels), QuantOptions())
    b = GraphBuilder()
    x = b.add("mean", GlobalAveragePool(), (b.add("image", Input((2, 4, 4)), ()),))
    graph = b.build(b.add("after", Conv(np.ones((1, 2, 1, 1)), np.zeros(1)), (x,)))
    with pytest.raises(InputError, match="global average pooling must be the last"):
        quantize(graph, calibrate(graph, np.ones((1, 2, 4, 4), dtype=np.uint8)), QuantOptions())


def test_progress_counts_up_to_the_total() -> None:
    calls: list[tuple[int, int]] = []
    calibrate(fire_network(), PIXELS, lambda done, total: calls.append((done, total)))
    assert calls == [(i, 4) for i in range(1, 5)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equalizing_keeps_the_function(seed: int) -> None:
    graph = fire_network(seed) if seed % 2 else bypass_network(bool(seed % 4))
    rng = np.random.default_rng(seed)
    peaks = {n.name: rng.lognormal(0, 2, n.shape[0]) * (rng.random(n.shape[0]) > 0.1) for n in graph.nodes}
    scales = channel_scales(graph, peaks)
    x = torch.from_numpy(PIXELS[:2, :, : graph.input.shape[1], : graph.input.shape[2]].astype(np.float32))
    before, after = FloatModel(graph).trace(x), FloatModel(rescale(graph, scales)).trace(x)
    for n in graph.nodes:
        expected = before[n.name] * torch.from_numpy(scales[n.name].astype(np.float32)).view(1, -1, 1, 1)
        torch.testing.assert_close(after[n.name], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()) + 1e-9)
    assert (scales["image"] == 1.0).all() and (scales[graph.output] == 1.0).all() and (scales["conv10"] == 1.0).all()


def test_format_choice_clips_rare_outliers_only() -> None:
    counts = np.zeros(2048, dtype=np.int64)
    counts[:512] = 100_000
    counts[-1] = 1
    rare = TensorStats(0.0, 16.0, counts)
    often = TensorStats(0.0, 16.0, counts + 1000)
    assert best_format((often,), 8, signed=False).frac == 4  # 15.94 clips the last bin a little, 31.9 doubles all rounding
    assert best_format((rare,), 8, signed=False).frac > 4
    assert squared_error(rare, best_format((rare,), 8, signed=False)) < squared_error(rare, TensorFormat(8, 4, signed=False))
    assert best_format((TensorStats(0.0, 0.0, counts * 0),), 8, signed=False) == U8


def test_weight_scales_use_the_whole_range() -> None:
    weight = np.array([1.0, 0.26, -0.5, 127 / 64, 0.001]).reshape(5, 1, 1, 1)
    frac = choose_weight_frac(weight, 8, U8, U8)
    assert frac.tolist()[:4] == [6, 8, 7, 6]
    integers = round_weights(weight, frac, 8, None)
    assert integers[:4].reshape(-1).tolist() == [64, 67, -64, 127]


def test_compensated_rounding_beats_plain_rounding_on_the_outputs() -> None:
    rng = np.random.default_rng(11)
    inputs = rng.standard_normal((4000, 40)) @ rng.standard_normal((40, 40))
    weight = rng.standard_normal((16, 40, 1, 1))
    frac = choose_weight_frac(weight, 4, U8, U8)
    errors = []
    for moment in (None, inputs.T @ inputs / len(inputs)):
        real = round_weights(weight, frac, 4, moment)[:, :, 0, 0] * 2.0 ** -frac[:, None]
        errors.append(float(((inputs @ (real - weight[:, :, 0, 0]).T) ** 2).mean()))
    assert errors[1] < 0.6 * errors[0]


def test_bias_correction_removes_the_mean_error() -> None:
    graph = fire_network(6)
    calibration, qgraph = quantized(graph, QuantOptions(4, 8))
    x = torch.from_numpy(PIXELS.astype(np.float32))
    wanted = FloatModel(calibration.graph).trace(x)["conv1"].numpy()
    got = FastSimulator(qgraph).trace(PIXELS)["conv1"] * qgraph["conv1"].fmt.scale
    shift = np.abs((got - wanted).mean(axis=(0, 2, 3)))
    assert (shift < 0.35 * np.abs(got - wanted).mean(axis=(0, 2, 3)) + qgraph["conv1"].fmt.scale / 2).all()
