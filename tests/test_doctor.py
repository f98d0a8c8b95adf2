"""doctor: finds what is there by asking it, says how to get what is not, and fails only when the core is incomplete."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import RunCli

from fpga_squeeze import doctor

TOOLS = {
    "C++ compiler", "ap_int headers", "Verilator", "Icarus Verilog", "cocotb", "yosys", "nextpnr", "Vitis HLS", "Vivado", "Chromium",
}  # fmt: skip


def fake(folder: Path, name: str, text: str = "", code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)


def by_name(out: str) -> dict[str, dict[str, object]]:
    return {t["name"]: t for t in json.loads(out)["tools"]}


def test_every_tool_has_an_install_command_and_a_use(run_cli: RunCli) -> None:
    result = run_cli("doctor", "--json")
    assert result.code == 0 and json.loads(result.out)["ok"]
    tools = by_name(result.out)
    assert set(tools) >= TOOLS
    assert all(t["install"] and t["used_for"] for t in tools.values())
    assert {n for n, t in tools.items() if t["core"]} == {"Python", "PyTorch", "C++ compiler", "make", "ap_int headers"}


def test_missing_core_tool_fails_and_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    result = run_cli("doctor", "--json")
    tools = by_name(result.out)
    assert result.code == 1 and not json.loads(result.out)["ok"]
    assert tools["C++ compiler"]["found"] is None and "apt-get install g++" in str(tools["C++ compiler"]["install"])
    assert tools["Icarus Verilog"]["found"] is None and "apt-get install iverilog" in str(tools["Icarus Verilog"]["install"])
    text = run_cli("doctor")
    assert text.code == 1 and "MISSING" in text.out and "sudo apt-get install g++" in text.out and "NOT complete" in text.out


def test_optional_tools_do_not_fail_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    for name in ("g++", "make"):
        (tmp_path / name).symlink_to(next(Path(d) / name for d in os.environ["PATH"].split(os.pathsep) if (Path(d) / name).exists()))
    for name in ("as", "ld", "cc1plus"):  # what g++ looks for on PATH
        found = next((Path(d) / name for d in os.environ["PATH"].split(os.pathsep) if (Path(d) / name).exists()), None)
        if found:
            (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run_cli("doctor", "--json")
    tools = by_name(result.out)
    assert result.code == 0, tools["C++ compiler"]
    assert tools["Icarus Verilog"]["found"] is None and tools["Vivado"]["found"] is None


def test_a_compiler_that_does_not_compile_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    fake(tmp_path, "broken-g++", "g++ 99")
    monkeypatch.setenv("CXX", str(tmp_path / "broken-g++"))
    finding = next(f for f in doctor.examine() if f.name == "C++ compiler")
    assert finding.found is None and finding.reason is not None  # says its version, makes nothing


def test_a_tool_that_fails_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "iverilog", "segfault", 139)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    finding = next(f for f in doctor.examine() if f.name == "Icarus Verilog")
    assert finding.found is None and "exit code 139" in str(finding.reason)
    fake(tmp_path, "vivado")
    assert next(f for f in doctor.examine() if f.name == "Vivado").found == str(tmp_path / "vivado")


def test_commands_name_the_versions_of_the_project() -> None:
    body = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = {spec for group in body["optional-dependencies"].values() for spec in group}
    for spec in (doctor.VERILATOR_SPEC, doctor.COCOTB_SPEC, doctor.HEADERS_SPEC, doctor.YOSYS_SPEC, doctor.NEXTPNR_SPEC):
        assert spec in extras
    installs = " ".join(f.install for f in doctor.examine())
    for name in ("torch", "onnxruntime"):
        assert f"'{next(s for s in body['dependencies'] if s.startswith(name))}'" in installs
    assert Path(sys.executable).name in installs
