"""Machines with OUT/rtl and OUT/board for the tests of the board files: a tiny random one, and the job of sim/bench_board_amd.py."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpga_squeeze.emit.board import emit_board
from fpga_squeeze.emit.board_context import PictureSize
from fpga_squeeze.emit.load_image import load_image
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from sim import harness
from tests.rtl_machines import Pixels, random_pixels, write

SIMULATED_TIMEOUT_S = 5e-5


@dataclass(frozen=True, eq=False)
class Case:
    """A machine emitted into `out`, by name of the model that its weights are of."""

    out: Path
    qgraph: QuantGraph
    plan: FoldPlan
    top: str = "squeezenet"

    @property
    def sources(self) -> list[Path]:
        """Adapter and machine."""
        rtl = self.out / "rtl"
        return [*(rtl / name for name in (rtl / "files.f").read_text().split()), self.out / f"board/vivado/{self.top}_axis.v"]


def emitted(out: Path, qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions | None = None) -> Case:
    """RTL, simulation and board files of a machine, in `out`."""
    options = options or RtlOptions()
    write(out, qgraph, plan, options)
    pixels = random_pixels(qgraph, 3, seed=9)
    picture = PictureSize(qgraph.input.shape[1] + 2, qgraph.input.shape[1])
    for name, content in emit_board(qgraph, plan, options, picture, pixels, FastSimulator(qgraph).run(pixels)).items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Case(out, qgraph, plan, options.top)


def drive(
    case: Case, folder: Path, models: dict[str, QuantGraph], pixels: Pixels, simulator: str, *,
    testcase: list[str] | None = None, timeout_s: float = 300.0, simulated_timeout_s: float = SIMULATED_TIMEOUT_S,
) -> harness.BenchResult:  # fmt: skip
    """The overlay's driver against the RTL. `models`: "a" of the weights in `case`, "b" another for its load port; `folder` for the job's files."""
    overlay = folder / "pynq"
    shutil.copytree(case.out / "board/pynq", overlay)
    for suffix in ("bit", "hwh"):
        (overlay / f"{case.top}_zcu104.{suffix}").touch()
    np.save(folder / "images.npy", np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    for name, qgraph in models.items():
        np.save(folder / f"sums_{name}.npy", FastSimulator(qgraph).run(pixels).astype(np.int64))
    loads = json.loads((overlay / "machine.json").read_text())["load_bytes"] > 0
    if loads:
        for name, qgraph in models.items():
            (folder / f"{name}.bin").write_bytes(load_image(qgraph, case.plan, case.qgraph))
    job = {
        "pynq": str(overlay), "images": str(folder / "images.npy"), "timeout_s": simulated_timeout_s,
        "sums": {name: str(folder / f"sums_{name}.npy") for name in models}, "weights": {n: str(folder / f"{n}.bin") for n in models} if loads else {},
    }  # fmt: skip
    path = folder / "board_job.json"
    path.write_text(json.dumps(job))
    return harness.run_bench(
        f"{case.top}_axis", case.sources, "sim.bench_board_amd", {"WEIGHTS": f"{case.out}/rtl/weights/"}, simulator,
        seed=1, env={"FSQ_BOARD_JOB": str(path)}, testcase=testcase, timeout_s=timeout_s,
    )  # fmt: skip
