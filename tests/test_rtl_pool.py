"""fsq_max_pool on both simulators over the geometry of ir.MaxPool, its elaboration, and the pool and adder at gate level."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sim import harness
from sim.elaborate import elaborate, gate_level, require_yosys

NAMES = ("CHANNELS", "LANES", "BITS", "SIGNED", "IH", "IW", "K", "S", "PAD_TOP", "PAD_LEFT", "PAD_BOTTOM", "PAD_RIGHT")
FILES = [harness.LIB / f"fsq_{name}.sv" for name in ("max_pool", "window_max", "skid", "memory")]

# One input beat a cycle and no bubble between frames is required of these ...
FULL_RATE = [
    (8, 4, 8, 0, 9, 9, 3, 2, 0, 0, 0, 0),
    (5, 2, 8, 1, 8, 10, 3, 2, 0, 0, 1, 1),
    (3, 3, 8, 0, 6, 7, 2, 2, 0, 0, 0, 1),
    (4, 2, 8, 0, 7, 8, 1, 2, 0, 0, 0, 0),
    (2, 1, 8, 1, 9, 8, 2, 3, 0, 0, 0, 0),
    (6, 2, 8, 1, 7, 9, 3, 2, 1, 1, 0, 0),
    (1, 1, 4, 1, 5, 5, 3, 3, 0, 0, 1, 1),
]
# ... but not where several windows end beyond the edge.
WIDE_PADDING = [
    (4, 2, 8, 1, 6, 5, 3, 1, 1, 1, 1, 1),
    (2, 1, 8, 1, 5, 7, 5, 2, 4, 3, 3, 4),
    (3, 1, 8, 0, 7, 8, 3, 2, 1, 1, 2, 2),
]
MORE = [
    (4, 4, 8, 0, 7, 5, 1, 1, 0, 0, 0, 0),
    (6, 2, 16, 1, 8, 8, 3, 2, 1, 1, 0, 0),
    (16, 4, 8, 0, 15, 15, 3, 2, 0, 0, 0, 0),
    (1, 1, 8, 0, 6, 6, 4, 3, 2, 3, 1, 2),
    (2, 1, 8, 0, 2, 3, 5, 1, 4, 3, 4, 3),
    (2, 2, 8, 1, 5, 7, 5, 2, 2, 2, 2, 2),
]


def parameters(values: tuple[int, ...]) -> dict[str, int | str]:
    """Parameters of fsq_max_pool in the order of its header."""
    return dict(zip(NAMES, values, strict=True))


def run(values: tuple[int, ...], simulator: str, seed: int) -> harness.BenchResult:
    """Run the bench; the full rate is asserted inside it unless the geometry is among WIDE_PADDING."""
    harness.require(simulator)
    env = {"FSQ_FULL_RATE": "1" if values in FULL_RATE else "0"}
    return harness.run_bench("fsq_max_pool", FILES, "sim.bench_max_pool", parameters(values), simulator, seed=seed, env=env)


@pytest.mark.parametrize("values", [*FULL_RATE, *WIDE_PADDING], ids=str)
def test_pool_on_icarus(values: tuple[int, ...]) -> None:
    run(values, "icarus", 1)


@pytest.mark.parametrize("values", [FULL_RATE[1], WIDE_PADDING[0]], ids=str)
def test_pool_on_verilator(values: tuple[int, ...]) -> None:
    run(values, "verilator", 2)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", harness.SIMULATORS)
@pytest.mark.parametrize("values", [*FULL_RATE, *WIDE_PADDING, *MORE], ids=str)
def test_every_geometry_on_both_simulators(values: tuple[int, ...], simulator: str) -> None:
    run(values, simulator, 3)


@pytest.mark.parametrize("values", [*FULL_RATE, *WIDE_PADDING, *MORE], ids=str)
def test_pool_elaborates_in_yosys(values: tuple[int, ...]) -> None:
    require_yosys()
    elaborate("fsq_max_pool", FILES, parameters(values))


def test_a_window_wholly_in_the_padding_is_refused() -> None:
    harness.require("icarus")
    with pytest.raises(harness.SimulationError, match="wholly in the padding"):
        run((1, 1, 8, 0, 6, 6, 2, 2, 0, 0, 2, 0), "icarus", 1)


def test_a_wrong_comparison_fails_the_bench(tmp_path: Path) -> None:
    harness.require("icarus")
    wrong = tmp_path / "fsq_window_max.sv"
    text = FILES[1].read_text()
    changed = text.replace("$signed(old_value) > $signed(new_value)", "old_value > new_value")
    assert changed != text
    wrong.write_text(changed)
    with pytest.raises(harness.SimulationError, match="was expected"):
        harness.run_bench(
            "fsq_max_pool", [FILES[0], wrong, *FILES[2:]], "sim.bench_max_pool", parameters(FULL_RATE[1]), "icarus", seed=1
        )  # fmt: skip


ADDER = dict(
    zip(
        ("LANES", "A_BITS", "A_SIGNED", "B_BITS", "B_SIGNED", "ALIGN_A", "ALIGN_B", "SHIFT", "OUT_BITS", "OUT_SIGNED"),
        (3, 8, 1, 8, 1, 0, 3, 2, 8, 1), strict=True,
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("top", "files", "bench", "values"),
    [
        ("fsq_max_pool", FILES, "sim.bench_max_pool", parameters(FULL_RATE[1])),
        ("fsq_adder", [harness.LIB / "fsq_adder.sv"], "sim.bench_adder", ADDER),
    ],
    ids=["pool", "adder"],
)
def test_gate_level_after_synth_xilinx(tmp_path: Path, top: str, files: list[Path], bench: str, values: dict[str, int | str]) -> None:
    require_yosys()
    harness.require("icarus")
    assert shutil.which("iverilog")
    netlist = gate_level(top, files, values, tmp_path)
    harness.run_bench(top, netlist, bench, values, "icarus", seed=4, parameters_applied=False, timeout_s=200.0)
