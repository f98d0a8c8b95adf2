"""fsq_line_buffer and fsq_pixel_buffer: windows and centre taps against a plain numpy walk, in both simulators."""

from __future__ import annotations

import pytest

from sim import harness
from sim.conv_case import ConvCase, ConvSpec

SOURCES = [harness.LIB / "fsq_line_buffer.sv"]

CASES = {
    "3x3 one tap": (ConvSpec((5, 6), (3, 4), 3, 1, (1, 1, 1, 1), (2, 2, 1), pad_values=True), False),
    "3x3 column, uneven pads": (ConvSpec((7, 5), (3, 3), 3, 2, (1, 0, 0, 2), (2, 2, 3), pad_values=True), False),
    "3x3 all taps with centre": (ConvSpec((5, 7), (4, 4), 3, 1, (1, 1, 1, 1), (2, 2, 9)), True),
    "3x3 one tap with centre": (ConvSpec((4, 4), (2, 2), 3, 1, (1, 1, 1, 1), (2, 1, 1)), True),
    "5x5 column with centre": (ConvSpec((6, 3), (2, 2), 5, 1, (2, 2, 2, 2), (2, 2, 5)), True),
    "7x7 stride 2, rows below unused": (ConvSpec((12, 11), (1, 1), 7, 2, (0, 0, 0, 0), (1, 1, 49)), False),
    "2x2 stride 4, gaps between windows": (ConvSpec((9, 10), (2, 2), 2, 4, (0, 0, 0, 0), (1, 1, 4)), False),
    "4x4 larger than the input": (ConvSpec((2, 3), (2, 1), 4, 1, (2, 1, 1, 2), (1, 1, 16), pad_values=True), False),
    "1x1 stride 2": (ConvSpec((5, 7), (4, 2), 1, 2, (0, 0, 0, 0), (1, 2, 1)), False),
}


def _run(spec: ConvSpec, tap: bool, simulator: str) -> harness.BenchResult:
    parameters = {**ConvCase(spec).geometry(), "TAP": int(tap)}
    return harness.run_bench("fsq_line_buffer", SOURCES, "sim.bench_line_buffer", parameters, simulator, seed=spec.seed, env={"FSQ_CASE": spec.to_json()})


@pytest.mark.parametrize("name", CASES)
def test_windows_in_order(name: str) -> None:
    harness.require("icarus")
    spec, tap = CASES[name]
    result = _run(spec, tap, "icarus")
    assert result.tests == 3
    assert result.measured("latency") == 4


def test_no_bubble_between_frames() -> None:
    harness.require("icarus")
    for fold in ((1, 1, 9), (2, 2, 9)):
        assert _run(ConvSpec((8, 9), (2, 2), 3, 1, (1, 1, 1, 1), fold), False, "icarus").measured("ratio") <= 1.01


def test_too_few_rows_are_refused() -> None:
    harness.require("icarus")
    spec = ConvSpec((5, 6), (1, 1), 3, 1, (1, 1, 1, 1), (1, 1, 1))
    parameters = {**ConvCase(spec).geometry(), "ROWS": 2}
    with pytest.raises(harness.SimulationError, match="ROWS=2, K=3 or more was expected"):
        harness.run_bench("fsq_line_buffer", SOURCES, "sim.bench_line_buffer", parameters, "icarus", seed=1, env={"FSQ_CASE": spec.to_json()})


def test_on_verilator() -> None:
    harness.require("verilator")
    spec, tap = CASES["3x3 all taps with centre"]
    assert _run(spec, tap, "verilator").tests == 3


@pytest.mark.parametrize("channels, fold", [((6, 6), (2, 2, 1)), ((3, 2), (2, 3, 1)), ((5, 4), (1, 2, 1))])
def test_pixel_buffer(channels: tuple[int, int], fold: tuple[int, int, int]) -> None:
    harness.require("icarus")
    spec = ConvSpec((3, 4), channels, 1, 1, (0, 0, 0, 0), fold)
    parameters = {"WIDTH": spec.fold[1] * spec.act_bits, "IC_FOLDS": spec.ic_folds, "OC_FOLDS": spec.oc_folds}
    source = [harness.LIB / "fsq_pixel_buffer.sv"]
    result = harness.run_bench("fsq_pixel_buffer", source, "sim.bench_line_buffer", parameters, "icarus", seed=2, env={"FSQ_CASE": spec.to_json()})
    assert result.measured("ratio") == 1
    assert result.measured("latency") == 2
