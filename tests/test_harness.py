"""The RTL harness: it must fail when the design, the bench, a file or the simulator is not right."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import elaborate, harness

FIFO = harness.LIB / "fsq_fifo.sv"


def mutate(source: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of `source` in `folder` with one change."""
    text = source.read_text()
    assert text.count(old) == 1, f"{old!r} must occur once in {source.name}"
    target = folder / source.name
    target.write_text(text.replace(old, new))
    return target


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("write_reg <= (write_reg == LAST) ? {ADDR_BITS{1'b0}} : write_reg + 1'b1;\n                        if (read)", "if (read)", "was expected"),
        ("ready_reg <= count_next != FULL;", "ready_reg <= 1'b1;", "was expected"),
        ("if (refill) out_data_reg <= empty ? s_axis_tdata : word;", "out_data_reg <= empty ? s_axis_tdata : word;", "changed from"),
    ],
    ids=["write pointer stands still", "overflow", "data change while stalled"],
)
def test_a_planted_bug_fails_the_bench(tmp_path: Path, old: str, new: str, said: str) -> None:
    harness.require("icarus")
    source = mutate(FIFO, tmp_path, old, new)
    with pytest.raises(harness.SimulationError, match=said):
        harness.run_bench("fsq_fifo", [source], "sim.bench_fifo", {"WIDTH": 8, "DEPTH": 5, "STYLE": 1}, "icarus", seed=1)


def test_bad_parameters_end_the_simulation_with_their_value() -> None:
    harness.require("icarus")
    with pytest.raises(harness.SimulationError, match="STYLE=7"):
        harness.run_bench("fsq_fifo", [FIFO], "sim.bench_fifo", {"WIDTH": 8, "DEPTH": 4, "STYLE": 7}, "icarus", seed=1)


def test_missing_source_is_named(tmp_path: Path) -> None:
    harness.require("icarus")
    with pytest.raises(harness.SimulationError, match=r"absent\.sv does not exist"):
        harness.build("absent", [tmp_path / "absent.sv"], {}, "icarus")


@pytest.mark.parametrize("simulator", harness.SIMULATORS)
def test_missing_readmemh_file_is_fatal(tmp_path: Path, simulator: str) -> None:
    harness.require(simulator)
    source = tmp_path / "rom.sv"
    source.write_text(
        'module rom #(parameter WIDTH = 8, parameter F = "x") (input wire clk, input wire rst, output reg [7:0] q);\n'
        "reg [7:0] memory [0:3];\ninitial $readmemh(F, memory);\nalways @(posedge clk) q <= memory[0];\nendmodule\n"
    )
    with pytest.raises(harness.SimulationError, match=r"nothing\.hex"):
        harness.run_bench("rom", [source], "sim.bench_rom", {"WIDTH": 8, "F": "nothing.hex"}, simulator, seed=1)
    result = harness.run_bench("rom", [source], "sim.bench_rom", {"WIDTH": 8, "F": "w.hex"}, simulator, seed=1, data={"w.hex": "5a\n01\n02\n03\n"})
    assert result.measured("q") == 0x5A


def test_a_hanging_simulation_is_ended(tmp_path: Path) -> None:
    harness.require("icarus")
    source = tmp_path / "spin.sv"
    source.write_text("module spin (input wire clk, input wire rst, output reg [7:0] q);\ninitial forever q = 8'd1;\nendmodule\n")
    with pytest.raises(harness.SimulationError, match="no end after 6 s"):
        harness.run_bench("spin", [source], "sim.bench_rom", {"WIDTH": 8}, "icarus", seed=1, timeout_s=6.0)


def test_missing_simulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    reason = harness.missing_reason("icarus")
    assert reason is not None and "apt-get install iverilog" in reason
    with pytest.raises(harness.SimulatorMissingError, match="iverilog"):
        harness.build("fsq_fifo", [FIFO], {}, "icarus")
    with pytest.raises(ValueError, match="one of icarus, verilator"):
        harness.missing_reason("modelsim")


def test_equal_builds_are_kept_and_changed_sources_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.require("icarus")
    monkeypatch.setenv("FPGA_SQUEEZE_SIM_CACHE", str(tmp_path / "cache"))
    first = harness.build("fsq_fifo", [FIFO], {"DEPTH": 5}, "icarus")
    assert harness.build("fsq_fifo", [FIFO], {"DEPTH": 5}, "icarus") == first
    changed = tmp_path / FIFO.name
    changed.write_text(FIFO.read_text() + "\n// changed\n")
    assert harness.build("fsq_fifo", [changed], {"DEPTH": 5}, "icarus") != first
    assert harness.build("fsq_fifo", [FIFO], {"DEPTH": 6}, "icarus") != first


def test_elaboration_refuses_an_implicit_wire_and_a_latch(tmp_path: Path) -> None:
    elaborate.require_yosys()
    implicit = tmp_path / "implicit.sv"
    implicit.write_text("module implicit (input wire a, output wire y);\nassign y = a & forgotten;\nendmodule\n")
    with pytest.raises(harness.SimulationError, match="forgotten"):
        elaborate.elaborate("implicit", [implicit], {})
    latch = tmp_path / "latch.sv"
    latch.write_text("module latch (input wire a, input wire e, output reg y);\nalways @* if (e) y = a;\nendmodule\n")
    with pytest.raises(harness.SimulationError, match=r"latch in yosys: .*[Ll]atch"):
        elaborate.elaborate("latch", [latch], {})
    scope = tmp_path / "scope.sv"
    scope.write_text(
        "module scope (input wire a, output wire y);\ngenerate if (1) begin : gen_one\nwire inner = a;\nend\n"
        "if (1) begin : gen_two\nassign y = gen_three.inner;\nend endgenerate\nendmodule\n"
    )
    with pytest.raises(harness.SimulationError):
        elaborate.elaborate("scope", [scope], {})


def test_negative_parameters_reach_yosys_with_their_sign(tmp_path: Path) -> None:
    elaborate.require_yosys()
    source = tmp_path / "sign.sv"
    source.write_text(
        "module sign #(parameter S = 0) (output wire y);\n"
        "generate if (S < 0) begin : gen_no\nassign y = missing_wire;\nend endgenerate\nendmodule\n"
    )
    with pytest.raises(harness.SimulationError, match="missing_wire"):
        elaborate.elaborate("sign", [source], {"S": -2})
