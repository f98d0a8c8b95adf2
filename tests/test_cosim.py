"""RTL simulation of whole networks: bit-exact on both simulators, under stalls, after resets; every corruption is found and named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpga_squeeze.emit.golden import golden_files
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from tests.machines import tiny
from tests.rtl_machines import digits, lively, random_pixels, real, require, write

SIMULATORS = ("icarus", "verilator")
TINY_FPS = 400_000.0


@pytest.fixture(scope="module")
def small() -> tuple[QuantGraph, FoldPlan]:
    plain = tiny(seed=3)
    qgraph = lively(plain, random_pixels(plain, 2))
    return qgraph, plan_machine(qgraph, 200.0, TINY_FPS)


def simulate(out: Path, small: tuple[QuantGraph, FoldPlan], simulator: str = "icarus", frames: int = 2, **options: object) -> RtlResult:
    require(simulator)
    return run_rtl(out, *small, random_pixels(small[0], frames), simulator=simulator, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_small_machine_is_exact_under_every_pattern(small: tuple[QuantGraph, FoldPlan], tmp_path: Path, simulator: str) -> None:
    seen: list[tuple[str, int, int]] = []
    stalls = "none,random:1-3,input,output,adversarial,reset,tlast"
    out = write(tmp_path, *small)
    result = simulate(out, small, simulator, 3, stalls=stalls, progress=lambda *step: seen.append(step))
    assert result.ok, result.first_failure
    assert result.runs == 9
    assert [row.stage for row in result.rows] == [*(s.name for s in small[1].stages), "squeezenet"]
    for row, stage in zip(result.rows, small[1].stages, strict=False):
        c, h, w = small[0][small[1].link_from(stage.name).tensor].shape
        assert row.compared == 9 * 3 * c * h * w
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * small[1].interval_cycles + 1
    assert all(mark.high_water <= mark.depth for mark in result.fifo_marks)
    assert max(mark.high_water for mark in result.fifo_marks) > 1
    assert ("RTL build, files", 0, 0) in seen and seen[-1][0].startswith("RTL simulation")
    assert all(0 < done <= total for step, done, total in seen if step == "RTL simulation, cycles")
    assert {step for step, _, _ in seen if "run" in step} == {f"RTL simulation, run {n}, cycles" for n in range(2, 10)}
    json.dumps(result.to_json())


def test_top_k_output(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small, RtlOptions(top_k=3))
    result = simulate(out, small, stalls="none,adversarial,reset")
    assert result.ok, result.first_failure
    assert result.rows[-1].compared == 3 * 2 * 3  # runs, frames, results


def flip_bit(out: Path, name: str, row: int, bit: int) -> None:
    path = out / "rtl" / "weights" / name
    rows = path.read_text().split()
    rows[row] = f"{int(rows[row], 16) ^ 1 << bit:0{len(rows[row])}x}"
    path.write_text("\n".join(rows) + "\n")


def names_place(result: RtlResult, stage: str) -> None:
    """The first failing row is `stage` and says where."""
    bad = [row for row in result.rows if not row.ok]
    assert not result.ok and bad
    assert bad[0].stage == stage
    place = r"\d+ of \d+ values differ; the first at frame 0, channel \d+, y \d+, x \d+: expected -?\d+, got -?\d+"
    assert re.search(f"{stage}: {place}", str(result.first_failure))


def test_a_flipped_weight_bit_is_found(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    # A channel that is neither always zero nor always saturated.
    values = FastSimulator(small[0]).trace(random_pixels(small[0], 2))["fire2.squeeze"]
    channel = max(range(values.shape[1]), key=lambda c: len(np.unique(values[:, c])))
    engine = next(s for s in small[1].stages if s.name == "fire2.squeeze").engines[0]
    fold, lane = divmod(channel, engine.fold.p_oc)
    flip_bit(out, "fire2_squeeze_weights.hex", fold * engine.k_folds * engine.ic_folds, lane * engine.fold.p_ic * engine.weight_bits + 6)
    names_place(simulate(out, small), "fire2.squeeze")


def test_a_shift_off_by_one_is_found(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    flip_bit(out, "fire2_expand1x1_shift.hex", 0, 0)
    result = simulate(out, small)
    names_place(result, "fire2.expand")
    first = next(row.first_difference for row in result.rows if row.first_difference)
    assert first.channel < 8  # the 1x1 half


def test_a_wrong_tap_order_is_found(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    """Two rows of conv1's weights changed places: single taps in the wrong order."""
    out = write(tmp_path, *small)
    path = out / "rtl" / "weights" / "conv1_weights.hex"
    engine = small[1].stages[0].engines[0]
    rows = path.read_text().split()
    if engine.k_folds > 1:
        rows[0], rows[engine.ic_folds] = rows[engine.ic_folds], rows[0]
    else:
        lane = engine.fold.p_ic * engine.weight_bits // 4
        rows[0] = rows[0][: -2 * lane] + rows[0][-lane:] + rows[0][-2 * lane : -lane]
    path.write_text("\n".join(rows) + "\n")
    names_place(simulate(out, small), "conv1")


def edit_top(out: Path, old: str, new: str) -> None:
    top = out / "rtl" / "squeezenet.sv"
    text = top.read_text()
    assert text.count(old) == 1
    top.write_text(text.replace(old, new).replace("    wire running", "    reg [15:0] moved = 0;\n    wire running"))


def test_a_dropped_beat_is_found(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    edit_top(
        out,
        ".s_axis_tvalid(conv1_tvalid)",
        ".s_axis_tvalid(conv1_tvalid && moved != 5)",
    )
    top = out / "rtl" / "squeezenet.sv"
    count = "    always_ff @(posedge ap_clk) if (conv1_tvalid && conv1_tready) moved <= moved + 1;\nendmodule"
    top.write_text(top.read_text().replace("endmodule", count))
    result = simulate(out, small)
    names_place(result, "pool1")
    assert result.rows[0].ok  # conv1 itself is right
    assert any("deadlock: nothing moved" in fault and "incomplete: pool1" in fault for fault in result.faults)


def test_a_stream_that_never_moves_is_reported_with_its_name(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    edit_top(out, ".s_axis_tvalid(pool1_tvalid)", ".s_axis_tvalid(1'b0)")
    result = simulate(out, small)
    assert not result.ok
    assert any(re.search(r"deadlock: nothing moved for \d+ cycles.*starved \(ready, not valid\): .*fire2_squeeze", fault) for fault in result.faults)
    assert result.latency_cycles is None and result.interval_cycles is None


def test_a_missing_or_short_memory_file_is_refused(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    path = out / "rtl" / "weights" / "conv10_bias.hex"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"conv10_bias\.hex: \d+ rows of \d+ digits were expected"):
        simulate(out, small)
    path.unlink()
    with pytest.raises(InputError, match=r"conv10_bias\.hex: missing"):
        simulate(out, small)


def test_rtl_that_does_not_build_is_one_line(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    edit_top(out, ".s_axis_tvalid(pool1_tvalid)", ".s_axis_tvalid(pool1_tvalid")
    with pytest.raises(CheckFailedError, match="the RTL does not build on icarus: ") as raised:
        simulate(out, small)
    assert "\n" not in str(raised.value)


def test_bad_options_are_refused(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    pixels = random_pixels(small[0], 1)
    with pytest.raises(InputError, match="verilator or icarus"):
        run_rtl(tmp_path, *small, pixels, simulator="modelsim")
    with pytest.raises(InputError, match=r"no sim/run\.py"):
        run_rtl(tmp_path, *small, pixels)
    require("icarus")
    out = write(tmp_path, *small)
    with pytest.raises(InputError, match="--stalls sometimes: random:SEED"):
        run_rtl(out, *small, pixels, simulator="icarus", stalls="sometimes")


def test_a_missing_simulator_says_how_to_get_it(small: tuple[QuantGraph, FoldPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("icarus")
    out = write(tmp_path, *small)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="apt-get install iverilog"):
        run_rtl(out, *small, random_pixels(small[0], 1), simulator="icarus")


HLS_WRAPPER = """
module squeezenet (
    input wire ap_clk, input wire ap_rst_n,
    input wire [23:0] s_axis_TDATA, input wire s_axis_TVALID, output wire s_axis_TREADY, input wire [0:0] s_axis_TLAST,
    input wire [2:0] s_axis_TKEEP, input wire [2:0] s_axis_TSTRB,
    output wire [31:0] m_axis_TDATA, output wire m_axis_TVALID, input wire m_axis_TREADY, output wire [0:0] m_axis_TLAST,
    output wire [3:0] m_axis_TKEEP, output wire [3:0] m_axis_TSTRB
);
    machine core (
        .ap_clk(ap_clk), .ap_rst_n(ap_rst_n), .s_axis_tdata(s_axis_TDATA), .s_axis_tvalid(s_axis_TVALID), .s_axis_tready(s_axis_TREADY),
        .s_axis_tlast(s_axis_TLAST), .m_axis_tdata(m_axis_TDATA), .m_axis_tvalid(m_axis_TVALID), .m_axis_tready(m_axis_TREADY),
        .m_axis_tlast(m_axis_TLAST), .frame_error()
    );
endmodule
"""


def test_another_machine_with_the_ports_of_vitis_hls(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path / "out", *small)
    other = tmp_path / "other"
    shutil.copytree(write(tmp_path / "core", *small, RtlOptions(top="machine")) / "rtl", other)
    (other / "squeezenet.v").write_text(HLS_WRAPPER)
    result = simulate(out, small, rtl_dir=other, stalls="none,random:5,reset")
    assert result.ok, result.first_failure
    assert [row.stage for row in result.rows] == ["squeezenet"]
    weights = other / "weights" / "conv10_weights.hex"
    rows = weights.read_text().split()
    weights.write_text("\n".join([f"{int(rows[0], 16) ^ 0x40:0{len(rows[0])}x}", *rows[1:]]) + "\n")
    assert not simulate(out, small, rtl_dir=other).ok


def test_waves_are_written(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    out = write(tmp_path, *small)
    assert simulate(out, small, frames=1, waves=True).ok
    assert [p for p in (out / "build").rglob("*.fst") if p.stat().st_size > 1000]


def test_digits_on_verilator_with_twenty_seeds(tmp_path: Path) -> None:
    require("verilator")
    qgraph, plan, pixels = digits(20_000.0, 4)
    out = write(tmp_path, qgraph, plan)
    told: dict[str, list[tuple[int, int]]] = {}
    result = run_rtl(
        out, qgraph, plan, pixels, stalls="none,random:1-20,adversarial,reset", progress=lambda step, *done: told.setdefault(step, []).append(done)
    )
    assert result.ok, result.first_failure
    # C++ files compiled of those that Verilator wrote, then cycles.
    done, files = told["RTL build, files"][-1]
    assert done == files > 3 and told["RTL build, files"][0] == (0, 0)
    assert told["RTL simulation, cycles"][-1][0] >= 4 * plan.interval_cycles and "RTL simulation, run 23, cycles" in told
    assert result.runs == 23 and result.frames == 4
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles
    assert result.mac_efficiency == pytest.approx(plan.mac_efficiency, rel=0.01)


def test_digits_on_icarus(tmp_path: Path) -> None:
    require("icarus")
    qgraph, plan, pixels = digits(250_000.0, 2)
    out = write(tmp_path, qgraph, plan)
    result = run_rtl(out, qgraph, plan, pixels, simulator="icarus", stalls="random:2")
    assert result.ok, result.first_failure


@pytest.mark.parametrize("seeds", ["1-4", pytest.param("5-20", marks=pytest.mark.slow)])
def test_digits_on_icarus_with_twenty_seeds(seeds: str, tmp_path: Path) -> None:
    """Icarus takes a quarter of a minute a seed; Verilator runs all twenty each time."""
    require("icarus")
    qgraph, plan, pixels = digits(50_000.0, 1)
    out = write(tmp_path, qgraph, plan)
    result = run_rtl(out, qgraph, plan, pixels, simulator="icarus", stalls=f"random:{seeds}")
    assert result.ok, result.first_failure
    assert result.runs == {"1-4": 4, "5-20": 16}[seeds]


@pytest.mark.slow
@pytest.mark.parametrize(("version", "classes"), [("1.1", 1000), ("1.0", 1000)])
def test_real_network_at_full_size(version: str, classes: int, tmp_path: Path) -> None:
    """Three photographs back to back: every value of every stage, no bubble at the bottleneck, a short first latency."""
    require("verilator")
    qgraph, plan, pixels = real(version, 500.0 if version == "1.1" else 350.0, 3)
    assert 900 <= plan.multipliers <= 1800
    out = write(tmp_path, qgraph, plan)
    result = run_rtl(out, qgraph, plan, pixels)
    assert result.ok, result.first_failure
    assert result.rows[-1].compared == 3 * classes
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles
    assert result.latency_cycles is not None and result.latency_cycles <= 1.8 * plan.interval_cycles
    print(replace(result, losses=(), fifo_marks=()))


def test_make_in_the_sim_folder_needs_no_package(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    """`make -C OUT/sim` runs on the golden data, prints a table, and fails when the RTL differs."""
    require("icarus")
    out = write(tmp_path, *small)
    pixels = random_pixels(small[0], 2)
    for name, content in golden_files(*small, pixels, FastSimulator(small[0]).trace(pixels)).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
    assert not [p.name for p in (out / "sim").glob("*.py") if "fpga_squeeze" in p.read_text()]
    command = ["make", "-C", str(out / "sim"), f"PYTHON={sys.executable}", "SIM=icarus", "STALLS=random:4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "icarus, 2 frames, stalls random:4: every value equal" in done.stdout
    flip_bit(out, "conv10_weights.hex", 0, 6)
    done = subprocess.run([*command, "FRAMES=1"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert re.search(r"conv10: \d+ of 90 values differ; the first at frame 0, channel \d, y \d, x \d", done.stdout), done.stdout
    done = subprocess.run([*command, "FRAMES=3"], capture_output=True, text=True, check=False, timeout=300)
    assert "error: --frames 3: 1 to 2 was expected" in done.stderr
