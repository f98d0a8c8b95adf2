"""Build the generated testbench with a plain C++ compiler, run it on the golden data, and read what it prints."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.verify.headers import HlsHeaders, find_headers
from fpga_squeeze.verify.lines import run_lines
from fpga_squeeze.verify.result import CheckRow, Difference

_STAGE = re.compile(r"^stage (?P<name>.+) compared (?P<compared>\d+) mismatches (?P<mismatches>\d+)$")
_FIRST = re.compile(
    r"^first (?P<name>.+) frame (?P<frame>\d+) channel (?P<channel>\d+) y (?P<y>\d+) x (?P<x>\d+) expected (?P<expected>-?\d+) got (?P<got>-?\d+)$"
)
_FAULT = re.compile(r"^fault (?P<text>.+)$")


@dataclass(frozen=True)
class CsimResult:
    """Outcome of a C simulation: a row a stage (the last is the top function), faults besides wrong values, and times in seconds."""

    rows: tuple[CheckRow, ...]
    faults: tuple[str, ...]
    frames: int
    build_seconds: float
    run_seconds: float

    @property
    def ok(self) -> bool:
        """Every stage compared values, all equal, and nothing else was wrong."""
        return bool(self.rows) and not self.faults and all(row.ok for row in self.rows)

    @property
    def first_failure(self) -> str | None:
        """One line on the first thing wrong, None when all is well."""
        if not self.rows:
            return "hls: the testbench compared nothing"
        bad = next((row.describe() for row in self.rows if not row.ok), None)
        return bad if bad is not None or not self.faults else f"hls {self.faults[0]}"


def run_csim(
    out_dir: Path,
    frames: int | None = None,
    hls_include: Path | None = None,
    cxx: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    stages: int = 0,
    build_dir: Path | None = None,
    standard: str = "c++14",
    optimize: str = "-O2",
    timeout_seconds: float = 3600.0,
) -> CsimResult:
    """Build OUT/hls with csim.mk and run it on OUT/tb_data.

    Args:
        out_dir: an exported folder. `frames`: how many golden frames to run, all when None. `hls_include`: a Vitis include folder.
        cxx: the compiler command, $CXX or g++ when None. `progress`: called with (step, done, total), total 0 where unknown.
        stages: rows that are expected, for the progress of the run.
        build_dir: where objects go (kept, so that a second run builds only what changed); OUT/build/csim-... when None.
    Raises:
        InputError: no HLS sources or golden data in `out_dir`, or fewer golden frames than asked for.
        ToolMissingError: no compiler, no make or no headers. CheckFailedError: the sources do not compile, or the testbench breaks off.
    """
    say = progress or (lambda _step, _done, _total: None)
    out_dir = out_dir.resolve()
    makefile = out_dir / "hls" / "csim.mk"
    if not makefile.is_file():
        raise InputError(f"{out_dir}: no hls/csim.mk; a folder written by `fpga-squeeze export` was expected")
    if not (out_dir / "tb_data").is_dir():
        raise InputError(f"{out_dir}: no tb_data; export again")
    if frames is not None and frames < 1:
        raise InputError(f"frames: at least 1 was expected, got {frames}")
    command = cxx or os.environ.get("CXX") or "g++"
    _require(command.split()[0], "a C++ compiler", "apt install g++")
    _require("make", "make", "apt install make")
    headers = find_headers(hls_include)
    folder = build_dir or _build_dir(out_dir, command, headers, standard, optimize)

    started = time.monotonic()
    _build(makefile, folder, command, headers, standard, optimize, lambda done, total: say("C simulation build, files", done, total))
    build_seconds = time.monotonic() - started
    started = time.monotonic()
    arguments = [str(folder / "csim"), str(out_dir / "tb_data"), *([] if frames is None else [str(frames)])]
    compared = 0

    def stage_done(line: str) -> None:
        nonlocal compared
        compared += _STAGE.match(line) is not None
        say("C simulation, stages", compared, stages)

    say("C simulation, stages", 0, stages)
    try:
        done = run_lines(arguments, stage_done, timeout_seconds=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise CheckFailedError(f"C simulation: not done after {timeout_seconds:.0f} s; try fewer frames") from error
    run_seconds = time.monotonic() - started
    rows, faults = parse_output(done.stdout)
    if done.returncode not in (0, 1):
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        where = f" after stage {rows[-1].stage}" if rows else ""
        raise CheckFailedError(f"C simulation broke off{where}: {reason}")
    result = CsimResult(rows, faults, frames or _frame_count(out_dir), build_seconds, run_seconds)
    if result.ok != (done.returncode == 0):
        raise CheckFailedError(f"C simulation: exit code {done.returncode} does not agree with what the testbench printed; the sources were changed?")
    return result


def parse_output(text: str) -> tuple[tuple[CheckRow, ...], tuple[str, ...]]:
    """Rows and faults out of the testbench's lines. Raises CheckFailedError on a line that is none of its own.

    >>> parse_output("stage conv1 compared 8 mismatches 0\\n")[0]
    (CheckRow(stage='conv1', implementation='hls', compared=8, mismatches=0, first_difference=None),)
    """
    rows: list[CheckRow] = []
    faults: list[str] = []
    for line in text.splitlines():
        if m := _STAGE.match(line):
            rows.append(CheckRow(m["name"], "hls", int(m["compared"]), int(m["mismatches"])))
        elif (m := _FIRST.match(line)) and rows and rows[-1].stage == m["name"]:
            first = Difference(*(int(m[key]) for key in ("frame", "channel", "y", "x", "expected", "got")))
            rows[-1] = CheckRow(rows[-1].stage, "hls", rows[-1].compared, rows[-1].mismatches, first)
        elif m := _FAULT.match(line):
            faults.append(m["text"])
        elif line.strip():
            raise CheckFailedError(f"C simulation: the testbench printed {line!r}, which is none of its lines")
    return tuple(rows), tuple(faults)


def _require(program: str, what: str, how: str) -> None:
    if shutil.which(program) is None:
        raise ToolMissingError(f"C simulation needs {what}, and {program!r} was not found: {how}")


def _build_dir(out_dir: Path, command: str, headers: HlsHeaders, standard: str, optimize: str) -> Path:
    """One folder a configuration, so that objects of another compiler or header set are never linked."""
    key = hashlib.sha256(repr((command, str(headers.folder), standard, optimize)).encode()).hexdigest()[:8]
    return out_dir / "build" / f"csim-{key}"


def _build(
    makefile: Path, folder: Path, command: str, headers: HlsHeaders, standard: str, optimize: str, progress: Callable[[int, int], None]
) -> None:
    """Run csim.mk; `progress`: (compiler calls done, of how many), first known when make has said what is out of date."""
    include = f"{'HLS' if headers.complete else 'AP'}_INCLUDE={headers.folder}"
    jobs = min(8, os.cpu_count() or 1)
    arguments = [
        "make", "--no-print-directory", f"-j{jobs}", "-f", makefile.name, f"BUILD={folder}", f"CXX={command}", f"CXXSTD={standard}",
        f"OPTIMIZE={optimize}", include,
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    called = f"{command} "
    begun, total = 0, 0

    def plan_line(line: str) -> None:
        nonlocal total
        total += line.startswith(called)

    def build_line(line: str) -> None:
        # make prints a command when it starts it: of those begun, at least all but the jobs that run are done.
        nonlocal begun
        begun += line.startswith(called)
        progress(max(0, begun - jobs), total)

    progress(0, 0)
    run_lines([*arguments, "--dry-run"], plan_line, cwd=makefile.parent, environment=environment)
    done = run_lines(arguments, build_line, cwd=makefile.parent, environment=environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in lines if " error: " in line or "fatal error" in line), lines[-1] if lines else "make failed")
        raise CheckFailedError(f"C simulation does not build: {reason}")


def _frame_count(out_dir: Path) -> int:
    """Frames of the golden data: the third word of any file's header."""
    first = next(iter(sorted((out_dir / "tb_data").glob("*.bin"))))
    return int.from_bytes(first.read_bytes()[16:20], "little")
