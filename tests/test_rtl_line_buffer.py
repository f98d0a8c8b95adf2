"""fsq_line_buffer and fsq_pixel_buffer: windows and centre taps against a plain numpy walk, in both simulators."""

from __future__ import annotations

import pytest

from sim import harness
from sim.conv_case import ConvCase, ConvSpec

SOURCES = [harness.LIB / "fsq_line_buffer.sv", harness.LIB / "fsq_memory.sv"]

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


# (case, step, first pixel): with and without a dummy at the frame's end, in every bank structure.
VISITS = [
    ("3x3 one tap", 2, 1), ("3x3 one tap", 4, 3), ("3x3 column, uneven pads", 3, 0), ("3x3 column, uneven pads", 2, 1),
    ("3x3 all taps with centre", 2, 1), ("3x3 all taps with centre", 3, 2), ("3x3 all taps with centre", 4, 0), ("5x5 column with centre", 3, 1),
    ("2x2 stride 4, gaps between windows", 3, 2), ("4x4 larger than the input", 2, 1), ("1x1 stride 2", 4, 2),
]  # fmt: skip


def _run(spec: ConvSpec, tap: bool, simulator: str, step: int = 1, first: int = 0) -> harness.BenchResult:
    parameters = {**ConvCase(spec).geometry(), "TAP": int(tap), "PX_STEP": step, "PX_FIRST": first}
    return harness.run_bench("fsq_line_buffer", SOURCES, "sim.bench_line_buffer", parameters, simulator, seed=spec.seed, env={"FSQ_CASE": spec.to_json()})


@pytest.mark.parametrize("name", CASES)
def test_windows_in_order(name: str) -> None:
    harness.require("icarus")
    spec, tap = CASES[name]
    result = _run(spec, tap, "icarus")
    assert result.tests == 3
    assert result.measured("latency") == 4


@pytest.mark.parametrize("name, step, first", VISITS)
def test_windows_of_every_nth_pixel(name: str, step: int, first: int) -> None:
    harness.require("icarus")
    spec, tap = CASES[name]
    result = _run(spec, tap, "icarus", step, first)
    assert result.measured("latency") == 4
    assert result.measured("ratio") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_windows_of_every_nth_pixel_in_every_geometry(name: str) -> None:
    harness.require("icarus")
    spec, tap = CASES[name]
    for step in range(2, min(8, spec.out_size[1]) + 1):
        for first in range(step):
            assert _run(spec, tap, "icarus", step, first).measured("ratio") == 1, (step, first)


def test_more_pixels_at_a_time_than_a_row_has_are_refused() -> None:
    harness.require("icarus")
    spec = ConvSpec((5, 3), (1, 1), 3, 1, (1, 1, 1, 1), (1, 1, 1))
    with pytest.raises(harness.SimulationError, match="PX_STEP=4 PX_FIRST=0, PX_STEP from 1 to OW=3 and PX_FIRST below it were expected"):
        _run(spec, False, "icarus", 4)


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
    assert _run(spec, tap, "verilator", 3, 2).tests == 3


@pytest.mark.parametrize("size, channels, fold, p_px", [
    ((3, 4), (6, 6), (2, 2, 1), 1), ((3, 4), (3, 2), (2, 3, 1), 1), ((3, 4), (5, 4), (1, 2, 1), 1),
    ((3, 4), (6, 6), (2, 2, 1), 2), ((3, 5), (5, 4), (1, 2, 1), 2), ((3, 4), (3, 4), (2, 3, 1), 4), ((2, 5), (4, 3), (1, 4, 1), 3),
    ((3, 5), (5, 4), (4, 2, 1), 4),
])  # fmt: skip
def test_pixel_buffer(size: tuple[int, int], channels: tuple[int, int], fold: tuple[int, int, int], p_px: int) -> None:
    harness.require("icarus")
    spec = ConvSpec(size, channels, 1, 1, (0, 0, 0, 0), fold)
    parameters = {
        "WIDTH": spec.fold[1] * spec.act_bits, "IC_FOLDS": spec.ic_folds, "OC_FOLDS": spec.oc_folds, "P_PX": p_px, "PIXELS": size[0] * size[1],
    }  # fmt: skip
    source = [harness.LIB / "fsq_pixel_buffer.sv", harness.LIB / "fsq_memory.sv"]
    result = harness.run_bench("fsq_pixel_buffer", source, "sim.bench_line_buffer", parameters, "icarus", seed=2, env={"FSQ_CASE": spec.to_json()})
    assert result.measured("ratio") == 1
    assert result.measured("latency") == 2
