"""RTL simulation of the whole network against the golden simulator: runs OUT/sim/run.py, the runner that every export carries, and reads its outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.golden import golden_files
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.result import CheckRow, Difference

SIMULATORS = ("verilator", "icarus")

Progress = Callable[[str, int, int], None]
"""Called with (step, done, total); total 0 means "of unknown length"."""


@dataclass(frozen=True)
class FifoMark:
    """Largest number of beats a FIFO held, and its depth."""

    link: str
    high_water: int
    depth: int


@dataclass(frozen=True)
class StreamLoss:
    """Where a stage's output stream spent its cycles in the first run: beats moved, cycles the consumer held it (valid, not ready), cycles it
    had nothing to send although the consumer was ready. Of the rest the consumer was not ready and nothing was there."""

    stage: str
    beats: int
    blocked_cycles: int
    starved_cycles: int


@dataclass(frozen=True)
class RtlResult:
    """Outcome of an RTL simulation.

    `rows`: a row a stage, the last one the top's m_axis port, over all runs. `faults`: what was wrong besides values, with the run's name.
    Cycles and losses are the first run's, high-water marks the largest of all. `interval_cycles` is measured between the last two frames'
    last sums, None for one frame; `latency_cycles` from the first pixel in to the first frame's last sum out, None when none came.
    """

    rows: tuple[CheckRow, ...]
    faults: tuple[str, ...]
    simulator: str
    frames: int
    runs: int
    interval_cycles: int | None
    predicted_interval_cycles: int
    latency_cycles: int | None
    multipliers: int
    macs: int
    clock_mhz: float
    fifo_marks: tuple[FifoMark, ...]
    losses: tuple[StreamLoss, ...]
    build_seconds: float
    run_seconds: float

    @property
    def ok(self) -> bool:
        """Every stage compared values, all equal, and nothing else was wrong."""
        return bool(self.rows) and not self.faults and all(row.ok for row in self.rows)

    @property
    def mac_efficiency(self) -> float | None:
        """MACs / (multipliers x measured cycles between frames)."""
        return self.macs / (self.multipliers * self.interval_cycles) if self.interval_cycles else None

    @property
    def fps(self) -> float | None:
        """Frames a second at the plan's clock, from the measured interval."""
        return self.clock_mhz * 1e6 / self.interval_cycles if self.interval_cycles else None

    @property
    def first_failure(self) -> str | None:
        """One line on the first thing wrong, None when all is well."""
        bad = next((row.describe() for row in self.rows if row.mismatches or row.compared == 0), None)
        if bad is not None:
            return bad
        if self.faults:
            return f"{self.simulator} {self.faults[0]}"
        return None if self.rows else f"{self.simulator}: nothing was compared"

    def to_json(self) -> dict[str, object]:
        """The "rtl" object of verification.json."""
        return {
            "simulator": self.simulator,
            "frames": self.frames,
            "interval_cycles": self.interval_cycles,
            "predicted_interval_cycles": self.predicted_interval_cycles,
            "latency_cycles": self.latency_cycles,
            "multipliers": self.multipliers,
            "mac_efficiency": self.mac_efficiency,
            "clock_mhz": self.clock_mhz,
            "fps": self.fps,
            "fifos": [{"link": m.link, "high_water": m.high_water, "depth": m.depth} for m in self.fifo_marks],
        }


def run_rtl(
    out_dir: Path,
    qgraph: QuantGraph,
    plan: FoldPlan,
    pixels: NDArray[np.uint8],
    traces: Mapping[str, NDArray[np.integer]] | None = None,
    simulator: str = "verilator",
    stalls: str | None = None,
    waves: bool = False,
    progress: Progress | None = None,
    build_dir: Path | None = None,
    rtl_dir: Path | None = None,
) -> RtlResult:
    """Simulate OUT/rtl on `pixels` and compare every value of every stage's stream.

    Args:
        out_dir: an exported folder with rtl/ and sim/. `pixels`: uint8 (N, C, H, W). `traces`: the simulator's tensors by node name, computed when None.
        stalls: random:SEED, random:A-B, input, output, adversarial, reset, tlast or none, several with commas, one run each; see OUT/sim/run.py.
        waves: write a waveform file into the build folder. `build_dir`: where the simulator builds (kept for the next run); OUT/build/sim-... when None.
        rtl_dir: Verilog of another machine with the same ports, such as a Vitis HLS export; only m_axis is compared.
    Raises:
        InputError: no RTL in `out_dir`, or an option that is none. ToolMissingError: no cocotb or no simulator.
        CheckFailedError: the RTL does not build, or the simulation breaks off.
    """
    if simulator not in SIMULATORS:
        raise InputError(f"--sim {simulator}: {' or '.join(SIMULATORS)} was expected")
    runner = out_dir.resolve() / "sim" / "run.py"
    if not runner.is_file():
        raise InputError(f"{out_dir}: no sim/run.py; a folder written by `fpga-squeeze export` was expected")
    if pixels.shape[0] < 1:
        raise InputError("RTL simulation: at least one frame was expected, got none")
    golden = golden_files(qgraph, plan, pixels, FastSimulator(qgraph).trace(pixels) if traces is None else traces)
    with tempfile.TemporaryDirectory(prefix="fpga-squeeze-rtl-") as name:
        folder = Path(name)
        (folder / "tb_data").mkdir()
        for path, content in golden.items():
            (folder / path).write_bytes(content)
        outcome = folder / "outcome.json"
        command = [sys.executable, str(runner), "--sim", simulator, "--data", str(folder / "tb_data"), "--json", str(outcome), "--progress"]
        for option, value in (("--stalls", stalls), ("--build", build_dir), ("--rtl-dir", rtl_dir)):
            command += [option, str(value)] if value is not None else []
        _run(command + (["--waves"] if waves else []), progress, (pixels.shape[0] + 1) * plan.interval_cycles)
        if not outcome.is_file():
            raise CheckFailedError(f"RTL simulation: {runner} wrote no outcome; run it by hand to see why")
        return _result(json.loads(outcome.read_text()))


def _run(command: Sequence[str], progress: Progress | None, cycles: int) -> None:
    """The runner in a process of its own, so that its environment and working folder are not ours. `cycles`: about how many a run will take."""
    say = progress or (lambda _step, _done, _total: None)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTEST_CURRENT_TEST")}
    run, before = 1, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        for line in process.stdout or ():
            words = line.split()
            if words[:1] == ["BUILD"] and len(words) == 4:
                say("RTL build, files", int(words[2]), int(words[3]))
            elif words[:1] == ["PROGRESS"] and len(words) == 4:
                now = int(words[3])
                run, before = run + (now < before), now  # a new run of --stalls begins at cycle 0
                name = "RTL simulation" if run == 1 else f"RTL simulation, run {run}"
                say(f"{name}, cycles", now, now if words[1] == words[2] else max(cycles, now))


def _result(outcome: dict[str, Any]) -> RtlResult:
    """RtlResult from what the runner wrote; its errors as exceptions."""
    if "error" in outcome:
        kinds = {"tool": ToolMissingError, "failed": CheckFailedError}
        raise kinds.get(outcome["kind"], InputError)(outcome["error"])
    runs = outcome["runs"]
    simulator, first = outcome["simulator"], runs[0]
    marks = [FifoMark(m["name"], max(r["marks"][i]["high_water"] for r in runs), m["depth"]) for i, m in enumerate(first["marks"])]
    faults = [f"run {r['name']}: {fault}" for r in runs for fault in r["faults"]]
    faults += [f"run {r['name']}: {row['stage']}: {fault}" for r in runs for row in r["rows"] for fault in row["faults"]]
    return RtlResult(
        rows=tuple(_row(simulator, [r["rows"][i] for r in runs]) for i in range(len(first["rows"]))),
        faults=tuple(faults),
        simulator=simulator,
        frames=outcome["frames"],
        runs=len(runs),
        interval_cycles=first["interval_cycles"],
        predicted_interval_cycles=outcome["predicted_interval_cycles"],
        latency_cycles=first["latency_cycles"],
        multipliers=outcome["multipliers"],
        macs=outcome["macs"],
        clock_mhz=outcome["clock_mhz"],
        fifo_marks=tuple(marks),
        losses=tuple(StreamLoss(r["stage"], r["beats"], r["blocked_cycles"], r["starved_cycles"]) for r in first["rows"]),
        build_seconds=outcome["build_seconds"],
        run_seconds=outcome["run_seconds"],
    )


def _row(simulator: str, rows: list[dict[str, Any]]) -> CheckRow:
    """One stage over all runs. A value with an unknown bit (X) is shown as -1 where the stage has no negative values."""
    found = next((row["first"] for row in rows if row["first"]), None)
    first = None
    if found is not None:
        got = -1 if found["got"] is None else found["got"]
        first = Difference(found["frame"], found["channel"], found["y"], found["x"], found["expected"], got)
    return CheckRow(rows[0]["stage"], simulator, sum(r["compared"] for r in rows), sum(r["mismatches"] for r in rows), first)
