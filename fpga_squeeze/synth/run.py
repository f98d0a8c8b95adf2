"""`synth_export`: synthesis of an export by one of the tools, a row a stage and a link."""

from __future__ import annotations

import json
import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from fpga_squeeze import pipeline
from fpga_squeeze.config import load_config
from fpga_squeeze.emit.rtl_context import rtl_design
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.devices import Device, find_device
from fpga_squeeze.pipeline import Progress, no_progress
from fpga_squeeze.synth import vitis, vivado
from fpga_squeeze.synth.result import SynthResult, SynthRow
from fpga_squeeze.synth.units import Unit, unit_digest, units_of
from fpga_squeeze.synth.yosys import DEFAULT_DEVICE, Yosys, find_yosys, run_unit, script, yosys_family

TOOLS = ("yosys", "vivado", "vitis")
YOSYS_JOBS = 2
"""Modules synthesised side by side at most: each takes a core and up to a few GB."""


def synth_export(
    out: Path,
    tool: str,
    device: Device | None = None,
    stages: tuple[str, ...] | None = None,
    progress: Progress = no_progress,
    cache_dir: Path | None = None,
    jobs: int | None = None,
) -> SynthResult:
    """Synthesise the export in `out` and put the model's estimate beside every result.

    Args:
        tool: "yosys" (each stage and link on its own, results kept by content), "vivado" (whole, out of context) or "vitis" (the HLS sources).
        device: whose blocks to count and to aim at; None: the device of the export, else K26. `stages`: only stages or links of these names.
        cache_dir: where results of yosys are kept; None: OUT/build/synth. `jobs`: modules at once, at most YOSYS_JOBS.
    Raises:
        InputError: no export, an unknown tool or stage, a device the tool has no flow for. ToolMissingError: the tool is not installed.
        CheckFailedError: the tool failed; its own message.
    """
    if tool not in TOOLS:
        raise InputError(f"--tool {tool}: {', '.join(TOOLS[:-1])} or {TOOLS[-1]} was expected")
    opened = pipeline.open_export(out)
    plan = pipeline.open_plan(opened)
    config = load_config(out / "model/build.toml")
    if device is None:
        device = find_device(config.device) if config.device else find_device(DEFAULT_DEVICE)
    if tool == "vitis":
        return vitis.synth_hls(out, config.top, plan, device, stages, progress)
    design = rtl_design(opened.qgraph, plan, pipeline.rtl_options(config, device))
    units = units_of(out / "rtl", plan, design, device, stages)
    if tool == "vivado":
        return vivado.synth_rtl(out, design, units, device, 1000.0 / plan.clock_mhz, progress)
    family = yosys_family(device)
    yosys = find_yosys()
    rows = run_units(units, out / "rtl", family, yosys, cache_dir or out / "build/synth", min(jobs or YOSYS_JOBS, YOSYS_JOBS), progress)
    return SynthResult("yosys", f"{yosys.name} {yosys.version}", family, rows)


def run_units(units: tuple[Unit, ...], rtl: Path, family: str, yosys: Yosys, cache: Path, jobs: int, progress: Progress = no_progress) -> tuple[SynthRow, ...]:
    """A row a unit, in order. Equal modules are synthesised once, and not at all when `cache` knows them from an earlier run."""
    cache.mkdir(parents=True, exist_ok=True)
    digests = [unit_digest(unit, rtl, (yosys.version, family, *script("UNIT", family))) for unit in units]
    known: dict[str, tuple[Resources, float, bool]] = {}
    todo: dict[str, Unit] = {}
    for digest, unit in zip(digests, units, strict=True):
        found = _read_cached(cache / f"{digest}.json")
        if found is not None:
            known[digest] = (found, 0.0, True)
        elif digest not in known:
            todo.setdefault(digest, unit)
    total, done = len(todo), 0
    progress("yosys", done, total)
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        running: dict[Future[tuple[Resources, float]], str] = {}
        for digest, unit in todo.items():
            running[pool.submit(run_unit, unit, rtl, family, yosys, cache / f"{digest}.log")] = digest
        try:
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    digest = running.pop(future)
                    resources, seconds = future.result()
                    _write_cached(cache / f"{digest}.json", todo[digest].name, resources)
                    known[digest] = (resources, seconds, False)
                    done += 1
                    progress("yosys", done, total)
        finally:
            for future in running:
                future.cancel()
    rows = []
    for digest, unit in zip(digests, units, strict=True):
        resources, seconds, cached = known[digest]
        rows.append(SynthRow(unit.name, unit.kind, unit.estimate, resources, seconds if todo.get(digest) is unit else 0.0, cached))
    return tuple(rows)


def _read_cached(path: Path) -> Resources | None:
    """None when there is no such result, or it cannot be used."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Resources(**{key: int(value) for key, value in body["resources"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_cached(path: Path, name: str, resources: Resources) -> None:
    """Whole or not at all, so that a run that is broken off leaves nothing half written."""
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps({"name": name, "resources": asdict(resources)}) + "\n", encoding="utf-8")
    partial.replace(path)
