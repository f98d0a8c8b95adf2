"""Vitis HLS: C synthesis of OUT/hls, read back from csynth.xml (UG1399). Its machine is the HLS one, so the RTL's estimates stand beside it for
comparison only."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.cost import Resources, plan_resources, stage_resources
from fpga_squeeze.hardware.devices import LATTICE, Device
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.pipeline import Progress
from fpga_squeeze.synth.result import SynthResult, SynthRow

_DSP_TAGS = ("DSP", "DSP48E")
"""DSP from 2020.1 on, DSP48E before."""


def synth_hls(out: Path, top: str, plan: FoldPlan, device: Device, stages: tuple[str, ...] | None, progress: Progress) -> SynthResult:
    """Run OUT/hls/build_prj.tcl up to C synthesis and read the reports: a row a stage, then the top as a whole.

    Raises ToolMissingError without Vitis HLS, InputError for a part that is not AMD's or an unknown stage, CheckFailedError when the run fails.
    """
    if device.family in LATTICE:
        raise InputError(f"--tool vitis: {device.name} is no AMD part; --tool yosys takes ECP5")
    odd = [name for name in stages or () if name not in {s.name for s in plan.stages}]
    if odd:
        raise InputError(f"--stages {odd[0]}: no such stage; known: {', '.join(s.name for s in plan.stages)}")
    run, old = shutil.which("vitis-run"), shutil.which("vitis_hls")
    if run is None and old is None:
        raise ToolMissingError("--tool vitis: no `vitis-run` or `vitis_hls` on PATH; source Vitis' settings64.sh first, or use --tool yosys")
    arguments = ["csim=0", "csynth=1", "cosim=0", "export=0", f"part={device.part}", f"period_ns={1000.0 / plan.clock_mhz:.3f}"]
    head = [run, "--mode", "hls", "--tcl", "build_prj.tcl", "--tclargs"] if run else [str(old), "-f", "build_prj.tcl", "-tclargs"]
    progress("vitis", 0, 0)
    started = time.monotonic()
    done = subprocess.run(
        [*map(str, head), *arguments], cwd=out / "hls", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    seconds = time.monotonic() - started
    reports = out / "hls" / f"{top}_prj" / "solution1" / "syn" / "report"
    if done.returncode != 0 or not (reports / "csynth.xml").is_file():
        reason = next((line for line in done.stdout.splitlines() if line.startswith("ERROR")), f"exit code {done.returncode}")
        raise CheckFailedError(f"vitis: {reason.strip()}; see {out / 'hls' / 'vitis_hls.log'}")
    return read_reports(reports, top, plan, device, stages, seconds)


def read_reports(reports: Path, top: str, plan: FoldPlan, device: Device, stages: tuple[str, ...] | None = None, seconds: float = 0.0) -> SynthResult:
    """Rows from a report folder: MODULE_csynth.xml of every stage that has one (small functions are inlined away), csynth.xml for the top."""
    rows: list[SynthRow] = []
    for stage in plan.stages:
        path = reports / f"{stage.module.replace('.', '_')}_csynth.xml"
        shared = sum(s.module == stage.module for s in plan.stages) > 1  # a Fire's squeeze and expand are one function
        if path.is_file() and (stages is None or stage.name in stages) and not (shared and any(r.name == stage.module for r in rows)):
            estimate = Resources()
            for part in plan.stages:
                if part.module == stage.module:
                    estimate = estimate + stage_resources(part, device)
            rows.append(SynthRow(stage.module if shared else stage.name, "stage", estimate, read_csynth(path.read_text(encoding="utf-8")), 0.0, False))
    text = (reports / "csynth.xml").read_text(encoding="utf-8")
    rows.append(SynthRow(top, "top", plan_resources(plan, device), read_csynth(text), seconds, False))
    return SynthResult("vitis", _version(text), device.part, tuple(rows), compared=False)


def read_csynth(text: str) -> Resources:
    """<AreaEstimates><Resources> of a csynth.xml: BRAM_18K, DSP (DSP48E in old versions), FF, LUT, URAM. Raises CheckFailedError where one is missing."""
    root = _parse(text)
    node = root.find("AreaEstimates/Resources")
    if node is None:
        raise CheckFailedError("vitis: no <AreaEstimates><Resources> in the report; a csynth.xml was expected")
    dsp = next((tag for tag in _DSP_TAGS if node.find(tag) is not None), _DSP_TAGS[0])
    uram = 0 if node.find("URAM") is None else _integer(node, "URAM")
    return Resources(_integer(node, dsp), _integer(node, "BRAM_18K"), uram, _integer(node, "LUT"), _integer(node, "FF"))


def _integer(node: ElementTree.Element, tag: str) -> int:
    text = node.findtext(tag)
    if text is None or not text.strip().isdigit():
        raise CheckFailedError(f"vitis: <{tag}> with a number was expected in <Resources>, got {text!r}")
    return int(text)


def _parse(text: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise CheckFailedError(f"vitis: the report is not XML ({error})") from error


def _version(text: str) -> str:
    found = _parse(text).findtext("ReportVersion/Version")
    return f"Vitis HLS {found}" if found else "Vitis HLS, unknown version"
