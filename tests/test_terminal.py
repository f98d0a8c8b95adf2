"""The terminal as a whole: help with an example, --json, --quiet and --verbose on every command, progress only on a terminal, shell completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main
from conftest import RunCli
from pseudo_terminal import in_terminal

from fpga_squeeze import cli, terminal
from fpga_squeeze.terminal import Verbosity
from fpga_squeeze.zoo import embedded_images, embedded_model_path

CALIBRATION = embedded_images("calibration")
COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
PROGRAM = [sys.executable, "-m", "fpga_squeeze"]


@pytest.fixture(autouse=True)
def _normal() -> None:
    """Commands run in this process: what one set must not reach the next."""
    terminal.VERBOSITY.set(Verbosity.NORMAL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_an_example_that_parses(command: str, run_cli: RunCli) -> None:
    text = run_cli(command, "--help")
    assert text.code == 0 and "--json" in text.out, command
    parser = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    assert f"Example: fpga-squeeze {command}" in text.out
    example = re.search(rf"Example: fpga-squeeze ({command}[^\n]*)", parser.help)
    assert example, f"{command}: no example in its help"
    parser.make_context(command, example[1].split()[1:], resilient_parsing=False)


def test_top_help_has_an_example(run_cli: RunCli) -> None:
    top = run_cli("--help")
    assert top.code == 0 and "Example: fpga-squeeze export" in top.out and all(command in top.out for command in COMMANDS)


def test_an_example_with_an_unknown_option_would_be_found() -> None:
    parser = typer.main.get_command(cli.app).commands["report"]  # type: ignore[attr-defined]
    with pytest.raises(cli._UsageError):
        parser.make_context("report", ["out", "--no-such"], resilient_parsing=False)


def arguments(command: str, out: Path, tmp_path: Path) -> list[object] | None:
    image = next(embedded_images("test").glob("5_*.png"))
    return {
        "export": [embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "exported"],
        "simulate": [out, image],
        "evaluate": [out, embedded_images("test"), "--limit", "8"],
        "report": [out],
        "devices": [],
        "doctor": [],
        "inspect": [out],
        "weights": [out, embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "w.bin"],
        "pack": [out, "-o", tmp_path / "new.fsq"],
        "unpack": [tmp_path / "model.fsq", "-o", tmp_path / "integers.npz", "--integers"],
        "diff": [tmp_path / "model.fsq", tmp_path / "model.fsq", "-o", tmp_path / "delta.fsq"],
    }.get(command)


@pytest.mark.parametrize("command", ["export", "simulate", "evaluate", "report", "devices", "inspect", "doctor", "weights", "pack", "unpack", "diff"])
def test_json_is_one_object_and_quiet_prints_nothing_else(command: str, digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    if command == "weights":
        assert run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", out, "--weights", "loaded").code == 0
    else:
        shutil.copytree(digits_out, out)
    if command in ("unpack", "diff"):
        assert run_cli("pack", out, "-o", tmp_path / "model.fsq").code == 0
    given = arguments(command, out, tmp_path)
    assert given is not None
    loud = run_cli(command, *given, "--json")
    assert loud.code == 0, loud.err
    assert isinstance(json.loads(loud.out), dict) and loud.err == ""
    quiet = run_cli("--quiet", command, *given)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert json.loads(run_cli(command, *given, "--quiet", "--json").out).keys() == json.loads(loud.out).keys()


def test_everything_that_is_shown_goes_through_the_terminal() -> None:
    """So that --quiet is kept by the commands that take too long to run here, too."""
    package = Path(cli.__file__).parent
    for path in [package / "cli.py", *package.rglob("show.py"), *(package / "commands").glob("*.py")]:
        found = re.findall(r"(?<![.\w])(?:print|typer\.echo|sys\.stdout\.write)\(.*", path.read_text())
        assert found in ([], ['typer.echo(f"fpga-squeeze {__version__}")']), path


def test_quiet_keeps_errors(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("report", tmp_path, "--quiet")
    assert result.code == 2 and result.out == "" and "manifest.json" in result.err


def test_verbose_says_every_step_and_its_seconds(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "o", "--verbose")
    assert result.code == 0
    steps = re.findall(r"^fpga-squeeze: ([a-z ]+)(?:, [\d,]+)?: \d+\.\d s$", result.err, re.MULTILINE)
    assert steps == ["read images", "calibrate", "quantize", "fold", "golden data", "emit", "report"]
    both = run_cli("--quiet", "--verbose", "report", tmp_path)
    assert both.code == 2 and "not both" in both.err


def test_words_behind_two_dashes_are_files(digits_out: Path, run_cli: RunCli) -> None:
    result = run_cli("simulate", digits_out, "--", "--quiet")
    assert result.code == 2 and "--quiet" in result.err and "image" in result.err


def test_progress_is_drawn_on_a_terminal_and_not_in_a_pipe(tmp_path: Path) -> None:
    command = [*PROGRAM, "export", str(embedded_model_path()), "--calibration", str(CALIBRATION), "-o", str(tmp_path / "o"), "--json"]
    code, out, shown = in_terminal(command)
    assert code == 0 and isinstance(json.loads(out), dict), shown
    for step in ("calibrate", "quantize", "emit", "100/100"):
        assert step in shown
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == "" and piped.stdout == out
    code, out, shown = in_terminal([*command, "--quiet"])
    assert code == 0 and shown == "" and json.loads(out)


def test_a_step_that_is_over_stops_moving(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.progress import Progress

    with Progress(disable=True) as bars:
        steps = terminal._Steps(bars)
        steps.show("first", 0, 0)
        steps.show("second", 3, 10)
        steps.end()
        assert [t.finished for t in bars.tasks] == [True, True] and bars.tasks[1].completed == 10


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completion(tmp_path: Path) -> None:
    """The installed script completes commands and options in a real bash."""
    program = Path(sys.executable).parent / "fpga-squeeze"
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / ".bashrc").write_text("")
    # the shell is found by looking at the parent process, so bash must stay there
    done = subprocess.run(
        ["bash", "-c", "fpga-squeeze --install-completion; true"], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    scripts = list(tmp_path.rglob("fpga-squeeze.sh"))
    assert len(scripts) == 1 and str(scripts[0]) in (tmp_path / ".bashrc").read_text(), done.stderr
    shown = subprocess.run(["bash", "-c", "fpga-squeeze --show-completion; true"], capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert "complete -o default -F" in shown.stdout

    def complete(*words: str) -> set[str]:
        listed = " ".join(f'"{w}"' for w in ("fpga-squeeze", *words))
        words_of = f"COMP_WORDS=({listed}); COMP_CWORD={len(words)}"
        ask = f"source {scripts[0]}; {words_of}; _fpga_squeeze_completion fpga-squeeze; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        got = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=environment, timeout=60, check=True)
        return set(got.stdout.split())

    assert complete("exp") == {"export"}
    assert complete("") >= {"export", "inspect", "doctor"}
    assert {"--weight-bits", "--weights"} <= complete("export", "--weig")


def test_click_is_the_base_of_usage_errors() -> None:
    assert issubclass(cli._UsageError, Exception) and cli._UsageError.__name__ == click.ClickException.__name__
