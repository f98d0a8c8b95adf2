"""verify OUT: one table of stages x implementations, every cell with its count of compared values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.golden import read_frames
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import AddStage, ExpandStage, FoldPlan, GlobalSumStage, PoolStage, Stage
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from fpga_squeeze.verify.csim import run_csim
from fpga_squeeze.verify.result import CheckRow, Difference

if TYPE_CHECKING:
    from fpga_squeeze.pipeline import Export, Progress

REFERENCE_FRAMES = 1
"""Frames on which the slow int64 reference is held against the fast simulator; the implementations are held against the golden tensors on all."""


@dataclass(frozen=True)
class VerifyOptions:
    """What `verify` runs. Neither `hls` nor `rtl` chosen means both. `simulator`: "verilator" or "icarus"; `stalls`: a profile of OUT/sim/run.py.

    `rtl_dir`: Verilog of another machine with the same ports, such as Vitis HLS writes from OUT/hls; only its output port is compared.
    """

    hls: bool = False
    rtl: bool = False
    frames: int | None = None
    hls_include: Path | None = None
    cxx: str | None = None
    simulator: str = "verilator"
    stalls: str | None = None
    waves: bool = False
    rtl_dir: Path | None = None


@dataclass(frozen=True)
class Verification:
    """Every check that ran."""

    checks: tuple[CheckRow, ...]
    frames: int
    faults: tuple[str, ...] = ()
    """What went wrong besides a differing value, such as a missing tlast or beats left in a stream."""
    rtl: RtlResult | None = None

    @property
    def ok(self) -> bool:
        """Every check compared something and found no difference, and nothing else went wrong."""
        return bool(self.checks) and not self.faults and all(row.ok for row in self.checks)

    def to_json(self) -> dict[str, object]:
        """{"ok", "frames", "checks": [{"stage", "implementation", "compared", "mismatches", "first_difference"}]}."""
        rows = []
        for row in self.checks:
            first = row.first_difference
            rows.append(
                {
                    "stage": row.stage,
                    "implementation": row.implementation,
                    "compared": row.compared,
                    "mismatches": row.mismatches,
                    "first_difference": vars(first) if first else None,
                }
            )
        rtl = self.rtl.to_json() if self.rtl else None
        return {"ok": self.ok, "frames": self.frames, "checks": rows, "faults": list(self.faults), "rtl": rtl}


def stage_tensor(stage: Stage) -> str:
    """The QuantGraph node whose tensor leaves `stage`."""
    if isinstance(stage, ExpandStage):
        return stage.concat
    if isinstance(stage, PoolStage | GlobalSumStage | AddStage):
        return stage.node
    return stage.engine.node


def compare(stage: str, implementation: str, expected: NDArray[np.integer], got: NDArray[np.integer]) -> CheckRow:
    """Compare two (N, C, H, W) tensors exactly and name the first difference in stream order (frame, y, x, channel).

    >>> compare("s", "fast", np.zeros((1, 1, 1, 2), int), np.array([[[[0, 3]]]])).describe()
    'fast s: 1 of 2 values differ; the first at frame 0, channel 0, y 0, x 1: expected 0, got 3'
    """
    if expected.shape != got.shape:
        raise InputError(f"stage {stage}: {implementation} gives shape {got.shape}, {expected.shape} was expected; export again")
    wrong = np.argwhere((expected != got).transpose(0, 2, 3, 1))
    if not len(wrong):
        return CheckRow(stage, implementation, int(expected.size), 0)
    n, y, x, c = (int(i) for i in wrong[0])
    return CheckRow(stage, implementation, int(expected.size), len(wrong), Difference(n, c, y, x, int(expected[n, c, y, x]), int(got[n, c, y, x])))


def check_simulators(qgraph: QuantGraph, plan: FoldPlan, pixels: NDArray[np.uint8]) -> tuple[CheckRow, ...]:
    """The fast simulator against the int64 reference, stage by stage, on the first frames."""
    frames = pixels[:REFERENCE_FRAMES]
    reference = [run_reference(qgraph, frame) for frame in frames]
    fast = FastSimulator(qgraph).trace(frames)
    rows = []
    for stage in plan.stages:
        tensor = stage_tensor(stage)
        rows.append(compare(stage.name, "fast", np.stack([r[tensor] for r in reference]), fast[tensor]))
    return tuple(rows)


def verify_export(opened: Export, options: VerifyOptions, progress: Progress) -> Verification:
    """The chosen checks of an export folder: simulators against each other, C simulation and RTL simulation against the golden simulator.

    Raises:
        InputError: `frames` out of range, or files missing. ToolMissingError: no compiler, headers or simulator.
    """
    from fpga_squeeze.pipeline import open_plan

    pixels = read_frames(opened.out, opened.qgraph)
    if options.frames is not None and not 1 <= options.frames <= len(pixels):
        raise InputError(
            f"--frames: 1 to {len(pixels)} was expected (the golden frames of this export; more with export --golden-frames), got {options.frames}"
        )
    count = len(pixels) if options.frames is None else options.frames
    plan = open_plan(opened)
    progress("simulators", 0, 0)
    rows = check_simulators(opened.qgraph, plan, pixels[:count])
    faults: tuple[str, ...] = ()
    both = options.hls == options.rtl
    if options.hls or both:
        progress("C simulation", 0, 0)
        csim = run_csim(opened.out, count, options.hls_include, options.cxx, lambda line: progress(line, 0, 0))
        rows, faults = rows + csim.rows, faults + csim.faults
    rtl = None
    if options.rtl or both:
        rtl = run_rtl(
            opened.out, opened.qgraph, plan, pixels[:count], simulator=options.simulator, stalls=options.stalls, waves=options.waves,
            progress=progress, rtl_dir=options.rtl_dir,
        )  # fmt: skip
        rows, faults = rows + rtl.rows, faults + rtl.faults
    return Verification(rows, count, faults, rtl)
