"""verify OUT: one table of stages x implementations, every cell with its count of compared values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.golden import read_frames
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import ExpandStage, FoldPlan, GlobalSumStage, JoinStage, PoolStage, Stage
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from fpga_squeeze.verify.csim import run_csim
from fpga_squeeze.verify.onnx import check_onnx
from fpga_squeeze.verify.result import CheckRow, compare

if TYPE_CHECKING:
    from fpga_squeeze.pipeline import Export, Progress

REFERENCE_FRAMES = 1
"""Frames on which the slow int64 reference is held against the fast simulator; the implementations are held against the golden tensors on all."""


@dataclass(frozen=True)
class VerifyOptions:
    """What `verify` runs. None of `hls`, `rtl` and `onnx` chosen means all three. `simulator`: "verilator" or "icarus"; `stalls`: a profile of OUT/sim/run.py.

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
    onnx: bool = False


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
    if isinstance(stage, PoolStage | GlobalSumStage | JoinStage):
        return stage.node
    return stage.engine.node


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
    """The chosen checks of an export folder: simulators against each other, C simulation, RTL simulation and ONNX against the golden simulator.

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
    every = not (options.hls or options.rtl or options.onnx)
    if options.onnx or every:
        rows += check_onnx(opened.out, opened.qgraph, tuple((s.name, stage_tensor(s)) for s in plan.stages), pixels[:count], progress)
    if options.hls or every:
        csim = run_csim(opened.out, count, options.hls_include, options.cxx, progress, stages=len(plan.stages) + 1)
        rows, faults = rows + csim.rows, faults + csim.faults
    rtl = None
    if options.rtl or every:
        rtl = run_rtl(
            opened.out, opened.qgraph, plan, pixels[:count], simulator=options.simulator, stalls=options.stalls, waves=options.waves,
            progress=progress, rtl_dir=options.rtl_dir,
        )  # fmt: skip
        rows, faults = rows + rtl.rows, faults + rtl.faults
    return Verification(rows, count, faults, rtl)
