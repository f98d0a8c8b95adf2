"""yosys on the RTL: elaboration with silent mistakes made fatal, gate-level netlists, formal proofs. Uses pyosys (native) in a child process."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sim.harness import SimulationError, check_log, parameter_literal

# Warnings of yosys that mean the design is not what its text says.
FATAL_WARNINGS = (
    r"implicitly declared",
    r"Can't open|Can not open|No such file",
    r"used but has no driver",
    r"Warning: (?:Identifier|Wire) .* is (?:implicitly|used)",
    r"multiple conflicting drivers",
    r"Warning: Yosys has only limited support for tri-state",
    r"Latch inferred|Inferring latch",
)


def missing_yosys() -> str | None:
    """None when pyosys can run, else one line that says how to get it."""
    return None if importlib.util.find_spec("pyosys") else "yosys is not installed: pip install pyosys==0.70"


def require_yosys() -> None:
    """Skip the calling pytest test, with the reason, when yosys is missing."""
    reason = missing_yosys()
    if reason is not None:
        import pytest

        pytest.skip(reason)


def yosys(script: str, *, timeout_s: float = 300.0, check: bool = True) -> tuple[int, str]:
    """Run a yosys script; returns (exit code, log). With `check` a failing script raises SimulationError with the log's tail."""
    with tempfile.TemporaryDirectory(prefix="fsq-yosys-") as folder:
        path = Path(folder) / "run.ys"
        path.write_text(script)
        code = f"from pyosys import libyosys as ys; ys.run_pass({f'script {path}'!r}, ys.Design())"
        try:
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, cwd=folder, check=False)
        except subprocess.TimeoutExpired as error:
            raise SimulationError(f"yosys: no end after {timeout_s:g} s") from error
    log = done.stdout + done.stderr
    if check and done.returncode != 0:
        tail = "\n".join(log.splitlines()[-25:])
        raise SimulationError(f"yosys: exit code {done.returncode}; the log ends:\n{tail}")
    return done.returncode, log


def read_commands(sources: Sequence[Path], top: str, parameters: Mapping[str, int | str], folder: Path | None = None) -> str:
    """yosys commands that read `sources` and elaborate `top` with `parameters`; afterwards the top module has the plain name `top`.

    yosys' own -chparam makes every value unsigned, which turns SHIFT=-2 into 4294967294; so a wrapper written into `folder` (needed only when
    there are parameters) instantiates `top` with Verilog literals and is deleted again. Modules are read deferred, so default $readmemh names
    are not opened.
    """
    reads = "\n".join(f"read_verilog -sv -defer {Path(source).resolve()}" for source in sources)
    if not parameters:
        return f"{reads}\nhierarchy -check -top {top}\n"
    if folder is None:
        raise ValueError(f"{top}: a folder for the wrapper was expected with the parameters {dict(parameters)}")
    settings = ", ".join(f".{name}({parameter_literal(value)})" for name, value in parameters.items())
    wrapper = folder / "elaborate_wrapper.v"
    wrapper.write_text(f"module elaborate_wrapper;\n{top} #({settings}) instance_of_top ();\nendmodule\n")
    inside = f"delete elaborate_wrapper\nhierarchy -check -auto-top\nrename -top {top}\n"
    return f"{reads}\nread_verilog {wrapper}\nhierarchy -check -top elaborate_wrapper\n{inside}"


def elaborate(top: str, sources: Sequence[Path], parameters: Mapping[str, int | str]) -> str:
    """Elaborate `top` and return yosys' log. Raises SimulationError on an error, an implicit wire, a latch, a missing file, a driver problem."""
    with tempfile.TemporaryDirectory(prefix="fsq-yosys-") as folder:
        _, log = yosys(read_commands(sources, top, parameters, Path(folder)) + "proc\ncheck -assert\n")
    check_log(log, f"{top} in yosys")
    for pattern in FATAL_WARNINGS:
        found = re.search(f"^.*(?:{pattern}).*$", log, re.MULTILINE)
        if found:
            raise SimulationError(f"{top} in yosys: {found.group(0).strip()}")
    return log


def gate_level(top: str, sources: Sequence[Path], parameters: Mapping[str, int | str], folder: Path, family: str = "xcup") -> list[Path]:
    """Synthesise `top` for a Xilinx family into a netlist of primitives; returns the sources to simulate it: the netlist and yosys' cell models.

    Block memories have no behaviour in those models, so they become distributed ones; pads and clock buffers are left out. The parameters
    are in the netlist: run it with `run_bench(..., parameters_applied=False)`.
    """
    netlist = folder / f"{top}_gates.v"
    script = read_commands(sources, top, parameters, folder) + (
        f"synth_xilinx -family {family} -flatten -nobram -noiopad -noclkbuf -top {top}\nwrite_verilog -noattr -norename {netlist}\n"
    )
    yosys(script)
    spec = importlib.util.find_spec("pyosys")
    if spec is None or spec.origin is None:
        raise SimulationError("pyosys was there for the synthesis and is gone")
    cells = sorted(Path(spec.origin).parent.rglob("xilinx/cells_sim.v"))
    if not cells:
        raise SimulationError(f"yosys' Xilinx cell models were not found under {Path(spec.origin).parent}")
    return [netlist, cells[0]]
