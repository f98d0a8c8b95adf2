"""The methods of the best quantizer, each for what it promises, on small networks and layers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_graphs import bypass_network, fire_network

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, GlobalAveragePool, Graph, GraphBuilder, Input
from fpga_squeeze.quantize.answer_ranges import answer_scales
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.channel_ranges import channel_ranges
from fpga_squeeze.quantize.codebook import learn_codebook
from fpga_squeeze.quantize.drop import DropMeter
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.methods import BEST, FAST, PLAIN, QUANTIZERS, Methods, find_methods
from fpga_squeeze.quantize.propagate import LayerData, _least_squares
from fpga_squeeze.quantize.ptq import QuantOptions, calibrate_for, quantize
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.quantize.weights import descend, pruned_weights, round_weights, to_grid
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel, apply_node, node_parameters
from fpga_squeeze.zoo import embedded_images, embedded_model_path

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, size=(24, 3, 21, 21), dtype=np.uint8)


def moment(n: int, rank: int, rng: np.random.Generator) -> np.ndarray:
    """A covariance of n inputs that depend on one another."""
    mixed = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, 400)) + 0.1 * rng.normal(size=(n, 400))
    return np.asarray(np.cov(mixed))


def error(weight: np.ndarray, found: np.ndarray, frac: np.ndarray, second_moment: np.ndarray) -> float:
    off = (found * np.exp2(-frac.astype(float))[:, None, None, None] - weight).reshape(len(weight), -1)
    return float(np.einsum("oi,ij,oj->", off, second_moment, off))


def test_every_method_lowers_the_error_of_a_layer() -> None:
    rng = np.random.default_rng(1)
    weight, covariance, frac = rng.normal(size=(12, 5, 3, 3)), moment(45, 20, rng), np.full(12, 1)
    plain = round_weights(weight, frac, 4, None)
    compensated = round_weights(weight, frac, 4, covariance)
    descended = descend(weight, compensated, frac, 4, covariance)
    errors = [error(weight, w, frac, covariance) for w in (plain, compensated, descended)]
    assert errors[1] < 0.7 * errors[0] and errors[2] < errors[1]
    assert np.abs(descended).max() <= 8 and (descended != compensated).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), bits=st.integers(2, 6), pruned=st.booleans(), levels=st.booleans())
def test_descent_never_raises_the_error_and_stays_on_the_grid(seed: int, bits: int, pruned: bool, levels: bool) -> None:
    rng = np.random.default_rng(seed)
    weight, covariance, frac = rng.normal(size=(4, 6, 1, 1)), moment(6, 3, rng), rng.integers(0, 4, size=4)
    mask = rng.random(weight.shape) < 0.4 if pruned else None
    if mask is not None:
        weight = np.where(mask, 0.0, weight)
    values = np.array(sorted({0, *rng.integers(-8, 8, size=5).tolist()})) if levels else None
    start = round_weights(weight, frac, bits, covariance, values, mask)
    found = descend(weight, start, frac, bits, covariance, values, mask)
    damped = covariance + np.eye(6) * 0.01 * np.diag(covariance).mean()
    assert error(weight, found, frac, damped) <= error(weight, start, frac, damped) * (1 + 1e-9)
    for w in (start, found):
        allowed = set(range(-(1 << bits - 1), 1 << bits - 1)) if values is None else set(values.tolist())
        assert set(w.ravel().tolist()) <= allowed | ({0} if mask is not None else set())
        assert mask is None or not w[mask].any()


def test_the_fit_solves_its_least_squares() -> None:
    rng = np.random.default_rng(2)
    covariance, wanted, start = moment(10, 10, rng) + np.eye(10) * 0.05, rng.normal(size=(3, 10)), rng.normal(size=(3, 10))
    free = np.ones((3, 10))
    assert np.allclose(_least_squares(covariance, wanted, start, free), np.linalg.solve(covariance, wanted.T).T, atol=1e-6)
    free[1, ::2] = 0.0
    found = _least_squares(covariance, wanted, start, free)
    own = np.flatnonzero(free[1])
    assert np.allclose(found[1, own], np.linalg.solve(covariance[np.ix_(own, own)], wanted[1, own]), atol=1e-6) and not found[1, ::2].any()


def test_the_fit_takes_an_error_of_the_inputs_back() -> None:
    """Inputs that arrive 10% too large: the fit makes the weights that much smaller."""
    covariance = np.diag(np.linspace(1.0, 2.0, 8)) + 0.02 * moment(8, 8, np.random.default_rng(3))
    op = Conv(np.random.default_rng(4).normal(size=(2, 8, 1, 1)), np.zeros(2))
    data = LayerData(np.zeros(8), np.zeros(8), covariance * 1.21, covariance * 1.1)
    assert np.allclose(data.refitted(op.weight), op.weight / 1.1, rtol=0.02, atol=0.02)
    assert data.refitted(op.weight) is not op.weight
    assert replace(data, cross_moment=None).refitted(op.weight) is op.weight


@pytest.mark.parametrize("index_bits", [3, 4, 6])
def test_a_codebook_is_small_holds_zero_and_beats_even_steps(index_bits: int) -> None:
    rng = np.random.default_rng(6)
    weight = rng.laplace(size=(16, 20, 3, 3)) * np.exp2(rng.uniform(-3, 3, size=(16, 1, 1, 1)))
    importance = rng.uniform(0.5, 2.0, size=180)
    frac, levels = learn_codebook(weight, 8, index_bits, importance)
    assert len(levels) <= 2**index_bits and 0 in levels and (np.diff(levels) > 0).all() and np.abs(levels).max() <= 128
    off = to_grid(weight.reshape(16, -1) * np.exp2(frac)[:, None], 8, levels) * np.exp2(-frac)[:, None] - weight.reshape(16, -1)
    spread = np.abs(weight).max(axis=(1, 2, 3))
    even = np.floor(np.log2((2.0 ** (index_bits - 1) - 1 or 0.5) / spread))
    errors, limit = [], 2 ** (index_bits - 1)
    for more in range(3):
        step = np.exp2(-(even + more))[:, None]
        errors.append(((np.clip(np.rint(weight.reshape(16, -1) / step), -limit, limit - 1) * step - weight.reshape(16, -1)) ** 2).sum(1))
    assert float((off**2).sum()) < 0.85 * float(np.min(errors, axis=0).sum())


def quantized(graph: Graph, **options: object) -> tuple[Graph, QuantGraph]:
    calibration = calibrate(graph, PIXELS)
    qgraph = quantize(graph, calibration, QuantOptions(**options))  # type: ignore[arg-type]
    verify_quantized(qgraph)
    return calibration.graph, qgraph


def convs(qgraph: QuantGraph) -> dict[str, QConv]:
    return {n.name: n.op for n in qgraph.nodes if isinstance(n.op, QConv)}


def test_codebooks_of_a_network_by_layer() -> None:
    _, qgraph = quantized(fire_network(), methods=BEST, codebook_bits=3, layer_codebooks=(("conv10", 0), ("fire2.squeeze", 5)))
    distinct = {name: len(np.unique(op.weight)) for name, op in convs(qgraph).items()}
    assert distinct["conv10"] > 32 and 8 < distinct["fire2.squeeze"] <= 32
    assert all(count <= 8 for name, count in distinct.items() if name not in ("conv10", "fire2.squeeze"))
    assert {op.weight_bits for op in convs(qgraph).values()} == {8}
    with pytest.raises(InputError, match=r"layer codebook: 'conv11' is no convolution of this network; did you mean conv1, conv10"):
        quantized(fire_network(), layer_codebooks=(("conv11", 3),))
    with pytest.raises(InputError, match="codebook bits of layer conv10: 1 to 6 was expected, or 0 for none, got 7"):
        QuantOptions(layer_codebooks=(("conv10", 7),))


def test_a_codebook_as_large_as_the_integers_is_none() -> None:
    _, with_book = quantized(fire_network(), weight_bits=4, codebook_bits=4)
    _, without = quantized(fire_network(), weight_bits=4)
    assert all(np.array_equal(op.weight, convs(without)[name].weight) for name, op in convs(with_book).items())


def divergence(graph: Graph, qgraph: QuantGraph, pixels: np.ndarray) -> float:
    """Mean squared difference of the classes' means over the map."""
    real = FloatModel(graph).run(torch.from_numpy(pixels.astype(np.float32))).flatten(1).numpy()
    node = qgraph[qgraph.output]
    area = np.prod(qgraph[node.inputs[0]].shape[1:])
    return float(((FastSimulator(qgraph).run(pixels) * node.fmt.scale / area - real) ** 2).mean())


def test_best_beats_fast_beats_plain_where_weights_are_coarse() -> None:
    fresh = np.random.default_rng(9).integers(0, 256, size=(32, 3, 21, 21), dtype=np.uint8)
    found = {}
    for name in ("plain", "fast", "best"):
        total = 0.0
        for seed in (1, 2, 3):
            graph = fire_network(seed)
            calibration = calibrate(graph, PIXELS, equalize=QUANTIZERS[name].equalize, by_answer=QUANTIZERS[name].answer_ranges)
            total += divergence(calibration.graph, quantize(graph, calibration, QuantOptions(4, methods=QUANTIZERS[name])), fresh)
        found[name] = total
    assert found["best"] < 0.95 * found["fast"] and found["fast"] < 0.8 * found["plain"], found


def test_the_range_of_a_channel_is_what_serves_the_answer() -> None:
    """Three channels of one tensor: small but for one pixel of one image; even; read by nothing. At 4 bits the first gives that pixel up."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, size=(12, 3, 9, 9), dtype=np.uint8)
    pixels[:, 0] = pixels[:, 0] // 8
    pixels[3, 0, 4, 4] = 255
    reads = rng.normal(size=(6, 3, 1, 1)) * 0.1
    reads[:, 2] = 0.0
    b = GraphBuilder()
    image = b.add("image", Input((3, 9, 9)), ())
    made = b.add("made", Conv(np.eye(3).reshape(3, 3, 1, 1), np.zeros(3), relu=True), (image,))
    graph = b.build(b.add("mean", GlobalAveragePool(), (b.add("scores", Conv(reads, np.zeros(6)), (made,)),)))
    peaks = {n.name: np.full(n.shape[0], 255.0) for n in graph.nodes}
    small, even, unread = channel_ranges(graph, pixels, peaks, 4)["made"]
    assert 25.0 < small < 80.0 and 200.0 < even < 361.0 and unread == 255.0
    calls: list[tuple[int, int]] = []
    again = channel_ranges(graph, pixels, peaks, 4, lambda done, total: calls.append((done, total)))
    assert np.array_equal(again["made"], [small, even, unread]) and calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("graph", [fire_network(2), bypass_network(True)], ids=["fire", "bypass"])
def test_ranges_by_channel_leave_the_function_and_serve_weights_of_one_fine_width(graph: Graph) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, size=(10, *graph.input.shape), dtype=np.uint8)
    calls: list[tuple[int, int]] = []
    fine = calibrate_for(graph, pixels, QuantOptions(methods=BEST), lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls) and {total for _, total in calls} == {8} and len(calls) > 8
    x = torch.from_numpy(pixels.astype(np.float32))
    assert torch.allclose(FloatModel(graph).run(x), FloatModel(fine.graph).run(x), rtol=1e-3, atol=1e-3)
    verify_quantized(quantize(graph, fine, QuantOptions(methods=BEST)))
    plain = calibrate(graph, pixels, by_answer=True)
    assert any(not np.allclose(fine.scales[name], plain.scales[name], rtol=0.05) for name in plain.scales)
    for other in (QuantOptions(7, methods=BEST), QuantOptions(layer_bits=(("conv1", 8),), methods=BEST), QuantOptions(codebook_bits=6, methods=BEST)):
        coarse = calibrate_for(graph, pixels, other)
        assert all(np.array_equal(coarse.scales[name], plain.scales[name]) for name in plain.scales)


def test_clipped_values_do_not_bend_the_layers_that_read_them() -> None:
    """A squeeze clipped to a quarter of its range: rounding is negligible, so what changes in the weights that read it is what a fit makes of the clipping."""
    graph = fire_network(3)
    calibration = calibrate(graph, PIXELS, act_bits=12)
    fmt = quantize(graph, calibration, QuantOptions(12, 12))["fire2.squeeze"].fmt
    calibration = replace(calibration, fracs={"fire2.squeeze": fmt.frac + 2})

    def bent(methods: Methods, bits: int = 12) -> tuple[QConv, float]:
        made = quantize(graph, calibration, QuantOptions(bits, 12, methods=methods))
        reader, source = convs(made)["fire2.expand1x1"], calibration.graph["fire2.expand1x1"].op
        assert made["fire2.squeeze"].fmt.frac == fmt.frac + 2 and isinstance(source, Conv)
        bias = reader.bias * np.exp2(-(reader.weight_frac + fmt.frac + 2).astype(float)) - source.bias
        return reader, float(np.abs(bias).max() / np.abs(source.bias).max())

    for methods in (BEST, replace(BEST, refit=False)):
        assert bent(methods)[1] < 0.01 and bent(replace(methods, clipped_reference=False))[1] > 0.1
    coarse, before = (bent(replace(BEST, clipped_reference=flag), bits=7)[0] for flag in (True, False))
    assert np.array_equal(coarse.weight, before.weight) and np.array_equal(coarse.bias, before.bias), "below 8 bits the whole range is what counts"


def test_quantizers_by_name() -> None:
    assert find_methods("fast") == FAST == Methods() and find_methods("best") == BEST and find_methods("plain") == PLAIN
    with pytest.raises(InputError, match="--quantizer: one of plain, fast, best was expected, got 'better'"):
        find_methods("better")


def test_pruned_weights_stay_zero() -> None:
    """Compensation would give weights that training has pruned small values, and the memory they no longer need back."""
    graph = fire_network(2)
    nodes = []
    rng = np.random.default_rng(8)
    for n in graph.nodes:
        op = n.op
        if isinstance(op, Conv) and n.name != "conv1":
            op = replace(op, weight=np.where(rng.random(op.weight.shape) < 0.6, 0.0, op.weight))
        nodes.append(replace(n, op=op))
    pruned = replace(graph, nodes=tuple(nodes))
    for methods in (FAST, BEST):
        equalized, qgraph = quantized(pruned, weight_bits=6, methods=methods)
        for name, op in convs(qgraph).items():
            source = equalized[name].op
            assert isinstance(source, Conv)
            if name != "conv1":
                assert not op.weight[source.weight == 0].any(), name
    assert pruned_weights(np.array([[[[1.0]]], [[[0.0]]]])) is not None
    assert pruned_weights(np.array([[[[1.0]]], [[[2.0]]]])) is None


def test_the_expected_drop_is_the_difference_of_probabilities() -> None:
    graph, qgraph = quantized(fire_network(classes=40), weight_bits=2, act_bits=4, methods=PLAIN)
    meter = DropMeter(graph, PIXELS)
    drop = meter.of(qgraph)
    scores = FloatModel(graph).run(torch.from_numpy(PIXELS.astype(np.float32))).flatten(1).double()
    p = torch.softmax(scores, 1).numpy()
    answers = FastSimulator(qgraph).run(PIXELS).argmax(1)
    assert drop.top1 == pytest.approx(100 * np.mean([row.max() - row[a] for row, a in zip(p, answers, strict=True)]))
    losses = [row.max() - row[a] for row, a in zip(p, answers, strict=True)]
    assert drop.error == pytest.approx(100 * np.std(losses, ddof=1) / len(losses) ** 0.5) and drop.error > 0
    assert drop.agreement == pytest.approx(100 * np.mean(p.argmax(1) == answers)) and drop.top1 > 0
    _, good = quantized(fire_network(classes=40), weight_bits=12, act_bits=12)
    assert meter.of(good).top1 < drop.top1 / 4


def test_scales_by_the_answer_are_the_best_of_those_tried() -> None:
    """One tensor alone rounded at the step that was chosen, and at its neighbours: none of them disturbs the answer less."""
    graph = calibrate(fire_network(3, classes=20), PIXELS).graph
    factors, fracs = answer_scales(graph, PIXELS, 6, lambda done, total: None)
    expected = torch.log_softmax(FloatModel(graph).run(torch.from_numpy(PIXELS.astype(np.float32))).flatten(1).double(), 1)

    def disturbed(names: list[str], step: float) -> float:
        values: dict[str, torch.Tensor] = {}
        for n in graph.nodes:
            y = torch.from_numpy(PIXELS.astype(np.float32)) if not n.inputs else apply_node(n, tuple(values[i] for i in n.inputs), node_parameters(n))
            values[n.name] = (y / step).round().clamp(0, 63) * step if n.name in names else y
        got = torch.log_softmax(values[graph.output].flatten(1).double(), 1)
        return float((expected.exp() * (expected - got)).sum(1).mean())

    assert {"conv1", "fire2.squeeze", "fire2.concat"} <= fracs.keys() and not {"image", "conv10", graph.output} & fracs.keys()
    for name in ("conv1", "fire2.squeeze"):
        assert 1.0 <= factors[name] < 2.0
        step = 2.0 ** -fracs[name] / factors[name]
        best = disturbed([name], step)
        assert best < 1.05 * min(disturbed([name], step * 2.0**0.25), disturbed([name], step * 2.0**-0.25)), name


def test_scales_by_the_answer_leave_the_function_and_hold_in_the_machine() -> None:
    graph = fire_network(3)
    calibration = calibrate(graph, PIXELS, act_bits=6, by_answer=True)
    x = torch.from_numpy(PIXELS.astype(np.float32))
    assert torch.allclose(FloatModel(graph).run(x), FloatModel(calibration.graph).run(x), rtol=1e-3, atol=1e-3)
    chosen = quantize(graph, calibration, QuantOptions(8, 6, methods=BEST))
    assert chosen["fire2.squeeze"].fmt.frac == calibration.fracs["fire2.squeeze"] and chosen["fire2.squeeze"].fmt.bits == 6
    verify_quantized(chosen)
    other = quantize(graph, calibration, QuantOptions(8, 10, methods=BEST))
    assert other["fire2.squeeze"].fmt.frac > calibration.fracs["fire2.squeeze"], "chosen for 6 bits, of no use at 10"


def test_what_follows_from_the_options() -> None:
    def follows(**options: object) -> tuple[str | None, str | None, str]:
        found = ExportConfig(**options).resolved()  # type: ignore[arg-type]
        assert found.resolved() == found
        return found.quantizer, found.weight_storage, found.weights

    assert follows() == ("fast", "dense", "auto")
    assert follows(weight_bits=6) == follows(layer_bits=(("conv10", 7),)) == ("best", "dense", "auto")
    assert follows(codebook_bits=4) == follows(layer_codebooks=(("conv10", 4),)) == ("best", "smallest", "auto")
    assert follows(codebook_bits=4, device="kv260") == ("best", "auto", "auto")
    assert follows(weight_budget="620kB") == ("best", "smallest", "rom"), "a budget would have to pay for loaded weights as they are"
    assert follows(max_drop=1.0, device="kv260") == ("best", "auto", "rom")
    assert follows(weight_budget="620kB", weights="loaded") == follows(weight_budget="620kB", weights="loaded", quantizer="best") == ("best", "dense", "loaded")
    assert follows(weight_budget="620kB", weight_storage="dense", quantizer="fast") == ("fast", "dense", "auto")
    for wrong, text in (({"codebook_bits": 7}, "--codebook-bits"), ({"quantizer": "good"}, "--quantizer"), ({"layer_codebooks": (("conv10", -1),)}, "conv10")):
        with pytest.raises(InputError, match=text):
            ExportConfig(**wrong)  # type: ignore[arg-type]


def test_a_codebook_on_the_command_line_and_again(tmp_path: Path, run_cli: RunCli) -> None:
    common = ("export", embedded_model_path(), "--calibration", embedded_images("calibration"))
    first = run_cli(*common, "-o", tmp_path / "a", "--codebook-bits", "3", "--layer-codebook", "conv1=0")
    assert first.code == 0, first.err
    opened = pipeline.open_export(tmp_path / "a")
    distinct = {n.name: len(np.unique(n.op.weight)) for n in opened.qgraph.nodes if isinstance(n.op, QConv)}
    assert distinct.pop("conv1") > 8 and max(distinct.values()) <= 8
    rows = {row["name"] for row in json.loads((tmp_path / "a/report/memory_budget.json").read_text())["rows"]}
    assert any(name.endswith((".indices", ".bitmap")) for name in rows)
    page = (tmp_path / "a/report/report.html").read_text()
    assert "3-bit indices" in page and "int8 (8 values) weights" in page
    for name in ("build.toml", "preprocess.json"):
        (tmp_path / name).write_bytes((tmp_path / "a/model" / name).read_bytes())
    assert run_cli(*common, "-o", tmp_path / "b", "--config", tmp_path / "build.toml").code == 0
    for name in ("model/weights.npz", "model/folding.json", "model/build.toml", "rtl/squeezenet.sv"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes(), name
    wrong = run_cli(*common, "-o", tmp_path / "no", "--layer-codebook", "conv10=9")
    assert wrong.code == 2 and "--layer-codebook conv10" in wrong.err and not (tmp_path / "no").exists()
    clash = run_cli(*common, "-o", tmp_path / "no", "--weight-budget", "9kB", "--codebook-bits", "3")
    assert clash.code == 2 and "leave out --codebook-bits" in clash.err and not (tmp_path / "no").exists()
