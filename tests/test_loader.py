"""fsq_loader and fsq_frame_hold on both simulators and in yosys; a loader whose CRC or hold is broken must fail its bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import harness
from sim.elaborate import elaborate, require_yosys

LOADER = harness.LIB / "fsq_loader.sv"
HOLD = harness.LIB / "fsq_frame_hold.sv"


def entry(memory: int, rows: int, row_bytes: int) -> int:
    """An entry of TABLE."""
    column = (row_bytes - 1) // 9
    return memory << 36 | (rows - 1) << 16 | column << 4 | row_bytes - 9 * column


def parameters(*memories: tuple[int, int, int]) -> dict[str, int | str]:
    """fsq_loader for memories of (number, rows, bytes of a row)."""
    length = sum(rows * row_bytes for _, rows, row_bytes in memories)
    header = b"FSQ1" + bytes(range(0x31, 0x39)) + length.to_bytes(4, "little")
    table = sum(entry(*m) << 48 * i for i, m in enumerate(memories))
    return {"MEMORIES": len(memories), "TABLE": table, "HEADER": int.from_bytes(header, "little")}


# Rows of one byte, of whole columns, of a column and a byte; many memories, one memory; numbers with gaps up to the last one.
SHAPES = {
    "mixed": parameters((0, 4, 20), (1, 3, 9), (2, 3, 1), (9, 1, 1), (10, 1, 1), (1023, 2, 37)),
    "one byte": parameters((7, 1, 1)),
    "one column": parameters((3, 40, 9)),
}


def loader(name: str, simulator: str, source: Path = LOADER, testcase: str | None = None) -> None:
    """Run the loader's bench."""
    harness.require(simulator)
    shape = SHAPES[name]
    harness.run_bench("fsq_loader", [source], "sim.bench_loader", shape, simulator, seed=11, testcase=testcase)


@pytest.mark.parametrize("name", ["mixed", "one column"])
def test_loader_on_icarus(name: str) -> None:
    loader(name, "icarus")


def test_loader_of_a_single_byte_on_icarus() -> None:
    loader("one byte", "icarus", testcase="right_images")


def test_loader_on_verilator() -> None:
    loader("mixed", "verilator")


@pytest.mark.parametrize("simulator", harness.SIMULATORS)
def test_frame_hold(simulator: str) -> None:
    harness.require(simulator)
    harness.run_bench("fsq_frame_hold", [HOLD], "sim.bench_frame_hold", {"COUNT_BITS": 16}, simulator, seed=5)


@pytest.mark.parametrize(
    ("old", "new", "testcase"),
    [
        ("else if (crc_next != CRC_RIGHT)", "else if (1'b0)", "damaged"),
        ("hold = !good_reg || phase_reg == WAITING", "hold = !good_reg", "right_images"),
        ("WAITING: if (idle)", "WAITING: if (1'b1)", "waits_for_frames"),
        ("phase_reg <= s_load_axis_tlast ? HEAD : DROP;\n                        if", "phase_reg <= HEAD;\n                        if", "too_long"),
        ("at_column_end ? last_bytes_reg - 4'd1 : 4'd8", "4'd8", "right_images"),
    ],
)
def test_a_broken_loader_is_found(tmp_path: Path, old: str, new: str, testcase: str) -> None:
    text = LOADER.read_text()
    assert text.count(old) == 1
    broken = tmp_path / "fsq_loader.sv"
    broken.write_text(text.replace(old, new))
    with pytest.raises(harness.SimulationError):
        loader("mixed", "icarus", broken, testcase)


def test_a_hold_that_stops_a_frame_in_its_middle_is_found(tmp_path: Path) -> None:
    harness.require("icarus")
    text = HOLD.read_text()
    for old, new in (("(!inside_next && !waits)", "!waits"), ("(!inside_next && !waits)", "!inside_next"), ("&& work_reg == {COUNT_BITS{1'b0}}", "")):
        assert text.count(old) == 1
        broken = tmp_path / "fsq_frame_hold.sv"
        broken.write_text(text.replace(old, new))
        with pytest.raises(harness.SimulationError, match="cycle"):
            harness.run_bench("fsq_frame_hold", [broken], "sim.bench_frame_hold", {"COUNT_BITS": 16}, "icarus", seed=5)


@pytest.mark.parametrize("name", SHAPES)
def test_loader_elaborates_in_yosys(name: str) -> None:
    require_yosys()
    elaborate("fsq_loader", [LOADER], SHAPES[name])
    elaborate("fsq_frame_hold", [HOLD], {"COUNT_BITS": 4})
