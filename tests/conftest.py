"""Shared fixtures: the command line in-process, one export of the embedded network, the real data where it is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fpga_squeeze import cli, pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.zoo import embedded_images, embedded_model_path


@dataclass(frozen=True)
class CommandResult:
    """Exit code and both outputs of one run of the command line."""

    code: int
    out: str
    err: str


RunCli = Callable[..., CommandResult]


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunCli:
    """Run the command line in this process."""

    def run(*args: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["fpga-squeeze", *(str(a) for a in args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capfd.readouterr()
        return CommandResult(int(caught.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def digits_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the embedded digit network; tests must not change it."""
    out = tmp_path_factory.mktemp("digits") / "out"
    pipeline.export(embedded_model_path(), out, str(embedded_images("calibration")), ExportConfig())
    return out


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real ImageNet weights and photographs; skips where it is not there."""
    folder = os.environ.get("FPGA_SQUEEZE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FPGA_SQUEEZE_DATA names no folder with the real weights and photographs")
    return Path(folder)
