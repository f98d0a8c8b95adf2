"""Widths under a weight budget: the measurement, the choice, and the export that keeps the budget, says what it chose and is made again from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from quant_graphs import fire_network

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig, load_config
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.ir import Conv
from fpga_squeeze.quantize.calibrate import Calibration, calibrate
from fpga_squeeze.quantize.mixed import WidthOptions, WidthSearch, search_widths, weight_counts
from fpga_squeeze.quantize.qgraph import QConv
from fpga_squeeze.quantize.sensitivity import WIDTHS, _divergences, measure
from fpga_squeeze.simulate.float_model import FloatModel, node_parameters
from fpga_squeeze.zoo import embedded_images, embedded_model_path

PIXELS = np.random.default_rng(0).integers(0, 256, size=(10, 3, 21, 21), dtype=np.uint8)
MODEL = embedded_model_path()
IMAGES = str(embedded_images("calibration"))


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    return calibrate(fire_network(), PIXELS)


@pytest.fixture(scope="module")
def search(calibrated: Calibration) -> WidthSearch:
    return search_widths(fire_network(), calibrated, WidthOptions())


def test_every_layer_and_width_is_measured(search: WidthSearch) -> None:
    sensitivity = search.sensitivity
    assert sensitivity.layers == tuple(weight_counts(search.graph)) and sensitivity.widths == WIDTHS
    assert sensitivity.costs.shape == (len(sensitivity.layers), len(WIDTHS)) and (sensitivity.costs >= 0).all()
    assert (sensitivity.costs[:, 0] > 20 * sensitivity.costs[:, -1]).all()


def test_the_measurement_does_not_depend_on_chance(search: WidthSearch, calibrated: Calibration) -> None:
    steps: list[tuple[int, int]] = []
    again = measure(fire_network(), calibrated, 8, lambda done, total: steps.append((done, total)))
    assert np.array_equal(again.costs, search.sensitivity.costs)
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1)) and {total for _, total in steps} == {len(steps)}


def test_divergence_is_that_of_the_whole_network_run_again(calibrated: Calibration) -> None:
    """Against the slow way: a graph with other weights, run from the image."""
    graph = calibrated.graph
    x = torch.from_numpy(PIXELS[:3].astype(np.float32))
    rng = np.random.default_rng(3)
    for name in weight_counts(graph):
        node = graph[name]
        weight, bias = node_parameters(node)
        other = weight * torch.from_numpy(rng.uniform(0.8, 1.2, weight.shape).astype(np.float32))
        nodes = tuple(replace(n, op=replace(n.op, weight=other.numpy().astype(np.float64))) if n.name == name else n for n in graph.nodes)  # type: ignore[type-var]
        expected, got = (torch.log_softmax(FloatModel(g).run(x).double(), 1) for g in (graph, replace(graph, nodes=nodes)))
        divergence = float((expected.exp() * (expected - got)).sum())
        found = dict(_divergences(graph, x, {name: [(weight, bias), (other, bias)]}))[name]
        assert found[0] == pytest.approx(0.0, abs=1e-9) and found[1] == pytest.approx(divergence, rel=1e-3, abs=1e-9)


def test_the_budget_is_kept_and_used(search: WidthSearch) -> None:
    counts = weight_counts(search.graph)
    total = sum(counts.values())
    for average in (2.0, 3.3, 5.0, 9.0):
        limit = int(total * average / 8)
        widths = search.choose(limit)
        assert widths.weight_bits == sum(counts[name] * bits for name, bits in widths.layer_bits) <= 8 * limit
        assert widths.average_bits > min(average, 8.0) - 0.5
    assert {bits for _, bits in widths.layer_bits} <= {7, 8}
    qgraph = search.quantize(widths)
    assert all(qgraph[name].op.weight_bits == bits for name, bits in widths.layer_bits)  # type: ignore[union-attr]


def test_given_layers_the_widest_width_and_stored_weights(search: WidthSearch) -> None:
    counts = weight_counts(search.graph)
    limit = int(sum(counts.values()) * 0.6)
    given = replace(search, options=WidthOptions(widest=5, fixed=(("conv1", 10), ("fire2.squeeze", 2))))
    widths = given.choose(limit)
    rows = {row.name: row for row in widths.layers}
    assert rows["conv1"].bits == 10 and rows["conv1"].given and rows["conv1"].divergence is None
    assert rows["fire2.squeeze"].bits == 2 and rows["fire2.squeeze"].divergence is not None
    assert all(row.bits <= 5 for row in widths.layers if not row.given) and widths.weight_bits <= 8 * limit
    stored = search.choose(limit, {"conv10": 3.0})
    assert stored.weight_bits + 2 * counts["conv10"] * dict(stored.layer_bits)["conv10"] <= 8 * limit


def test_impossible_budgets_and_options(search: WidthSearch) -> None:
    least = -(-2 * sum(weight_counts(search.graph).values()) // 8)
    assert {bits for _, bits in search.choose(least).layer_bits} == {2}
    with pytest.raises(CheckFailedError, match=rf"at least {least:,} \(layers at 2 bits\)"):
        search.choose(least - 1)
    with pytest.raises(InputError, match="2 to 8"):
        WidthOptions(widest=9)


def export(run_cli: RunCli, out: Path, *more: object) -> dict[str, object]:
    result = run_cli("export", MODEL, "--calibration", IMAGES, "-o", out, "--json", *more)
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert isinstance(body, dict)
    return body


def test_export_keeps_the_budget_and_can_be_made_again(tmp_path: Path, run_cli: RunCli) -> None:
    body = export(run_cli, tmp_path / "a", "--weight-budget", "9kB", "--layer-bits", "conv1=6")
    chosen = body["weight_budget"]
    assert isinstance(chosen, dict) and chosen["limit_bytes"] == 9000 and chosen["weight_bytes"] <= 9000
    bits = {row["name"]: row["bits"] for row in chosen["layers"]}
    books = {row["name"]: row["bits"] for row in chosen["layers"] if row["codebook"]}
    assert bits["conv1"] == 6 and "conv1" not in books and len(set(books.values())) > 1 and max(books.values()) <= 6
    assert json.loads((tmp_path / "a/report/widths.json").read_text()) == chosen
    opened = pipeline.open_export(tmp_path / "a")
    convs = {n.name: n.op for n in opened.qgraph.nodes if isinstance(n.op, QConv)}
    assert {name: op.weight_bits for name, op in convs.items()} == {name: 8 if name in books else b for name, b in bits.items()}
    assert all(len(np.unique(convs[name].weight)) <= 2**b for name, b in books.items())
    rows = json.loads((tmp_path / "a/report/memory_budget.json").read_text())["rows"]
    assert sum(row["bits"] for row in rows if row["kind"] == "weights") <= 8 * 9000
    assert load_config(tmp_path / "a/model/build.toml").weight_budget is None
    config = tmp_path / "again.toml"
    shutil.copy(tmp_path / "a/model/preprocess.json", tmp_path)
    shutil.copy(tmp_path / "a/model/build.toml", config)
    assert export(run_cli, tmp_path / "b", "--config", config)["weight_budget"] is None
    for path in ("graph.json", "weights.npz", "folding.json", "build.toml"):
        assert (tmp_path / "b/model" / path).read_bytes() == (tmp_path / "a/model" / path).read_bytes(), path


def test_padding_of_folds_counts(tmp_path: Path) -> None:
    """A fast machine's folds do not divide all channels: its memories hold more than the weights, and the budget is on what they hold."""
    config = ExportConfig(weight_budget="8kB", target_fps=90_000.0)
    quantized = pipeline.quantize_model(MODEL, IMAGES, config)
    folded, found = planning.fold_model(quantized, config, None)
    engines = [e for stage in found.plan.stages for e in stage.engines]
    taken = sum(e.stored_weight_bits for e in engines)
    assert folded.widths is not None and folded.widths.weight_bits < taken <= 64_000


def test_text_names_every_layer(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "o", "--weight-budget", "9kB")
    assert result.code == 0 and "fire2.squeeze" in result.out and "bytes of 9,000" in result.out and "bits on average" in result.out


def test_refusals_write_nothing(tmp_path: Path, run_cli: RunCli) -> None:
    def refused(*more: object) -> tuple[int, str]:
        result = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", *more)
        assert not (tmp_path / "no").exists() and result.err.count("\n") == 1 and result.out == ""
        return result.code, result.err

    code, text = refused("--weight-budget", "1kB")
    assert code == 1 and "1,000 bytes are too few, the weights take at least" in text
    code, text = refused("--weight-budget", "much")
    assert code == 2 and "--weight-budget 'much'" in text
    code, text = refused("--weight-budget", "9kB", "--layer-bits", "conv11=4")
    assert code == 2 and "conv1" in text
    code, text = refused("--weight-budget", "9kB", "--weight-bits", "12")
    assert code == 2 and "2 to 8" in text


def test_without_the_option_the_manifest_does_not_name_it(digits_out: Path) -> None:
    assert "weight_budget" not in (digits_out / "manifest.json").read_text()
    assert not (digits_out / "report/widths.json").exists()


def test_a_budget_for_everything_chooses_activation_bits_too(tmp_path: Path, run_cli: RunCli) -> None:
    body = export(run_cli, tmp_path / "a", "--budget", "15kB", "--weight-budget", "auto")
    memory, chosen = body["memory"], body["weight_budget"]
    assert isinstance(memory, dict) and isinstance(chosen, dict)
    assert 14_000 < memory["total_bytes"] <= 15_000 == chosen["limit_bytes"]
    acts = {row["tensor"]: row["bits"] for row in chosen["activations"]}
    assert acts.keys() >= {"conv1", "fire2.squeeze"} and len(set(acts.values())) > 1
    qgraph = pipeline.open_export(tmp_path / "a").qgraph
    assert {name: qgraph[name].fmt.bits for name in acts} == acts
    assert qgraph["fire2.concat"].fmt.bits == qgraph["fire2.expand1x1"].fmt.bits and qgraph["conv10"].fmt.bits == 8
    for name in ("build.toml", "preprocess.json"):
        shutil.copy(tmp_path / "a/model" / name, tmp_path)
    export(run_cli, tmp_path / "b", "--config", tmp_path / "build.toml")
    for name in ("graph.json", "weights.npz", "folding.json", "build.toml"):
        assert (tmp_path / "b/model" / name).read_bytes() == (tmp_path / "a/model" / name).read_bytes(), name
    less = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", "--budget", "8kB", "--weight-budget", "auto")
    assert less.code == 1 and "are left for weights and buffers, they take at least" in less.err and not (tmp_path / "no").exists()
    tiny = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", "--budget", "100B", "--weight-budget", "auto")
    assert tiny.code == 1 and tiny.err.startswith("fpga-squeeze: error: --budget: 100 bytes are too few") and not (tmp_path / "no").exists()
    both = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", "--weight-budget", "auto", "--layer-act-bits", "conv1=9")
    assert both.code == 2 and "leave it out" in both.err


def test_a_device_is_filled(tmp_path: Path, run_cli: RunCli) -> None:
    """Room for all weights at 8 bits: they get them. With a part of the memory only, as many as go in, and one size up does not."""
    common = ("--device", "lifcl-40", "--clock-mhz", "80", "--weight-budget", "auto")
    wide = export(run_cli, tmp_path / "a", *common)
    chosen = wide["weight_budget"]
    assert isinstance(chosen, dict) and chosen["average_bits"] == 8.0 and not chosen["activations"]
    small = export(run_cli, tmp_path / "b", *common, "--budget", "16kB")
    tight = small["weight_budget"]
    assert isinstance(tight, dict) and tight["average_bits"] < 6 and isinstance(small["memory"], dict) and 14_500 < small["memory"]["total_bytes"] <= 16_000


def test_activation_bits_of_a_layer_hold_for_its_format(tmp_path: Path, run_cli: RunCli) -> None:
    given = ("--layer-act-bits", "fire2.squeeze=10", "--layer-act-bits", "fire4.concat=6")
    result = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "o", *given)
    assert result.code == 0, result.err
    bits = {n.name: n.fmt.bits for n in pipeline.open_export(tmp_path / "o").qgraph.nodes}
    assert bits["fire2.squeeze"] == 10 and bits["conv1"] == bits["fire3.concat"] == 8
    assert {bits[name] for name in ("fire4.expand1x1", "fire4.expand3x3", "fire4.concat", "pool4")} == {6}
    wrong = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", "--layer-act-bits", "conv10=6")
    assert wrong.code == 2 and "layer act bits: 'conv10'" in wrong.err and not (tmp_path / "no").exists()
    wrong = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", "--layer-act-bits", "conv1=3")
    assert wrong.code == 2 and "--layer-act-bits conv1" in wrong.err


def test_zeros_of_a_pruned_network_take_a_bit() -> None:
    graph = fire_network()
    rng = np.random.default_rng(0)
    nodes = []
    for n in graph.nodes:
        op = n.op
        if isinstance(op, Conv) and n.name == "conv10":
            op = replace(op, weight=np.where(rng.random(op.weight.shape) < 0.7, 0.0, op.weight))
        nodes.append(replace(n, op=op))
    pruned = replace(graph, nodes=tuple(nodes))
    found = search_widths(pruned, calibrate(pruned, PIXELS), WidthOptions(shared=True))
    weight = found.graph["conv10"].op.weight  # type: ignore[union-attr]
    assert found.layer_bits("conv10", 5) == weight.size + 5 * np.count_nonzero(weight) and found.layer_bits("conv10", 1) == weight.size
    limit = found.sizes[1] // 8 - 20
    rows = {row.name: row for row in found.choose(limit).layers}
    assert rows["conv10"].pruned and not rows["conv1"].pruned
    assert sum(row.stored_bits for row in rows.values()) <= 8 * limit
    dense = replace(found, options=replace(found.options, shared=False))
    assert dense.layer_bits("conv10", 5) == 5 * weight.size


class _Capped(torch.nn.Module):
    """All activations under a limit, or none at all: no format whose bits are free."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.last = torch.nn.Conv2d(6, 6, 1) if layers > 1 else torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x if isinstance(self.last, torch.nn.Identity) else torch.nn.functional.relu6(x)).mean((2, 3))


@pytest.mark.parametrize("layers", [1, 2])
def test_networks_without_free_activation_bits(tmp_path: Path, run_cli: RunCli, layers: int) -> None:
    torch.manual_seed(1)
    model = tmp_path / "net.onnx"
    torch.onnx.export(_Capped(layers).eval(), (torch.rand(1, 3, 12, 12),), str(model), dynamo=False, opset_version=17)
    common = ("export", model, "--calibration", "random", "--preprocess", "none", "-o")
    result = run_cli(*common, tmp_path / "a", "--weight-budget", "auto", "--budget", "3kB", "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["weight_budget"]["activations"] == [] and body["memory"]["total_bytes"] <= 3000
    assert run_cli(*common, tmp_path / "b", "--quantizer", "plain").code == 0
    wrong = run_cli(*common, tmp_path / "no", "--layer-act-bits", "first=6")
    assert wrong.code == 2 and "did you mean ?" not in wrong.err


def test_two_bits_for_one_format_are_refused(tmp_path: Path, run_cli: RunCli) -> None:
    given = ("--layer-act-bits", "fire2.expand1x1=6", "--layer-act-bits", "fire2.expand3x3=9")
    result = run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "no", *given)
    assert result.code == 2 and "share one format, 6 and 9 bits were given" in result.err and not (tmp_path / "no").exists()


def test_a_model_with_formats_of_its_own_ignores_no_option(tmp_path: Path, run_cli: RunCli) -> None:
    assert run_cli("export", MODEL, "--calibration", IMAGES, "-o", tmp_path / "a").code == 0
    own = ("export", tmp_path / "a/model/quantized.onnx", "--preprocess", "none", "--calibration", IMAGES)
    for option in (("--quantizer", "best"), ("--layer-codebook", "conv1=3"), ("--max-drop", "1"), ("--codebook-bits", "3"), ("--layer-act-bits", "conv1=7")):
        result = run_cli(*own, "-o", tmp_path / "no", *option)
        assert result.code == 2 and result.err.startswith(f"fpga-squeeze: error: {option[0]}: ") and not (tmp_path / "no").exists(), result.err
    assert run_cli(*own, "-o", tmp_path / "b", "--codebook-bits", "0", "--quantizer", "fast").code == 0
    result = run_cli("pareto", *own[1:], "-o", tmp_path / "no")
    assert result.code == 2 and "there is nothing to choose" in result.err
