"""`pareto` and `--device smallest` on the embedded model: every point is a machine, the chart and the table say what was measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli

from fpga_squeeze import pipeline, planning
from fpga_squeeze.config import ExportConfig, load_config
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.devices import find_device, load_devices
from fpga_squeeze.pareto import Pareto, Point, _distinct, _size
from fpga_squeeze.quantize.drop import Drop
from fpga_squeeze.quantize.mixed import Widths, WidthSearch
from fpga_squeeze.quantize.qgraph import QConv
from fpga_squeeze.report import budget as budget_report
from fpga_squeeze.report.pareto_chart import pareto_svg
from fpga_squeeze.simulate.paired import Paired, compare, float_scores, pooled
from fpga_squeeze.zoo import embedded_images, embedded_model_path

MODEL = embedded_model_path()
CALIBRATION = embedded_images("calibration")
TEST = embedded_images("test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fpga_squeeze.pareto import pareto

    out = tmp_path_factory.mktemp("pareto") / "out"
    result = pareto(MODEL, str(CALIBRATION), ExportConfig(), out, ("20kB", "9kB", "6kB", "1kB"), TEST)
    assert [p.name for p in result.points] == ["20kB", "9kB", "6kB"] and [name for name, _ in result.refused] == ["1kB"]
    return out


def test_every_point_keeps_its_budget_and_is_measured(folder: Path) -> None:
    body = json.loads((folder / "pareto.json").read_text())
    for point in body["points"]:
        assert point["stored_bytes"] <= point["budget_bytes"] < point["total_bytes"] + point["budget_bytes"]
        assert point["measured"]["count"] == len(list(TEST.rglob("*.png"))) and point["expected"] is None
        assert point["lost_top1"] == pytest.approx(point["measured"]["float"]["top1"] - point["measured"]["fixed"]["top1"], abs=0.02)
    blocks = [p["bram18"] for p in body["points"]]
    assert blocks == sorted(blocks, reverse=True)
    assert {p["name"] for p in body["points"] if p["front"]} >= {"6kB"}
    assert "1,000 bytes are too few" in body["refused"][0]["reason"]
    table = (folder / "pareto.md").read_text()
    assert all(f"| {p['name']} | {p['stored_bytes']:,} |" in table for p in body["points"])


def test_a_point_exports_as_the_machine_that_was_measured(folder: Path, tmp_path: Path) -> None:
    point = json.loads((folder / "pareto.json").read_text())["points"][1]
    config = load_config(folder / "points" / "9kB.toml")
    assert config.weight_budget is None and config.quantizer == "best" and config.weight_storage == "smallest"
    result = pipeline.export(MODEL, tmp_path / "out", str(CALIBRATION), config)
    stored = sum(e.stored_weight_bits for stage in result.plan.stages for e in stage.engines)
    assert -(-stored // 8) == point["stored_bytes"] and result.budget.bram18 == point["bram18"]
    for name, width in point["widths"].items():
        op = result.qgraph[name].op
        assert isinstance(op, QConv)
        bits = str(width).removeprefix("codebook ")
        assert len(np.unique(op.weight)) <= 1 << int(bits) if "codebook" in str(width) else op.weight_bits == int(bits)


def test_the_chart_shows_every_point(folder: Path) -> None:
    root = ET.fromstring((folder / "pareto.svg").read_text())
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"20kB", "9kB", "6kB", "weights as stored, kB"} <= set(texts)
    marks = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(marks) == 3 and [m[0] for m in marks] == sorted(m[0] for m in marks)
    assert all(0 < x < 720 and 0 < y < 420 for x, y in marks)
    loss = pareto_svg([("a", 1000, 3.0, None), ("b", 2000, 1.0, 0.5)], measured=False)
    high, low = (float(c.get("cy", "")) for c in ET.fromstring(loss).iter("{http://www.w3.org/2000/svg}circle"))
    assert high < low, "more lost is higher up"


def test_the_command_and_its_refusals(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("pareto", MODEL, "--calibration", CALIBRATION, "--sizes", "12kB", "-o", tmp_path / "p")
    assert result.code == 0 and "12kB" in result.out and "estimated" in result.out
    assert json.loads((tmp_path / "p/pareto.json").read_text())["points"][0]["expected"]["agreement"] > 90
    again = run_cli("pareto", MODEL, "--calibration", CALIBRATION, "--sizes", "12kB", "-o", tmp_path / "q", "--json")
    assert again.code == 0 and json.loads(again.out)["points"]
    for name in ("pareto.json", "pareto.md", "pareto.svg", "points/12kB.toml"):
        assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "q" / name).read_bytes()
    bad = run_cli("pareto", MODEL, "--calibration", CALIBRATION, "--sizes", "1kB", "-o", tmp_path / "no")
    assert bad.code == 1 and "no size is feasible" in bad.err and not (tmp_path / "no").exists()
    bad = run_cli("pareto", MODEL, "--calibration", CALIBRATION, "--sizes", "small", "-o", tmp_path / "no")
    assert bad.code == 2 and "--sizes 'small'" in bad.err and not (tmp_path / "no").exists()


def test_folders_of_another_kind_are_not_replaced(folder: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    assert run_cli("export", MODEL, "--calibration", CALIBRATION, "-o", out).code == 0
    refused = run_cli("pareto", MODEL, "--calibration", CALIBRATION, "--sizes", "12kB", "-o", out)
    assert refused.code == 2 and "not an earlier pareto" in refused.err and (out / "hls").is_dir()
    refused = run_cli("export", MODEL, "--calibration", CALIBRATION, "-o", folder)
    assert refused.code == 2 and "not an earlier export" in refused.err and (folder / "pareto.json").is_file()
    assert run_cli("report", folder).code == 2


def test_points_that_others_beat_and_names_of_one_size(folder: Path) -> None:
    first = Point("a", Widths(1, ()), 200, 300, 1, Drop(0.0, 100.0), None)
    points = (first, replace(first, name="b", stored_bytes=100), replace(first, name="c", stored_bytes=50, drop=Drop(2.0, 90.0)))
    assert [p.name for p in Pareto("m", points, ()).front] == ["b", "c"]
    assert _distinct(["9kB", "20kB", "9000", "9000B"]) == ("20kB", "9kB")
    assert _size(12_345.0) == "12345B" and _size(620_400.0) == "620kB"


def test_the_smallest_device_is_named_and_no_smaller_one_holds_it(tmp_path: Path) -> None:
    config = ExportConfig(device="smallest", target_fps=200.0, clock_mhz=80.0)
    result = pipeline.export(MODEL, tmp_path / "out", str(CALIBRATION), config)
    assert result.resources.device is not None
    named = result.resources.device
    assert load_config(tmp_path / "out/model/build.toml").device == named.name
    quantized = pipeline.quantize_model(MODEL, str(CALIBRATION), ExportConfig())
    for device in load_devices():
        if device.memory_bits < named.memory_bits:
            with pytest.raises(CheckFailedError):
                planning.choose_plan(quantized.qgraph, ExportConfig(target_fps=200.0, clock_mhz=min(80.0, device.max_clock_mhz)), device)
    smallest = min(load_devices(), key=lambda d: d.memory_bits)
    assert named.name == smallest.name == find_device("lifcl-40").name


def test_a_drop_chooses_the_smallest_weights_that_keep_it(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("export", MODEL, "--calibration", CALIBRATION, "-o", tmp_path / "o", "--max-drop", "0.5", "--json")
    assert result.code == 0, result.err
    chosen = json.loads(result.out)["weight_budget"]
    assert chosen["expected_drop"] + chosen["expected_drop_error"] <= 0.5 and chosen["average_bits"] < 4
    strict = run_cli("export", MODEL, "--calibration", CALIBRATION, "-o", tmp_path / "p", "--max-drop", "0.001", "--json")
    assert strict.code in (0, 1)
    if strict.code == 0:
        assert json.loads(strict.out)["weight_budget"]["weight_bytes"] >= chosen["weight_bytes"]
    both = run_cli("export", MODEL, "--calibration", CALIBRATION, "-o", tmp_path / "no", "--max-drop", "1", "--weight-budget", "9kB")
    assert both.code == 2 and "give one" in both.err
    with pytest.raises(InputError, match="--max-drop"):
        ExportConfig(max_drop=-1.0)


def test_memory_of_a_device_that_would_lie_idle_widens_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ExportConfig(max_drop=0.5, target_fps=2000.0, budget="20kB", device="lifcl-40")
    device = find_device("lifcl-40")
    narrow = pipeline.quantize_model(MODEL, str(CALIBRATION), config)
    assert narrow.widths is not None
    wide, found = planning.fold_model(narrow, config, device)
    assert wide.widths is not None and wide.widths.drop is not None and wide.widths.weight_bits > 1.5 * narrow.widths.weight_bits
    assert wide.widths.drop.top1 + wide.widths.drop.error <= 0.5
    held = budget_report.memory_budget(found.plan, wide.qgraph, 20_000, device)
    assert 15_000 < sum(held.by_kind.values()) <= 20_000
    assert found.plan.interval_cycles <= config.clock_mhz * 1e6 / 2000
    # Without a rate to hold, the machine is as fast as with the narrow weights.
    free = replace(config, target_fps=None)
    first = planning.choose_plan(narrow.qgraph, free, device).plan.interval_cycles
    wide, found = planning.fold_model(narrow, free, device)
    assert wide.widths is not None and wide.widths.weight_bits > narrow.widths.weight_bits and found.plan.interval_cycles <= first
    # Where the wide weights are expected to lose more than is allowed, it stays at those that were chosen.
    monkeypatch.setattr(WidthSearch, "expected_drop", lambda *_: Drop(0.5, 99.0, 0.1))
    assert planning.fold_model(narrow, config, device)[0].widths == narrow.widths


def test_paired_differences() -> None:
    right, wrong = np.array([True]), np.array([False])
    both, lost, gained = (Paired(a, a, b, b, np.array([a[0] == b[0]])) for a, b in ((right, right), (right, wrong), (wrong, right)))
    mixed = pooled([both] * 7 + [lost] * 2 + [gained])
    assert mixed.count == 10 and mixed.lost == pytest.approx(10.0) and mixed.agreement == pytest.approx(70.0)
    difference = np.array([0.0] * 7 + [100.0] * 2 + [-100.0])
    assert mixed.margin == pytest.approx(1.96 * difference.std(ddof=1) / 10**0.5)


def test_compare_counts_against_the_truth() -> None:
    quantized = pipeline.quantize_model(MODEL, str(CALIBRATION), ExportConfig())
    pixels = quantized.images.pixels[:40]
    scores = float_scores(quantized.graph, pixels)
    best = scores.argmax(1)
    found = compare(scores, quantized.qgraph, pixels, best)
    assert found.real_top1.all() and found.fixed_top1.mean() == found.agreement / 100
    off = compare(scores, quantized.qgraph, pixels, (best + 1) % scores.shape[1])
    assert not off.real_top1.any() and 0 < off.real_top5.mean() < 1
