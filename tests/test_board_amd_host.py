"""The C++ host of OUT/board/host: compiles without a warning, and drives a model of the AXI DMA's registers (tests/host_model.cpp)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.hardware.folding import plan_machine
from tests.board_amd_case import Case, emitted
from tests.test_loader_network import CLOCK, FPS, lively_tiny, loaded

FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
QUICK = FLAGS[:-1]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder, qgraph = tmp_path_factory.mktemp("host"), lively_tiny(3)
    rom = plan_machine(qgraph, CLOCK, FPS)
    return {
        "loaded": emitted(folder / "loaded", qgraph, loaded(qgraph)),
        "rom": emitted(folder / "rom", qgraph, rom),
        "best": emitted(folder / "best", qgraph, rom, RtlOptions(top_k=3)),
    }


def model(case: Case, folder: Path, change: tuple[str, str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Compile the model with the host's headers, one of them changed (file, old, new), and run it."""
    headers = folder / "host"
    shutil.copytree(case.out / "board/host", headers)
    if change:
        name, old, new = change
        text = (headers / name).read_text()
        assert old in text
        (headers / name).write_text(text.replace(old, new, 1))
    source = Path(__file__).parent / "host_model.cpp"
    subprocess.run(["g++", *(QUICK if change else FLAGS), "-I", headers, source, "-o", folder / "model"], check=True, timeout=120)
    return subprocess.run([folder / "model", case.out / "board/pynq"], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["loaded", "rom", "best"])
def test_the_host_against_a_model_of_the_dma(cases: dict[str, Case], tmp_path: Path, name: str) -> None:
    ran = model(cases[name], tmp_path)
    found = re.fullmatch(r"OK sums=(\d+)\n", ran.stdout)
    assert ran.returncode == 0 and found and int(found[1]) == 4 * (3 if name == "best" else 10), ran.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("axi_dma.hpp", "address_high, static_cast<std::uint32_t>(physical >> 32)", "address_high, 0u"), "decode error"),
        (("axi_dma.hpp", "address_high = 0x1C", "address_high = 0x20"), "register|decode error"),
        (("accelerator.hpp", "        receive_.start();\n", ""), "halted"),
        (("accelerator.hpp", "value = value << 8 | at[i]", "value = value << 8 | at[0]"), "class sum"),
        (("accelerator.hpp", "i * machine::channels, machine::channels", "i * machine::channels, machine::channels - 1"), "golden image|in time"),
    ],
)
def test_a_broken_host_fails(cases: dict[str, Case], tmp_path: Path, change: tuple[str, str, str], message: str) -> None:
    ran = model(cases["rom"], tmp_path, change)
    assert ran.returncode != 0 and re.search(message, ran.stderr), ran.stderr


def test_the_program_compiles_and_refuses_bad_input(cases: dict[str, Case], tmp_path: Path) -> None:
    for name in ("rom", "loaded"):
        shutil.copytree(cases[name].out / "board", tmp_path / name)
        host = tmp_path / name / "host"
        made = subprocess.run(["make", "-C", host, "CXXFLAGS=-O0"], capture_output=True, text=True, timeout=120, check=False)
        assert made.returncode == 0 and "warning" not in made.stderr, made.stderr
    short = tmp_path / "short.raw"
    short.write_bytes(b"123")
    rom, pynq = tmp_path / "rom/host/host", str(tmp_path / "rom/pynq")
    for words, message in (
        ((), "usage: host BOARD"), (("zcu104",), "usage: host BOARD"), (("zcu104", "--check"), "a path was expected behind it"),
        (("ulx3s", "--check", pynq), "board ulx3s is not known; one of pynq-z2, zcu102, zcu104, kv260"),
        (("zcu104", str(short)), "768 bytes were expected, got 3"),
        (("zcu104", str(tmp_path / "none.raw")), "cannot be read"), (("zcu104", "--weights", str(short), str(short)), "weights in the bitstream"),
    ):  # fmt: skip
        ran = subprocess.run([rom, *words], capture_output=True, text=True, timeout=20, check=False)
        assert ran.returncode == 2 and ran.stderr.startswith("host: ") and message in ran.stderr, (words, ran.stderr)
    ran = subprocess.run([tmp_path / "loaded/host/host", "zcu104", "--check", pynq], capture_output=True, text=True, timeout=20, check=False)
    assert ran.returncode == 2 and "--weights FILE was expected" in ran.stderr
