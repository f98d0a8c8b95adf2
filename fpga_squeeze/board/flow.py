"""The tools and their command lines: yosys, nextpnr-ecp5, ecppack. The folder of a build stands two levels below the export."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.board.design import RTL, BoardDesign

SCRIPT, NETLIST, CONFIG, REPORT = "build.ys", "netlist.json", "design.config", "nextpnr_report.json"


@dataclass(frozen=True)
class Flow:
    """Arguments of each tool, run in the folder of the build."""

    yosys: tuple[str, ...]
    nextpnr: tuple[str, ...]
    ecppack: tuple[str, ...]


def bitstream_name(design: BoardDesign) -> str:
    """File name of the bitstream: the machine's name and the board's."""
    return f"{design.machine}_{design.board.name}.bit"


def yosys_script(design: BoardDesign, sources: tuple[str, ...], own: tuple[str, ...]) -> str:
    """Commands of yosys. `sources`: files of the machine relative to the export's rtl/; `own`: the board's, relative to the build."""
    # FSQ_LUT4: the library's rule for LUT or block memory, for LUTs of four inputs; pools keep their maxima in LUTs then.
    lines = [f"read_verilog -sv -defer -DSYNTHESIS -DFSQ_LUT4 {path}" for path in (*(f"{RTL}/{name}" for name in sources), *own)]
    # The PLL's module comes with the first step of synth_ecp5, so nothing can be elaborated before it.
    lines += [
        f"synth_ecp5 -top {design.top} -run begin:coarse",
        f"synth_ecp5 -top {design.top} -run coarse: -json {NETLIST}",
    ]
    return "\n".join(lines) + "\n"


def ecp5_flow(design: BoardDesign, seed: int) -> Flow:
    """The three tools' arguments. The seed makes place and route repeatable; a clock that is missed is judged by us, not by nextpnr."""
    board = design.board
    nextpnr = (
        f"--{board.size}", "--package", board.package, "--speed", str(board.speed), "--json", NETLIST, "--lpf", f"{board.name}.lpf", "--textcfg", CONFIG,
        "--report", REPORT, "--seed", str(seed), "--freq", f"{design.clock_mhz:g}", "--timing-allow-fail",
    )  # fmt: skip
    return Flow((SCRIPT,), nextpnr, ("--compress", CONFIG, bitstream_name(design)))
