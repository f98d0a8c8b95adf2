"""fsq_pixel_order: order, dropped pixels, full rate, on both simulators."""

from __future__ import annotations

import pytest

from sim import harness

SOURCES = [harness.LIB / "fsq_pixel_order.sv", harness.LIB / "fsq_memory.sv"]


def _run(folds: int, p_px: int, pixels: int, simulator: str = "icarus") -> harness.BenchResult:
    parameters = {"WIDTH": 12, "OC_FOLDS": folds, "P_PX": p_px, "PIXELS": pixels}
    return harness.run_bench("fsq_pixel_order", SOURCES, "sim.bench_pixel_order", parameters, simulator, seed=folds + p_px)


# Whole groups, one pixel in the last group, several.
@pytest.mark.parametrize("folds, p_px, pixels", [(1, 2, 10), (3, 2, 7), (2, 3, 7), (1, 3, 8), (4, 4, 9), (3, 4, 11), (2, 4, 4), (5, 8, 35)])
def test_pixels_one_by_one(folds: int, p_px: int, pixels: int) -> None:
    harness.require("icarus")
    result = _run(folds, p_px, pixels)
    assert result.tests == 4
    assert result.measured("latency") == 2
    assert result.measured("bubbles") == 0
    assert result.measured("held_up") == 0


def test_one_pixel_is_wires() -> None:
    harness.require("icarus")
    result = _run(3, 1, 5)
    assert result.measured("latency") == 0
    assert result.measured("bubbles") == 0


def test_on_verilator() -> None:
    harness.require("verilator")
    assert _run(3, 3, 8, "verilator").tests == 4


def test_a_frame_smaller_than_a_group_is_refused() -> None:
    harness.require("icarus")
    with pytest.raises(harness.SimulationError, match="P_PX=4 PIXELS=3, P_PX from 1 to PIXELS was expected"):
        _run(2, 4, 3)
