"""The serial machine of a board, pin to pin in simulation, on both simulators; its modules in yosys; a wrong bit is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpga_squeeze.board.design import BoardDesign, board_design
from fpga_squeeze.board.emit import board_files, frame_bytes
from fpga_squeeze.board.table import find_board
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.emit.rtl_context import rtl_design
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from sim import harness
from tests.machines import Machine
from tests.rtl_machines import Pixels, digits, lively, random_pixels, write

TIMEOUT = 800
CLOCK_MHZ, BAUD = 80.0, 10_000_000  # 8 cycles a bit


def small() -> tuple[QuantGraph, Pixels]:
    """Two convolutions on a 6 x 6 image of three channels: what Icarus gets through in seconds."""
    m = Machine(3, 6, seed=3)
    plain = m.total("pool10", m.conv("conv10", m.conv("conv1", "image", 4, 3, 2), 5, 1))
    pixels = random_pixels(plain, 3)
    return lively(plain, pixels), pixels


def prepare(out: Path, qgraph: QuantGraph, plan: FoldPlan, pixels: Pixels, options: RtlOptions | None = None) -> tuple[BoardDesign, list[Path]]:
    """The machine and the files of its board below `out`; returns the sources of the serial machine."""
    write(out, qgraph, plan, options)
    design = board_design(rtl_design(qgraph, plan, options or RtlOptions()), plan, find_board("ulx3s"), CLOCK_MHZ, BAUD)
    names = (out / "rtl/files.f").read_text().split()
    sums = FastSimulator(qgraph).run(pixels)
    folder = out / "board/ulx3s"
    files = board_files(design, names, 1, pixels, sums)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    case = {
        "host": str(folder / "host.py"), "divisor": design.divisor, "timeout": TIMEOUT, "overruns": 0,
        "answer_cycles": 3 * plan.interval_cycles + 400 * design.divisor + 20_000,
        "frames": [{"pixels": frame_bytes(p).hex(), "class": int(np.argmax(s)), "sum": int(s.max())} for p, s in zip(pixels, sums, strict=True)],
    }  # fmt: skip
    (out / "case.json").write_text(json.dumps(case))
    own = [folder / name for name in files if name.startswith("rtl/") and "fsq_board" not in name and "fsq_clock" not in name and "fsq_reset" not in name]
    return design, [*(out / "rtl" / name for name in names), *own]


def simulate(out: Path, design: BoardDesign, sources: list[Path], simulator: str, testcase: str | list[str] | None = None, **more: int) -> harness.BenchResult:
    harness.require(simulator)
    parameters = {"DIVISOR": design.divisor, "TIMEOUT": TIMEOUT, "WEIGHTS": f"{out / 'rtl/weights'}/", **more}
    env = {"FSQ_BOARD": str(out / "case.json")}
    args: list[str] = []
    if simulator == "verilator":  # only what the bench looks at is public: a whole network builds in seconds instead of minutes
        ports = out / "ports.vlt"
        names = ("clk", "rst", "rxd", "txd", "class_index")
        ports.write_text("`verilator_config\n" + "".join(f'public_flat_rw -module "{design.serial}" -var "{name}"\n' for name in names))
        sources, args = [*sources, ports], ["--no-public-flat-rw", "--x-assign", "fast", "--x-initial", "fast"]
    return harness.run_bench(design.serial, sources, "sim.bench_board", parameters, simulator, seed=1, env=env, testcase=testcase, build_args=args)


@pytest.mark.parametrize("simulator", harness.SIMULATORS)
def test_small_machine_pin_to_pin(tmp_path: Path, simulator: str) -> None:
    qgraph, pixels = small()
    result = simulate(tmp_path, *prepare(tmp_path, qgraph, plan_machine(qgraph, 200.0, 200_000.0), pixels), simulator)
    assert result.tests == 10
    assert result.measured("answers") == 2 * len(pixels)


def test_digits_pin_to_pin_on_verilator(tmp_path: Path) -> None:
    qgraph, plan, pixels = digits(5_000.0, 4)
    result = simulate(tmp_path, *prepare(tmp_path, qgraph, plan, pixels), "verilator", ["golden_frames", "wrong_crc", "broken_off", "line_break"])
    assert result.tests == 4
    assert result.measured("answers") == 2 * len(pixels)


def test_top_k_machine(tmp_path: Path) -> None:
    """The machine that ranks by itself: the first of its classes is the answer."""
    qgraph, pixels = small()
    prepared = prepare(tmp_path, qgraph, plan_machine(qgraph, 200.0, 200_000.0), pixels, RtlOptions(top_k=3))
    assert simulate(tmp_path, *prepared, "icarus", ["golden_frames", "wrong_crc"]).tests == 2


def test_machine_slower_than_its_line(tmp_path: Path) -> None:
    """board_design refuses such a machine; the wrapper still keeps in step with one."""
    m = Machine(3, 6, seed=4)
    plain = m.total("pool10", m.conv("conv10", m.conv("conv1", "image", 64, 3), 5, 1))
    pixels = random_pixels(plain, 2)
    qgraph = lively(plain, pixels)
    design, sources = prepare(tmp_path, qgraph, plan_machine(qgraph, 200.0, 200_000.0), pixels)
    slow = plan_machine(qgraph, 200.0, 1.0)
    assert slow.interval_cycles > 1.5 * design.frame_bytes * 40
    write(tmp_path, qgraph, slow)
    case = json.loads((tmp_path / "case.json").read_text())
    case.update(overruns=6, answer_cycles=4 * slow.interval_cycles + 20_000, divisor=4)
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert simulate(tmp_path, replace(design, divisor=4), sources, "verilator", "machine_too_slow", FIFO_DEPTH=24).tests == 1


def test_a_wrong_weight_is_found(tmp_path: Path) -> None:
    """The checker can fail: one bit of one bias turned over."""
    qgraph, pixels = small()
    prepared = prepare(tmp_path, qgraph, plan_machine(qgraph, 200.0, 200_000.0), pixels)
    path = next((tmp_path / "rtl/weights").glob("conv10_bias.hex"))
    rows = path.read_text().split()
    path.write_text("\n".join([*(f"{int(row, 16) ^ 4:0{len(row)}x}" for row in rows)]) + "\n")
    with pytest.raises(harness.SimulationError, match="the simulator has"):
        simulate(tmp_path, *prepared, "icarus", "golden_frames")
