"""Vivado: one out-of-context synthesis of the whole RTL, read back from report_utilization -hierarchical (UG835)."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.emit.rtl_context import RtlDesign
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.devices import LATTICE, Device
from fpga_squeeze.pipeline import Progress
from fpga_squeeze.synth.result import SynthResult, SynthRow
from fpga_squeeze.synth.units import LINK_SUFFIX, Unit

_COLUMNS = {"Total LUTs": "lut", "FFs": "ff", "RAMB36": "bram36", "RAMB18": "bram18", "URAM": "uram", "DSP Blocks": "dsp", "DSP48 Blocks": "dsp"}
_REQUIRED = ("lut", "ff", "bram36", "bram18", "dsp")


@dataclass(frozen=True)
class Instance:
    """One line of the hierarchical report: `path` from the top, its name left out (the top itself: "")."""

    path: str
    module: str
    resources: Resources


def script(design: RtlDesign, rtl: Path, part: str, period_ns: float, report: Path) -> str:
    """The Tcl of the run: read the sources, synthesise out of context with the hierarchy rebuilt, report."""
    sources = [rtl / line for line in (rtl / "files.f").read_text(encoding="utf-8").split()]
    return "\n".join([
        *(f"read_verilog -sv {{{source}}}" for source in sources),
        f'synth_design -top {design.top} -part {part} -mode out_of_context -flatten_hierarchy rebuilt -generic "WEIGHTS=\\"{rtl / "weights"}/\\""',
        f"create_clock -period {period_ns:.3f} -name ap_clk [get_ports ap_clk]",
        f"report_utilization -hierarchical -file {{{report}}}",
        f"report_utilization -file {{{report.with_name('utilization.rpt')}}}",
        "",
    ])  # fmt: skip


def synth_rtl(out: Path, design: RtlDesign, units: tuple[Unit, ...], device: Device, period_ns: float, progress: Progress) -> SynthResult:
    """Run Vivado on OUT/rtl and read every unit's share of the hierarchy.

    Raises ToolMissingError without Vivado, InputError for a part that is not AMD's, CheckFailedError when the run fails.
    """
    if device.family in LATTICE:
        raise InputError(f"--tool vivado: {device.name} is no AMD part; --tool yosys takes ECP5")
    vivado = shutil.which("vivado")
    if vivado is None:
        raise ToolMissingError("--tool vivado: no `vivado` on PATH; source Vivado's settings64.sh first, or use --tool yosys")
    folder = (out / "build/synth/vivado").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "hierarchy.rpt"
    report.unlink(missing_ok=True)
    (folder / "synth.tcl").write_text(script(design, (out / "rtl").resolve(), device.part, period_ns, report), encoding="utf-8")
    progress("vivado", 0, 0)
    started = time.monotonic()
    command = [vivado, "-mode", "batch", "-nojournal", "-log", str(folder / "vivado.log"), "-source", "synth.tcl"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0 or not report.is_file():
        reason = next((line for line in done.stdout.splitlines() if line.startswith("ERROR")), f"exit code {done.returncode}")
        raise CheckFailedError(f"vivado: {reason.strip()}; see {folder / 'vivado.log'}")
    text = report.read_text(encoding="utf-8", errors="replace")
    return SynthResult("vivado", tool_version(text), device.part, rows_of(units, read_hierarchy(text), seconds))


def rows_of(units: tuple[Unit, ...], instances: tuple[Instance, ...], seconds: float) -> tuple[SynthRow, ...]:
    """A row a unit: a stage is instance IDENT_stage, a link LINK_converter and LINK_fifo. The run's seconds stand in the first row.

    Raises CheckFailedError for a stage that the report does not know.
    """
    found: Mapping[str, Resources] = {i.path: i.resources for i in instances}
    rows: list[SynthRow] = []
    for unit in units:
        if unit.kind == "stage":
            result = found.get(f"{unit.top}_stage")
            if result is None:
                raise CheckFailedError(f"vivado: instance {unit.top}_stage is not in the utilization report; known: {', '.join(i for i in found if i)}")
        else:
            # A register slice may have been merged into its neighbours, so that nothing of that name is left.
            name = unit.name.removesuffix(LINK_SUFFIX)
            result = found.get(f"{name}_converter", Resources()) + found.get(f"{name}_fifo", Resources())
        rows.append(SynthRow(unit.name, unit.kind, unit.estimate, result, 0.0 if rows else seconds, False))
    return tuple(rows)


def tool_version(text: str) -> str:
    """The version in a report's banner.

    >>> tool_version("| Tool Version : Vivado v.2023.2 (lin64) Build 4029153 Fri Oct 13 20:13:54 MDT 2023")
    'Vivado v.2023.2'
    """
    match = re.search(r"Tool Version : (\S+ \S+)", text)
    return match.group(1) if match else "Vivado, unknown version"


def read_hierarchy(text: str) -> tuple[Instance, ...]:
    """Instances of `report_utilization -hierarchical`: "| Instance | Module | Total LUTs | ... | FFs | RAMB36 | RAMB18 | URAM | DSP Blocks |", two spaces
    of indent a level, "(name)" for what an instance holds besides its children (left out here). Older versions write DSP48 Blocks and, without URAM
    on the part, no URAM column. Raises CheckFailedError where the table or a column is missing.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if re.match(r"\|\s*Instance\s*\|\s*Module\s*\|", line)), None)
    if start is None:
        raise CheckFailedError("vivado: no table with | Instance | Module | in the report; report_utilization -hierarchical was expected")
    header = [cell.strip() for cell in lines[start].strip().strip("|").split("|")]
    names = [_COLUMNS.get(cell) for cell in header]
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise CheckFailedError(f"vivado: no column for {missing[0]} in the report's table; columns: {', '.join(header)}")
    path: list[str] = []
    found: list[Instance] = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            if found:
                break  # the table's last rule
            continue
        cells = line.strip()[1:-1].split("|")
        if len(cells) != len(header):
            raise CheckFailedError(f"vivado: {len(header)} columns were expected, got {len(cells)}: {line.strip()}")
        label = cells[0].strip()
        if label.startswith("("):
            continue
        depth = (len(cells[0]) - len(cells[0].lstrip()) - 1) // 2
        path = [*path[:depth], label]
        values = {name: _number(cell, line) for name, cell in zip(names, cells, strict=True) if name}
        resources = Resources(values["dsp"], 2 * values["bram36"] + values["bram18"], values.get("uram", 0), values["lut"], values["ff"])
        found.append(Instance("/".join(path[1:]), cells[1].strip(), resources))
    if not found:
        raise CheckFailedError("vivado: the report's table has no rows")
    return tuple(found)


def read_totals(text: str) -> Resources:
    """The whole design from `report_utilization`: tables "| Site Type | Used | Fixed | ...", CLB or Slice LUTs and Registers, RAMB36, RAMB18, URAM, DSPs.

    Raises CheckFailedError where one of LUTs, registers, block RAM or DSPs is missing.
    """
    used: dict[str, int] = {}
    for line in text.splitlines():
        match = re.match(r"\|\s*([A-Za-z0-9/* ]+?)\*?\s*\|\s*([0-9.,]+)\s*\|", line)
        if match:
            used.setdefault(match.group(1).strip(" *"), int(float(match.group(2).replace(",", ""))))

    def first(*names: str) -> int:
        value = next((used[name] for name in names if name in used), None)
        if value is None:
            raise CheckFailedError(f"vivado: no row {' or '.join(names)} in the utilization report")
        return value

    bram18 = 2 * first("RAMB36/FIFO") + first("RAMB18")
    return Resources(first("DSPs"), bram18, used.get("URAM", 0), first("CLB LUTs", "Slice LUTs"), first("CLB Registers", "Slice Registers"))


def _number(cell: str, line: str) -> int:
    try:
        return int(float(cell.strip().replace(",", "")))
    except ValueError as error:
        raise CheckFailedError(f"vivado: a number was expected, got {cell.strip()!r} in: {line.strip()}") from error
