"""compare: two exports side by side, in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCli

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.report.compare import compare
from fpga_squeeze.zoo import embedded_images, embedded_model_path


@pytest.fixture(scope="module")
def narrow_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("narrow") / "out6"
    pipeline.export(embedded_model_path(), out, str(embedded_images("calibration")), ExportConfig(weight_bits=6))
    return out


def test_figures_are_those_of_the_reports(digits_out: Path, narrow_out: Path) -> None:
    result = compare(digits_out, narrow_out)
    for side, out in ((result.a, digits_out), (result.b, narrow_out)):
        memory, speed = (json.loads((out / f"report/{name}.json").read_text()) for name in ("memory_budget", "performance"))
        assert (side["bytes"], side["fps"], side["multipliers"]) == (memory["total_bytes"], speed["fps"], speed["multipliers"])
    rows = {row.label: row for row in result.rows}
    assert result.a["weight_bits"] == [8] and result.b["weight_bits"] == [6] and next(row.a for row in result.rows if row.label == "weights") == "8 bit"
    memory_row = rows["memory on chip"]
    assert memory_row.better == "b" and memory_row.difference.startswith("\N{MINUS SIGN}") and memory_row.levels is not None and memory_row.levels[1] < 1.0
    assert rows["top-1, fixed point"].a == "not measured" and rows["all checks"].b == "not run"
    assert rows["lowest SQNR, dB"].better == "a", "8 bits are less noisy than 6"


def test_an_export_beside_itself_differs_nowhere(digits_out: Path) -> None:
    result = compare(digits_out, digits_out)
    assert result.to_json()["differences"] == [] and not any(row.better or row.difference for row in result.rows)


def test_command_text_json_and_page(digits_out: Path, narrow_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    page = tmp_path / "compare.html"
    shown = run_cli("compare", digits_out, narrow_out, "--html", page)
    assert shown.code == 0 and "memory on chip" in shown.out and "8 bit" in shown.out and "6 bit" in shown.out
    first = page.read_bytes()
    body = json.loads(run_cli("compare", digits_out, narrow_out, "--json", "--html", page).out)
    assert page.read_bytes() == first, "same exports, same bytes"
    assert body["b"]["weight_bits"] == [6] and "memory on chip" in body["differences"]
    text = first.decode()
    assert f"{body['a']['bytes'] / 1000:.1f} kB" in text and f"{body['b']['bytes'] / 1000:.1f} kB" in text
    assert "http" not in text.replace("http-equiv", "") and str(tmp_path) not in text


def test_bad_input_is_one_line(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    for arguments in ((digits_out, tmp_path), (digits_out, digits_out, "--html", tmp_path / "no" / "x.html"), (digits_out, digits_out, "--html", tmp_path)):
        result = run_cli("compare", *arguments)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
