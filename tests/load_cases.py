"""Machines whose weights are loaded, small enough to simulate, and the bench of swaps between images."""

from __future__ import annotations

import json
from pathlib import Path

from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from sim import harness
from tests.machines import tiny
from tests.rtl_machines import Pixels, lively, random_pixels

FPS = 400_000.0
CLOCK = 200.0


def loaded(qgraph: QuantGraph, rom: tuple[str, ...] = ()) -> FoldPlan:
    """A machine for `qgraph` with every engine loaded but those of the stages `rom`."""
    text = json.loads(folding_to_json(plan_machine(qgraph, CLOCK, FPS)))
    for stage in text["stages"]:
        for key in ("engine", "expand1x1", "expand3x3"):
            if key in stage:
                stage[key]["loaded"] = stage["name"] not in rom
    return folding_from_json(json.dumps(text), qgraph)


def lively_tiny(seed: int) -> QuantGraph:
    """A small network with weights of its own that all show."""
    plain = tiny(seed=seed)
    return lively(plain, random_pixels(plain, 2))


def job(plan: FoldPlan, models: dict[str, QuantGraph], images: dict[str, bytes], pixels: Pixels) -> str:
    """load_job.json of sim/bench_load_network.py."""
    frames = [[sum(int(v) << (8 * c) for c, v in enumerate(p)) for p in frame.transpose(1, 2, 0).reshape(-1, frame.shape[0])] for frame in pixels]
    sums = {name: (FastSimulator(g).run(pixels).reshape(len(pixels), -1) & 0xFFFFFFFF).tolist() for name, g in models.items()}
    return json.dumps({"pixels": frames, "sums": sums, "images": {n: i.hex() for n, i in images.items()}, "interval_cycles": plan.interval_cycles})


def swap(out: Path, data: str, simulator: str) -> harness.BenchResult:
    """Run the bench of loads and swaps on an emitted machine."""
    sources = [out / "rtl" / name for name in (out / "rtl/files.f").read_text().split()]
    sources.append(harness.ROOT / "sim" / "load_network_tb.sv")
    channels = json.loads((out / "sim/network.json").read_text())["streams"][0]["lanes"]
    quick = ("--no-public-flat-rw", "--x-assign", "fast", "--x-initial", "fast") if simulator == "verilator" else ()
    return harness.run_bench(
        "load_network_tb", sources, "sim.bench_load_network", {"IN_BITS": 8 * channels, "OUT_BITS": 32}, simulator, seed=3,
        data={"load_job.json": data}, build_args=quick, timeout_s=300,
    )  # fmt: skip
