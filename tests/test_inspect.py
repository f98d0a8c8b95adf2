"""inspect: a stage's folding, memories, numbers and own sources; the layer trace; one line for a stage that is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import RunCli
from pseudo_terminal import in_terminal

import fpga_squeeze as fs
from fpga_squeeze.inspect_stage import view_stage, view_stages
from fpga_squeeze.zoo import embedded_images, embedded_model_path

IMAGE = sorted(embedded_images("test").glob("6_*.png"))[0]


def test_table_of_stages(digits_out: Path, run_cli: RunCli) -> None:
    result = run_cli("inspect", digits_out)
    plan = fs.open(digits_out).plan
    assert result.code == 0
    for stage in plan.stages:
        assert f"\n{stage.name} " in result.out
        assert f"{stage.cycles:,}" in result.out
    stages = json.loads(run_cli("inspect", digits_out, "--json").out)["stages"]
    assert [s["name"] for s in stages] == [s.name for s in plan.stages]


def test_one_stage_has_its_numbers_and_its_own_sources(digits_out: Path, run_cli: RunCli) -> None:
    plan = fs.open(digits_out).plan
    stage = next(s for s in plan.stages if s.name == "fire2.expand")
    body = json.loads(run_cli("inspect", digits_out, "fire2.expand", "--json").out)
    assert [e["layer"] for e in body["engines"]] == ["fire2.expand1x1", "fire2.expand3x3"]
    assert body["numbers"]["multipliers"] == sum(e.fold.multipliers for e in stage.engines)
    assert body["numbers"]["cycles"] == stage.cycles
    assert {s["to"] for s in body["streams"]} == {"fire2.expand", "pool2"}
    assert {layer["name"] for layer in body["layers"]} == {"fire2.expand1x1", "fire2.expand3x3", "fire2.concat"}
    cpp, rtl = body["sources"]
    assert "fire2_expand3x3_cfg" in cpp["text"] and "void fire2_expand(" in cpp["text"] and "fire2_squeeze_cfg" not in cpp["text"]
    assert rtl["text"] == (digits_out / "rtl/fire2_expand.sv").read_text()
    text = run_cli("inspect", digits_out, "fire2.expand").out
    for part in ("Folding and formats", "fire2.expand3x3.weights", "--- rtl/fire2_expand.sv", "FIFO depth", "\x1b[31m"):
        assert (part in text) is (part != "\x1b[31m")


def test_both_halves_of_a_module_are_the_module(digits_out: Path) -> None:
    """Nothing that fire2.cpp declares for a stage is lost between its two stages."""
    whole = (digits_out / "hls/fire2.cpp").read_text()
    parts = [view_stage(digits_out, name).sources[0].text for name in ("fire2.squeeze", "fire2.expand")]
    for line in whole.splitlines():
        if line.startswith(("struct ", "using ", "void ")) and not line.startswith("void fire2("):
            assert sum(line in part.splitlines() for part in parts) == 1, line


def test_memories_of_all_stages_are_the_budget(digits_out: Path) -> None:
    rows = [row for view in view_stages(digits_out) for row in view.memories]
    budget = json.loads((digits_out / "report/memory_budget.json").read_text())["rows"]
    assert len(rows) > 40 and [r for r in budget if r not in rows] == [r for r in budget if r["stage"] not in {v.name for v in view_stages(digits_out)}]


def test_unknown_stage_and_gone_file_are_one_line(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("inspect", digits_out, "fire99")
    assert result.code == 2 and result.err.count("\n") == 1 and "known: conv1, fire2.squeeze" in result.err
    out = fs.export(embedded_model_path(), tmp_path / "o", calibration="random").path
    (out / "rtl/conv1.sv").unlink()
    gone = run_cli("inspect", out, "conv1")
    assert gone.code == 2 and "conv1.sv" in gone.err and gone.err.count("\n") == 1


def test_layer_trace(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    good = json.loads(run_cli("inspect", digits_out, "--layer-trace", IMAGE, "--json").out)
    assert good["first_below"] is None and len(good["layers"]) == len(fs.open(digits_out).qgraph.nodes) - 1
    coarse = fs.export(embedded_model_path(), tmp_path / "o", calibration=embedded_images("calibration"), layer_bits={"fire3.squeeze": 2}).path
    body = json.loads(run_cli("inspect", coarse, "--layer-trace", IMAGE, "--threshold", "20", "--json").out)
    assert body["first_below"] == "fire3.squeeze"
    text = run_cli("inspect", coarse, "--layer-trace", IMAGE, "--threshold", "20")
    assert "The first layer below 20 dB is fire3.squeeze." in text.out and "clipped" in text.out
    both = run_cli("inspect", coarse, "conv1", "--layer-trace", IMAGE)
    assert both.code == 2 and "not both" in both.err


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "conv1"]])
def test_no_export(command: list[str], tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli(command[0], tmp_path, *command[1:])
    assert result.code == 2 and "manifest.json" in result.err


def test_sources_are_coloured_on_a_terminal(digits_out: Path) -> None:
    command = [sys.executable, "-m", "fpga_squeeze", "inspect", str(digits_out), "pool2"]
    code, _, shown = in_terminal(command, "stdout", {"TERM": "xterm-256color", "COLUMNS": "160"})
    assert code == 0 and "\x1b[" in shown and "namespace" in shown
