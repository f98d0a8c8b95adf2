"""The job behind `fpga-squeeze build`: an export becomes a bitstream in OUT/board/NAME."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpga_squeeze import pipeline
from fpga_squeeze.board.design import BoardDesign, board_design
from fpga_squeeze.board.emit import board_files
from fpga_squeeze.board.flow import REPORT, bitstream_name, ecp5_flow
from fpga_squeeze.board.pnr_report import Placed, read_report
from fpga_squeeze.board.table import find_board
from fpga_squeeze.board.tools import Tools, find_tools, run_tool
from fpga_squeeze.config import load_config
from fpga_squeeze.emit import writer
from fpga_squeeze.emit.golden import read_golden_file
from fpga_squeeze.emit.hls_context import file_stem
from fpga_squeeze.emit.rtl_context import rtl_design
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.pipeline import Export, Progress, no_progress
from fpga_squeeze.simulate.fast import FastSimulator

_INTERMEDIATE = ("netlist.json", "design.config")


@dataclass(frozen=True)
class BoardOptions:
    """Options of a build; None: as the board's table says. Place and route takes `seed`, and while the clock is missed the next ones, `attempts` in all."""

    board: str
    clock_mhz: float | None = None
    baud: int | None = None
    seed: int = 1
    attempts: int = 3


@dataclass(frozen=True)
class BoardBuild:
    """A bitstream that meets its clock."""

    design: BoardDesign
    bitstream: Path
    placed: Placed
    seed: int
    tools: dict[str, str]
    interval_cycles: int

    def to_json(self) -> dict[str, object]:
        """The entry of performance.json's "build"; rates in MHz and frames/s, `fps` of the machine, `line_fps` of the serial line."""
        line = self.design.baud / (10 * (self.design.frame_bytes + 16 + self.design.sum_bytes))
        return {
            "title": self.design.board.title, "clock_mhz": self.design.clock_mhz, "fmax_mhz": round(self.placed.fmax_mhz, 2), **self.placed.used,
            "available": self.placed.available, "fps": round(self.design.clock_mhz * 1e6 / self.interval_cycles, 3), "baud": self.design.baud,
            "line_fps": round(line, 3), "critical_path": self.placed.critical_path, "seed": self.seed, "tools": self.tools,
            "bitstream": f"board/{self.design.board.name}/{self.bitstream.name}",
        }  # fmt: skip


def build_board(out: Path, options: BoardOptions, progress: Progress = no_progress) -> BoardBuild:
    """Synthesise, place, route and pack the export in `out`; the result stands in OUT/board/NAME and in report/performance.json.

    Raises:
        InputError: no export, an unknown board, a clock or baud rate that does not go. ToolMissingError: a tool is not installed.
        CheckFailedError: a tool failed, or the clock was missed: then no bitstream is kept, and the logs stand in OUT/build/board/NAME.
    """
    board = find_board(options.board)
    opened = pipeline.open_export(out)
    plan = pipeline.open_plan(opened)
    config = load_config(out / "model/build.toml")
    design = rtl_design(opened.qgraph, plan, pipeline.rtl_options(config, find_device(config.device) if config.device else None))
    wrapped = board_design(design, plan, board, options.clock_mhz, options.baud)
    tools = find_tools()
    place = out / "board"
    place.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{board.name}.new-", dir=place))
    try:
        work.chmod(0o755)
        _write(work, _files(opened, wrapped, options.seed))
        placed, seed = _run(work, wrapped, tools, options, out / "build/board" / board.name, progress)
        _write(work, _files(opened, wrapped, seed))
        for name in _INTERMEDIATE:
            (work / name).unlink()
        _swap(work, place / board.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result = BoardBuild(wrapped, place / board.name / bitstream_name(wrapped), placed, seed, tools.versions(), plan.interval_cycles)
    _report(out, result)
    return result


def _files(opened: Export, design: BoardDesign, seed: int) -> dict[str, bytes]:
    """The files a build starts from, with the export's golden frames."""
    listing, tensor = opened.out / "rtl/files.f", opened.out / "tb_data" / f"{file_stem(opened.qgraph.input.name)}.bin"
    try:
        sources = listing.read_text(encoding="utf-8").split()
        images = read_golden_file(tensor.read_bytes()).astype(np.uint8)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); export again") from error
    return board_files(design, sources, seed, images, FastSimulator(opened.qgraph).run(images))


def _write(work: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)


def _run(work: Path, design: BoardDesign, tools: Tools, options: BoardOptions, failures: Path, progress: Progress) -> tuple[Placed, int]:
    """The three tools in `work`; returns the placed design and the seed that met the clock. What a failed build leaves to read goes to `failures`."""
    shutil.rmtree(failures, ignore_errors=True)
    steps = options.attempts + 2
    try:
        progress("build", 0, steps)
        run_tool(tools.yosys, ecp5_flow(design, options.seed).yosys, work, "yosys.log")
        for attempt in range(options.attempts):
            progress("build", 1 + attempt, steps)
            seed = options.seed + attempt
            run_tool(tools.nextpnr, ecp5_flow(design, seed).nextpnr, work, "nextpnr.log")
            placed = read_report((work / REPORT).read_text(encoding="utf-8"))
            if placed.fmax_mhz >= design.clock_mhz:
                break
        else:
            raise CheckFailedError(
                f"{design.board.name}: {placed.fmax_mhz:.1f} MHz after place and route with seed {seed}, the last of {options.attempts}, {design.clock_mhz:g} "
                f"was expected; the slowest path: {placed.critical_path or 'see nextpnr.log'}; try --clock-mhz {int(placed.fmax_mhz)} or another --seed"
            )
        progress("build", steps - 1, steps)
        run_tool(tools.ecppack, ecp5_flow(design, seed).ecppack, work, "ecppack.log")
        if not (work / bitstream_name(design)).is_file():
            raise CheckFailedError("ecppack wrote no bitstream; see ecppack.log")
    except CheckFailedError as error:
        failures.mkdir(parents=True, exist_ok=True)
        for path in [*work.glob("*.log"), *work.glob(REPORT)]:
            shutil.copyfile(path, failures / path.name)
        raise CheckFailedError(f"{error} (logs: {failures})") from error
    progress("build", steps, steps)
    return placed, seed


def _swap(work: Path, final: Path) -> None:
    """Put `work` in the place of an earlier build."""
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old-", dir=final.parent))
    try:
        if final.exists():
            final.rename(old / final.name)
        work.rename(final)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _report(out: Path, result: BoardBuild) -> None:
    """Enter the build into report/performance.json."""
    path = out / "report/performance.json"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); export again") from error
    builds = {**body.get("build", {}), result.design.board.name: result.to_json()}
    writer.write_report(out, "report/performance.json", {**body, "build": builds})
