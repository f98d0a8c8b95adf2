"""The memory gate: sums, sizes, messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import squeezenet, tiny

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.report.budget import check_budget, memory_budget, parse_size

TEN_MB = 10_000_000


@pytest.mark.parametrize(("version", "size", "limit"), [("1.1", 224, 1_600_000), ("1.0", 227, 1_600_000)])
def test_squeezenet_fits_with_room(version: str, size: int, limit: int) -> None:
    qgraph = squeezenet(version, size)
    budget = memory_budget(plan_machine(qgraph), qgraph, TEN_MB, find_device("zcu102"))
    assert 1_231_552 < budget.total_bytes < limit
    assert budget.fits
    check_budget(budget, plan_machine(qgraph), qgraph)


@pytest.mark.parametrize("fps", [100.0, 20_000.0, 500_000.0])
def test_total_is_the_sum_of_rows_and_of_kinds(fps: float) -> None:
    qgraph = tiny()
    report = memory_budget(plan_machine(qgraph, 200.0, fps), qgraph, TEN_MB).to_json()
    bits = sum(r["bits"] for r in report["rows"])
    assert report["total_bits"] == bits and report["total_bytes"] == -(-bits // 8) == sum(report["by_kind"].values())
    assert list(report["by_kind"]) == ["weights", "bias", "line_buffers", "fifos"]
    for kind, n in report["by_kind"].items():
        assert abs(n - sum(r["bits"] for r in report["rows"] if r["kind"] == kind) / 8) <= 1
    assert report["bram18"] == sum(r["bram18"] for r in report["rows"])
    assert report["device"] is None and report["fits"] is True
    wanted = {"stage", "kind", "name", "bits", "width_bits", "depth", "banks", "bram18", "uram", "lutram_luts"}
    assert all(wanted <= set(r) for r in report["rows"])


def test_gate_on_bytes_names_what_is_over_and_what_fits() -> None:
    qgraph = squeezenet("1.1", 224)
    plan = plan_machine(qgraph)
    budget = memory_budget(plan, qgraph, parse_size("1MB"))
    with pytest.raises(CheckFailedError) as e:
        check_budget(budget, plan, qgraph)
    text = str(e.value)
    assert "\n" not in text
    assert f"{budget.total_bytes - 1_000_000:,} over the budget of 1,000,000" in text
    names = ("conv10.weights", "fire8.expand3x3.weights", "fire9.expand3x3.weights", "fire6.expand3x3.weights", "fire7.expand3x3.weights")
    assert all(name in text for name in names)
    assert "--weight-bits 5" in text and f"--budget {budget.total_bytes}" in text
    # The advice is true: that width fits, the next one up does not, and the exact total as a budget passes.
    for bits, fits in ((5, True), (6, False)):
        narrow = squeezenet("1.1", 224, weight_bits=bits)
        assert memory_budget(plan_machine(narrow), narrow, 1_000_000).fits is fits
    check_budget(memory_budget(plan, qgraph, budget.total_bytes), plan, qgraph)
    with pytest.raises(CheckFailedError):
        check_budget(memory_budget(plan, qgraph, budget.total_bytes - 1), plan, qgraph)


def test_gate_on_a_device_names_one_that_fits() -> None:
    qgraph = squeezenet("1.1", 64)
    plan = plan_machine(qgraph)
    budget = memory_budget(plan, qgraph, TEN_MB, find_device("pynq-z2"))
    report = budget.to_json()["device"]
    assert report["name"] == "xc7z020" and report["bram18_used"] > report["bram18_available"] == 280 and report["fits"] is False
    with pytest.raises(CheckFailedError, match=r"device xc7z020 is too small: needs \d+ 18 Kb blocks of 280") as e:
        check_budget(budget, plan, qgraph)
    name = str(e.value).rpartition("--device ")[2].rstrip(".")
    assert memory_budget(plan, qgraph, TEN_MB, find_device(name)).fits


def test_markdown_has_every_row_and_the_verdict() -> None:
    qgraph = tiny()
    budget = memory_budget(plan_machine(qgraph), qgraph, 1000, find_device("kv260"))
    text = budget.to_markdown()
    assert "DOES NOT FIT" in text and "Device k26 (kv260, kr260): fits." in text
    assert all(f"| {r.name} |" in text for r in budget.rows)
    assert f"**{budget.total_bytes:,}**" in text


@pytest.mark.parametrize("text", ["", "10 apples", "-1MB", "1e6", "MB", "0", "0.1B", "1,000", "NaN", "10MB5"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(InputError, match="was expected"):
        parse_size(text)


@given(st.integers(1, 10**12))
def test_parse_size_of_plain_bytes(n: int) -> None:
    assert parse_size(str(n)) == parse_size(f" {n} B ") == n
    assert parse_size(f"{n}kB") == parse_size(f"{n}KB") == 1000 * n
    assert parse_size(f"{n}.5KiB") == 1024 * n + 512
