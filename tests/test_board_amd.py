"""OUT/board: what is written, and its PYNQ driver against the RTL in simulation, behind a model of the AXI DMA (sim/bench_board_amd.py)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit.board import emit_board
from fpga_squeeze.emit.board_context import PictureSize
from fpga_squeeze.emit.rtl import RtlOptions
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.load.images import load_folder
from fpga_squeeze.load.preprocess import preset
from fpga_squeeze.new_weights import make_weights
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from sim import harness
from tests.board_amd_case import Case, drive, emitted
from tests.rtl_machines import random_pixels, require
from tests.test_loader_network import CLOCK, FPS, lively_tiny, loaded

FOLDERS = {"host", "pynq", "vivado"}


def driver_module(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("board_driver", folder / "driver.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- what is written


def board_names(out: Path) -> set[str]:
    return {p.relative_to(out / "board").as_posix() for p in (out / "board").rglob("*") if p.is_file()}


def test_an_export_has_board_files(digits_out: Path) -> None:
    names = board_names(digits_out)
    assert {name.partition("/")[0] for name in names} == FOLDERS and "pynq/weights.bin" not in names
    assert {"vivado/build.tcl", "vivado/squeezenet_axis.v", "pynq/driver.py", "pynq/squeezenet.ipynb", "host/host.cpp"} <= names
    opened = pipeline.open_export(digits_out)
    images, sums = (np.load(digits_out / f"board/pynq/golden_{what}.npy") for what in ("images", "sums"))
    assert images.shape == (2, 28, 28, 1) and images.dtype == np.uint8
    np.testing.assert_array_equal(FastSimulator(opened.qgraph).run(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), sums)
    machine = json.loads((digits_out / "board/pynq/machine.json").read_text())
    assert machine["frame_bytes"] == 784 and machine["answer_bytes"] == 40 and machine["load_bytes"] == 0 and machine["resize"] == 28
    plan = pipeline.open_plan(opened)
    assert machine["interval_cycles"] == plan.interval_cycles
    text = (digits_out / "board/vivado/build.tcl").read_text()
    assert "set board {}" in text and "which board?" in text
    nbformat.validate(nbformat.read(digits_out / "board/pynq/squeezenet.ipynb", as_version=4))


def test_the_same_input_gives_the_same_bytes_and_no_path() -> None:
    qgraph = lively_tiny(3)
    plan, pixels = loaded(qgraph), random_pixels(qgraph, 2)
    sums = FastSimulator(qgraph).run(pixels)
    one, two = (emit_board(qgraph, plan, RtlOptions(), PictureSize(18, 16), pixels, sums) for _ in range(2))
    assert one == two
    text = b"\n".join(one.values())
    assert str(Path.home()).encode() not in text and str(Path(__file__).parent.parent).encode() not in text
    with pytest.raises(InputError, match="do not belong to this network"):
        emit_board(qgraph, plan, RtlOptions(), PictureSize(18, 16), pixels, sums[:1])


@pytest.mark.parametrize(("device", "board"), [("kv260", "kv260"), ("PYNQ_Z2", "pynq-z2"), ("xczu9eg", "zcu102"), ("ulx3s", None)])
def test_the_device_picks_the_board(tmp_path: Path, device: str, board: str | None) -> None:
    config = ExportConfig(device=device, target_fps=500.0)
    pipeline.export(embedded_model_path(), tmp_path / "out", "random", config)
    assert (tmp_path / "out/board").is_dir() == (board is not None)
    if board:
        assert f"set board {board}\n" in (tmp_path / "out/board/vivado/build.tcl").read_text()
        # What was built for an earlier export goes with it.
        (tmp_path / f"out/board/pynq/squeezenet_{board}.bit").touch()
        pipeline.export(embedded_model_path(), tmp_path / "out", "random", config)
        assert not list((tmp_path / "out/board/pynq").glob("*.bit")) and (tmp_path / "out/board/pynq/driver.py").is_file()


def test_the_driver_reads_pictures_as_the_export_does(digits_out: Path, tmp_path: Path) -> None:
    module = driver_module(digits_out / "board/pynq")
    noise = np.random.default_rng(2).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.png")
    for channels, size, resize in ((1, 28, 28), (3, 32, 37)):
        reader = object.__new__(module.Accelerator)
        reader.machine = {"channels": channels, "height": size, "width": size, "resize": resize}
        chosen = preset("none", size, channels)
        expected = type(chosen)("own", resize, size, channels, chosen.order, 1.0, chosen.mean, chosen.std).pixels(tmp_path / "picture.png")
        np.testing.assert_array_equal(reader.read_image(tmp_path / "picture.png"), expected.transpose(1, 2, 0))


# ---------------------------------------------------------------- the driver against the RTL


@pytest.mark.parametrize("top_k", [0, 3])
def test_three_channels_in_padded_pixels(tmp_path: Path, top_k: int) -> None:
    """24 of 32 bits of a pixel; the machine that sends its best classes, 64 bits a beat."""
    require("icarus")
    qgraph = lively_tiny(3)
    case = emitted(tmp_path / "out", qgraph, plan_machine(qgraph, CLOCK, FPS), RtlOptions(top_k=top_k))
    cases = ["best_classes"] if top_k else ["images_batches_notebook", "stalls"]
    result = drive(case, tmp_path, {"a": qgraph}, random_pixels(qgraph, 5), "icarus", testcase=cases)
    assert result.tests == len(cases) and result.measured("sums") > 0


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # tlast after every frame, as the machine itself has it, ends a batch's transfer at its first frame.
        ("vivado/squeezenet_axis.v", "m_axis_tlast = sum_last && flag", "m_axis_tlast = sum_last", r"bytes of class sums were expected, \d+ came"),
        ("pynq/driver.py", '["channels"]] = part', '["channels"]] = part[..., ::-1]', "Arrays are not equal"),
        ("pynq/driver.py", "            channel.wait()\n", "            pass\n", r"bytes of class sums were expected, 0 came"),
    ],
)
def test_a_broken_adapter_or_driver_is_found(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    require("icarus")
    qgraph = lively_tiny(3)
    case = emitted(tmp_path / "out", qgraph, plan_machine(qgraph, CLOCK, FPS))
    path = case.out / "board" / file
    whole = path.read_text()
    assert whole.count(old) == 1
    path.write_text(whole.replace(old, new))
    with pytest.raises(harness.SimulationError, match=message):
        drive(case, tmp_path, {"a": qgraph}, random_pixels(qgraph, 5), "icarus", testcase=["stalls"])


@pytest.mark.slow
def test_everything_on_icarus(tmp_path: Path) -> None:
    require("icarus")
    qgraph = lively_tiny(3)
    case = emitted(tmp_path / "out", qgraph, loaded(qgraph))
    result = drive(case, tmp_path, {"a": qgraph, "b": lively_tiny(4)}, random_pixels(qgraph, 7), "icarus")
    assert result.tests == 5


def digits(folder: Path, weights: str) -> tuple[Case, dict[str, QuantGraph]]:
    """An export of the embedded network, and for a load port another model of its shape."""
    images = str(embedded_images("calibration"))
    pipeline.export(embedded_model_path(), folder / "out", images, ExportConfig(target_fps=50_000.0, weights=weights, device="zcu104"))
    opened = pipeline.open_export(folder / "out")
    models = {"a": opened.qgraph}
    if weights == "loaded":
        state = torch.load(embedded_model_path(), weights_only=True)
        models["b"] = make_weights(folder / "out", _other(state, folder / "other.pt"), images, folder / "other.bin").qgraph
    return Case(folder / "out", opened.qgraph, pipeline.open_plan(opened)), models


def _other(state: dict[str, torch.Tensor], path: Path) -> Path:
    chance = torch.Generator().manual_seed(5)
    for name, value in state.items():
        state[name] = value.flip(0).contiguous() if name.startswith("classifier") else value * (1 + 0.2 * torch.randn(value.shape, generator=chance))
    torch.save(state, path)
    return path


def drive_digits(folder: Path, weights: str) -> harness.BenchResult:
    require("verilator")
    case, models = digits(folder, weights)
    pixels = load_folder(embedded_images("test"), pipeline.open_export(case.out).preprocess).pixels[::20][:5]
    return drive(case, folder, models, pixels, "verilator", simulated_timeout_s=1.2e-4)


def test_the_digit_network_with_a_load_port(tmp_path: Path) -> None:
    """Check, images, batches, notebook, stalls, timeouts, weights of two trained models."""
    result = drive_digits(tmp_path, "loaded")
    assert result.tests == 5 and result.measured("sums") > 300


@pytest.mark.slow
def test_the_digit_network_with_weights_in_the_bitstream(tmp_path: Path) -> None:
    result = drive_digits(tmp_path, "rom")
    assert result.tests == 5 and result.measured("sums") > 100
