"""The Python interface does what the command line does: the same files, the same numbers, the same errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from PIL import Image

import fpga_squeeze as fs
from fpga_squeeze import api
from fpga_squeeze.load.images import list_images
from fpga_squeeze.verify.checks import VerifyOptions
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from fpga_squeeze.zoo.arch import find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet

CALIBRATION = embedded_images("calibration")


@pytest.fixture(scope="module")
def design(digits_out: Path) -> fs.Design:
    return fs.open(digits_out)


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_import_is_cheap() -> None:
    code = "import sys, fpga_squeeze; print([m for m in ('torch', 'numpy', 'PIL', 'rich', 'typer') if m in sys.modules], fpga_squeeze.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] 0.")


def test_public_names_resolve_and_others_do_not() -> None:
    assert set(fs.__all__) <= set(dir(fs))
    for name in fs.__all__:
        assert getattr(fs, name).__doc__
    with pytest.raises(AttributeError, match="no_such_thing"):
        fs.no_such_thing  # noqa: B018


def test_options_are_those_of_the_command_line() -> None:
    assert set(api.ExportOptions.__annotations__) == {f.name for f in fields(fs.ExportConfig)}
    assert set(api.CheckOptions.__annotations__) == {f.name for f in fields(VerifyOptions)}


def test_same_files_as_the_command_line_from_path_and_from_list(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "--calibration", CALIBRATION, "-o", tmp_path / "cli", "--weight-bits", "6", "--layer-bits", "conv1=7")
    assert result.code == 0, result.err
    design = fs.export(embedded_model_path(), tmp_path / "api", calibration=list_images(CALIBRATION), weight_bits=6, layer_bits={"conv1": 7})
    assert tree(tmp_path / "cli") == tree(design.path)
    assert design.qgraph["conv1"].op.weight_bits == 7  # type: ignore[union-attr]
    assert tree(digits_out) != tree(design.path)


def test_module_and_array_calibration_give_the_same_machine(digits_out: Path, tmp_path: Path) -> None:
    module = SqueezeNet(find_arch("squeezenet_digits"))
    module.load_state_dict(torch.load(embedded_model_path(), weights_only=True))
    images = np.stack([pixels_of(p) for p in list_images(CALIBRATION)])
    for name, array in (("nchw", images[:, None]), ("nhwc", images[..., None])):
        seen: list[str] = []
        design = fs.export(module, tmp_path / name, calibration=array, progress=lambda step, done, total, seen=seen: seen.append(step))  # type: ignore[misc]
        assert {"calibrate", "emit"} <= set(seen)
        for folder in ("hls", "rtl", "tb_data", "report"):
            # The page names the pictures, and those of an array have numbers only.
            one, two = ({k: v for k, v in tree(p / folder).items() if k not in ("samples.json", "report.html")} for p in (digits_out, design.path))
            assert one and one == two, (name, folder)


def test_simulate_takes_files_pil_and_arrays(design: fs.Design, run_cli: RunCli) -> None:
    path = sorted(embedded_images("test").iterdir())[37]
    expected = json.loads(run_cli("simulate", design.path, path, "--json").out)["images"][0]["top"]
    array = pixels_of(path)
    for image in (path, str(path), Image.open(path), array, array[None], array[..., None]):
        found = design.simulate(image)
        assert [(c, s) for c, _, s in found.top] == [(t["class"], t["sum"]) for t in expected]
    assert design.simulate(path).file == str(path) and design.simulate(path).class_index == expected[0]["class"]
    several = design.simulate([path, array], top_k=3, labels=[f"digit {i}" for i in range(10)])
    assert len(several) == 2 and several[0].top == several[1].top and len(several[0].top) == 3
    assert several[0].label == f"digit {expected[0]['class']}" and several[1].file == "image 1"
    batch = np.stack([array, 255 - array])[:, None]
    assert [p.class_index for p in design.simulate(batch)] == list(design.sums(batch).argmax(1))
    assert design.simulate([path]) == (design.simulate(path),)


def test_array_of_another_size_goes_through_the_preprocessing(design: fs.Design) -> None:
    large = np.kron(pixels_of(next(embedded_images("test").glob("3_*.png"))), np.ones((2, 2), np.uint8))
    assert np.array_equal(design.pixels(large), design.pixels(Image.fromarray(large)))
    assert design.simulate(large).class_index == 3


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((28, 28), np.float32), "uint8"),
        (np.zeros((5, 28, 28), np.uint8), r"\(N, 1, H, W\)"),
        (np.zeros((2, 1, 28, 28, 1), np.uint8), "uint8"),
        ([], "at least one"),
        ("no-such.png", "no-such.png"),
    ],
)
def test_bad_images(design: fs.Design, image: object, match: str) -> None:
    with pytest.raises(fs.InputError, match=match):
        design.simulate(image)  # type: ignore[call-overload]


def test_bad_input_raises_and_writes_nothing(tmp_path: Path) -> None:
    model = embedded_model_path()
    with pytest.raises(fs.InputError, match=r"unknown option 'weigth_bits'; known: .*weight_bits"):
        fs.export(model, tmp_path / "o", calibration="random", weigth_bits=4)  # type: ignore[call-arg]
    with pytest.raises(fs.InputError, match="2 to 16 was expected, got 1"):
        fs.export(model, tmp_path / "o", calibration="random", weight_bits=1)
    with pytest.raises(fs.InputError, match="list is empty"):
        fs.export(model, tmp_path / "o", calibration=[])
    with pytest.raises(fs.InputError, match="uint8 array"):
        fs.export(model, tmp_path / "o", calibration=np.zeros((4, 28, 28), np.uint8))
    with pytest.raises(fs.InputError, match=r"torch\.nn\.Module"):
        fs.export(42, tmp_path / "o", calibration="random")  # type: ignore[arg-type]
    with pytest.raises(fs.InputError, match=r"Linear's state dict: fits no known arch"):
        fs.export(torch.nn.Linear(3, 4), tmp_path / "o", calibration="random")
    with pytest.raises(fs.CheckFailedError, match="over the budget"):
        fs.export(model, tmp_path / "o", calibration="random", budget="20kB")
    with pytest.raises(fs.InputError, match=r"manifest\.json"):
        fs.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reports_plan_and_evaluation(digits_out: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    design = fs.open(out)
    assert design.report["accuracy"] is None
    assert design.report["performance"]["interval_cycles"] == design.plan.interval_cycles
    assert design.classes == 10 and "10 classes" in repr(design)
    result = design.evaluate(embedded_images("test"), limit=20)
    assert result.to_json()["count"] == 20 == design.report["accuracy"]["count"]
    assert design.manifest["options"]["classes"] == 10


def test_verify_is_the_command_lines(tmp_path: Path) -> None:
    design = fs.export(embedded_model_path(), tmp_path / "out", calibration=CALIBRATION, input_size=16, golden_frames=1)
    seen: list[str] = []
    result = design.verify(hls=True, progress=lambda step, done, total: seen.append(step))
    assert result.ok and sum(row.compared for row in result.checks) > 10_000 and "C simulation build, files" in seen
    kept = design.report["verification"]
    assert isinstance(kept, dict)
    assert {k: kept[k] for k in result.to_json()} == json.loads(json.dumps(result.to_json()))
    golden = design.path / "tb_data/fire3.squeeze.bin"
    content = bytearray(golden.read_bytes())
    content[40] ^= 1
    golden.write_bytes(bytes(content))
    broken = design.verify(hls=True)
    assert not broken.ok and [row.stage for row in broken.checks if row.mismatches and row.implementation == "hls"][0] == "fire3.squeeze"  # noqa: RUF015


def test_layer_trace_finds_where_bits_are_missing(design: fs.Design, tmp_path: Path) -> None:
    image = next(embedded_images("test").glob("4_*.png"))
    rows = design.layer_trace(image)
    assert [r.name for r in rows] == [n.name for n in design.qgraph.nodes[1:]]
    assert all(r.sqnr_db > 20 for r in rows)
    coarse = fs.export(embedded_model_path(), tmp_path / "o", calibration=CALIBRATION, layer_bits={"fire4.squeeze": 2})
    traced = {r.name: r for r in coarse.layer_trace(image)}
    assert traced["fire4.squeeze"].sqnr_db < 20 < traced["fire3.squeeze"].sqnr_db
    worst = traced["fire4.squeeze"]
    n, c, y, x = worst.where
    got = coarse.simulator.trace(coarse.pixels(image))["fire4.squeeze"][n, c, y, x] * coarse.qgraph["fire4.squeeze"].fmt.scale
    assert got == worst.fixed_value and abs(got - worst.float_value) == worst.max_abs_error


@pytest.mark.slow
def test_types_help_and_refuse(tmp_path: Path) -> None:
    """mypy --strict on a program that uses the installed package: right options pass, a wrong one is named."""
    good = tmp_path / "good.py"
    good.write_text(
        "import fpga_squeeze as fs\n"
        "design: fs.Design = fs.export('m.pt', calibration='images', device='zcu104', weight_bits=6, layer_bits={'conv1': 7})\n"
        "index: int = design.simulate('a.png').class_index\n"
        "several: list[int] = [p.class_index for p in design.simulate(['a.png', 'b.png'])]\n"
        "ok: bool = design.verify(hls=True).ok\n"
    )
    bad = tmp_path / "bad.py"
    bad.write_text("import fpga_squeeze as fs\nfs.export('m.pt', calibration='images', weight_bits='six')\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    environment = {k: v for k, v in os.environ.items() if k != "MYPYPATH"}
    environment["MYPYPATH"] = str(Path(fs.__file__).parents[1])
    fine = subprocess.run([*command, str(good)], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert fine.returncode == 0, fine.stdout
    wrong = subprocess.run([*command, str(bad)], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert wrong.returncode == 1 and 'Argument "weight_bits" to "export" has incompatible type "str"' in wrong.stdout
