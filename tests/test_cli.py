"""The command line: what a user sees, and one clear line for every kind of bad input, with nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import RunCli
from PIL import Image

from fpga_squeeze.zoo import embedded_images, embedded_model_path

CALIBRATION = embedded_images("calibration")


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.startswith("fpga-squeeze: error: ")


def digit_weights() -> dict[str, torch.Tensor]:
    weights = torch.load(embedded_model_path(), weights_only=True)
    assert isinstance(weights, dict)
    return dict(weights)


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('pathlib').Path('/tmp/fpga-squeeze-exploited').write_text('x')",)


def bad_model(kind: str, folder: Path) -> Path:
    path = folder / "bad.pt"
    weights = digit_weights()
    first = next(k for k in weights if k.endswith("weight"))
    if kind == "text":
        path.write_text("hello, I am no model")
    elif kind == "pickle with code":
        path.write_bytes(pickle.dumps(Exploit()))
    elif kind == "torch file with code":
        torch.save({"state_dict": Exploit()}, path)
    elif kind == "nan":
        weights[first] = weights[first].clone()
        weights[first].view(-1)[3] = float("nan")
        torch.save(weights, path)
    elif kind == "inf":
        weights[first] = weights[first] * float("inf")
        torch.save(weights, path)
    elif kind == "wrong shape":
        weights[first] = weights[first][:, :, :2]
        torch.save(weights, path)
    elif kind == "unknown layer":
        weights["surprise.weight"] = torch.zeros(3, 3)
        torch.save(weights, path)
    elif kind == "missing layer":
        del weights[first]
        torch.save(weights, path)
    elif kind == "truncated":
        path.write_bytes(embedded_model_path().read_bytes()[:5000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "list":
        torch.save([1, 2, 3], path)
    return path


KINDS = (
    "text", "pickle with code", "torch file with code", "nan", "inf", "wrong shape", "unknown layer", "missing layer", "truncated", "empty", "list", "absent",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_model_is_one_line_and_writes_nothing(kind: str, tmp_path: Path, run_cli: RunCli) -> None:
    models = tmp_path / "models"
    models.mkdir()
    result = run_cli("export", bad_model(kind, models), "--calibration", CALIBRATION, "-o", tmp_path / "out")
    assert result.code == 2, result.err
    assert one_line(result.err), result.err
    assert {p.name for p in tmp_path.iterdir()} == {"models"}
    assert not Path("/tmp/fpga-squeeze-exploited").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--weight-bits", "1"], "2 to 16 was expected, got 1"),
        (["--act-bits", "17"], "4 to 16 was expected, got 17"),
        (["--layer-bits", "conv99=4"], "conv99"),
        (["--layer-bits", "conv1"], "NAME=BITS"),
        (["--device", "zcu1234"], "zcu1234"),
        (["--budget", "lots"], "lots"),
        (["--arch", "alexnet"], "alexnet"),
        (["--preprocess", "nonsense"], "nonsense"),
        (["--weight-bits", "many"], "valid integer"),
        (["--no-such-option"], "no-such-option"),
        (["--top", "1x"], "identifier"),
        (["--target-fps", "0"], "above 0"),
        (["--config", "/does/not/exist.toml"], "cannot be read"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(options: list[str], match: str, tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "out", *options)
    assert result.code == 2, result.err
    assert one_line(result.err) and match in result.err, result.err
    assert list(tmp_path.iterdir()) == []


def test_calibration_is_asked_for(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "-o", tmp_path / "out")
    assert result.code == 2 and one_line(result.err) and "--calibration" in result.err and "random" in result.err
    assert list(tmp_path.iterdir()) == []


def test_random_calibration_by_name(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "--calibration", "random", "-o", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["calibration"]["used"] > 0


def test_empty_calibration_folder(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "empty").mkdir()
    result = run_cli("export", embedded_model_path(), "--calibration", tmp_path / "empty", "-o", tmp_path / "out")
    assert result.code == 2 and one_line(result.err) and "no images" in result.err
    assert not (tmp_path / "out").exists()


def test_corrupt_image_is_named_skipped_and_counted(tmp_path: Path, run_cli: RunCli) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted(CALIBRATION.iterdir())[:12]:
        shutil.copy(path, images)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    result = run_cli("export", embedded_model_path(), "--calibration", images, "-o", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    calibration = json.loads(result.out)["calibration"]
    assert calibration["used"] == 12
    assert [s["file"] for s in calibration["skipped"]] == ["broken.png"]
    text = run_cli("export", embedded_model_path(), "--calibration", images, "-o", tmp_path / "out")
    assert "broken.png skipped" in text.err and "1 skipped" in text.out


def test_output_folder_that_is_not_ours_is_refused(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    args = ("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path)
    result = run_cli(*args)
    assert result.code == 2 and one_line(result.err) and "--force" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert run_cli(*args, "--force").code == 0
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_read_only_output_folder_is_refused(tmp_path: Path, run_cli: RunCli) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        result = run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", locked / "out")
        assert result.code == 2 and one_line(result.err) and "read-only" in result.err
    finally:
        locked.chmod(0o755)


def test_over_budget_names_the_largest_and_writes_nothing(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "out", "--budget", "20kB")
    assert result.code == 1
    assert result.err.startswith("fpga-squeeze: error: ")
    assert "conv10" in result.err or "fire" in result.err
    assert list(tmp_path.iterdir()) == []


def test_simulate_gives_the_documented_json(digits_out: Path, run_cli: RunCli) -> None:
    images = sorted(embedded_images("test").iterdir())[::10]
    result = run_cli("simulate", digits_out, *images, "--top-k", "3", "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["images"]
    assert [r["file"] for r in rows] == [str(p) for p in images]
    right = 0
    for row, path in zip(rows, images, strict=True):
        sums = [t["sum"] for t in row["top"]]
        assert len(sums) == 3 and sums == sorted(sums, reverse=True)
        right += row["top"][0]["class"] == int(path.name.split("_")[0])
    assert right >= 9


def test_simulate_labels(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {i}" for i in range(10)) + "\n")
    image = next(embedded_images("test").glob("7_*.png"))
    assert "digit 7" in run_cli("simulate", digits_out, image, "--labels", labels).out
    labels.write_text("one\ntwo\n")
    result = run_cli("simulate", digits_out, image, "--labels", labels)
    assert result.code == 2 and one_line(result.err) and "10 lines were expected" in result.err


@pytest.mark.parametrize("command", [["simulate", "x.png"], ["evaluate", "."], ["verify"], ["report"]])
def test_a_folder_that_is_no_export(command: list[str], tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli(command[0], tmp_path, *command[1:])
    assert result.code == 2 and one_line(result.err) and "manifest.json" in result.err


def test_simulate_bad_image(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "x.jpg").write_text("no image")
    result = run_cli("simulate", digits_out, tmp_path / "x.jpg")
    assert result.code == 2 and one_line(result.err) and "x.jpg" in result.err


def test_evaluate_report_and_limit(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    before = run_cli("report", out)
    assert before.code == 0 and "not measured" in before.out and "not run" in before.out
    result = run_cli("evaluate", out, embedded_images("test"), "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["count"] == 100
    assert body["float"]["top1"] >= 96 and body["fixed"]["top1"] >= 96 and body["agreement_top1"] >= 97
    assert json.loads((out / "report/accuracy.json").read_text())["count"] == 100
    assert json.loads(run_cli("evaluate", out, embedded_images("test"), "--limit", "7", "--json").out)["count"] == 7
    assert "Fixed and float" in run_cli("report", out).out


def test_evaluate_class_out_of_range(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "10_x.png")
    result = run_cli("evaluate", digits_out, tmp_path)
    assert result.code == 2 and one_line(result.err) and "0 to 9" in result.err


def test_devices_and_version(run_cli: RunCli) -> None:
    names = {d["name"] for d in json.loads(run_cli("devices", "--json").out)["devices"]}
    assert {"xc7z020", "xczu9eg"} <= names
    assert "zcu104" in run_cli("devices").out
    assert run_cli("--version").out.startswith("fpga-squeeze 0.")


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_wait_asleep_unless_told_otherwise(given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        # Set and deleted, so that what the command sets is taken back after the test.
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert run_cli("--version").code == 0 and os.environ["OMP_WAIT_POLICY"] == expected
    # Nothing may have loaded torch before the variable is set.
    early = subprocess.run([sys.executable, "-c", "import sys, fpga_squeeze.cli; sys.exit('torch' in sys.modules)"])
    assert early.returncode == 0


def test_a_stopped_run_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fpga_squeeze", "export", str(embedded_model_path()), "--calibration", str(CALIBRATION), "-o", str(tmp_path / "out")]
    # A run in the background of a shell would inherit that SIGINT is ignored.
    run = subprocess.Popen([*command, "--max-drop", "1"], stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    time.sleep(2)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and errors == "fpga-squeeze: error: stopped\n" and list(tmp_path.iterdir()) == []


def test_every_command_has_help_with_an_example(run_cli: RunCli) -> None:
    top = run_cli("--help")
    assert top.code == 0
    for command in ("export", "simulate", "verify", "evaluate", "report", "devices", "train", "demo"):
        assert command in top.out
        text = run_cli(command, "--help")
        assert text.code == 0 and f"Example: fpga-squeeze {command}" in text.out


def test_config_is_fed_back(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    """model/build.toml with the same model and images gives the same hardware, byte for byte."""
    args = ("export", embedded_model_path(), "--calibration", CALIBRATION, "--config", digits_out / "model/build.toml", "-o", tmp_path / "o")
    assert run_cli(*args).code == 0
    for path in sorted((digits_out / "hls").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "o" / path.relative_to(digits_out)).read_bytes(), path


def test_missing_compiler_is_one_line(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    result = run_cli("verify", out, "--hls", "--cxx", "no-such-g++")
    assert result.code == 2 and one_line(result.err) and "no-such-g++" in result.err


def test_verify_proves_the_digits_and_fails_on_one_flipped_golden_bit(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    result = run_cli("verify", out, "--hls", "--json")
    body = json.loads(result.out)
    assert result.code == 0 and body["ok"], result.err
    hls = [c for c in body["checks"] if c["implementation"] == "hls"]
    assert len(hls) == 14 and all(c["compared"] > 0 and c["mismatches"] == 0 for c in hls)
    record = json.loads((out / "report/verification.json").read_text())
    assert {key: record[key] for key in body} == body

    golden = out / "tb_data" / "fire3.squeeze.bin"
    content = bytearray(golden.read_bytes())
    content[32 + 5] ^= 1  # one bit of frame 0, channel 0, y 0, x 5
    golden.write_bytes(bytes(content))
    broken = run_cli("verify", out, "--hls")
    assert broken.code == 1
    assert "DIFFERS hls fire3.squeeze: 1 of" in broken.out and "frame 0, channel 0, y 0, x 5" in broken.out
