"""Machines whose weights are loaded: emission, image, network simulation, swaps of trained models, and what the `weights` command refuses."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.emit.load_image import check_other_model, load_image, load_memories, shape_digest
from fpga_squeeze.emit.rtl import LOADER_FILES, RtlOptions, emit_rtl
from fpga_squeeze.emit.weights import weight_lanes
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.hardware.search import search
from fpga_squeeze.hardware.structure import all_loaded
from fpga_squeeze.load.images import load_folder
from fpga_squeeze.new_weights import make_weights
from fpga_squeeze.quantize.qgraph import QConv, QNode, QuantGraph
from fpga_squeeze.verify.cosim import run_rtl
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from sim import elaborate, harness
from tests.load_cases import CLOCK, FPS, job, lively_tiny, loaded, swap
from tests.rtl_machines import random_pixels, require, write


@pytest.fixture(scope="module")
def small() -> tuple[QuantGraph, FoldPlan]:
    qgraph = lively_tiny(3)
    return qgraph, loaded(qgraph)


def changed(qgraph: QuantGraph, name: str, **values: object) -> QuantGraph:
    """`qgraph` with other fields of the operator `name`."""

    def edit(n: QNode) -> QNode:
        return replace(n, op=replace(n.op, **values)) if n.name == name else n  # type: ignore[type-var]

    return QuantGraph(tuple(edit(n) for n in qgraph.nodes), qgraph.output)


def convolution(qgraph: QuantGraph, name: str) -> QConv:
    """A convolution by name."""
    op = qgraph[name].op
    assert isinstance(op, QConv)
    return op


# ---------------------------------------------------------------- image and emission


def test_the_image_holds_every_loaded_row(small: tuple[QuantGraph, FoldPlan]) -> None:
    """Read back by the documented layout alone."""
    qgraph, plan = small
    image = load_image(qgraph, plan)
    assert image[:4] == b"FSQ1" and image[4:12] == shape_digest(qgraph, plan)
    assert int.from_bytes(image[12:16], "little") == len(image) - 20
    assert zlib.crc32(image[:-4]) == int.from_bytes(image[-4:], "little")
    at, numbers = 16, []
    for m in load_memories(plan):
        numbers.append(m.number)
        rows = [int.from_bytes(image[at + i * m.row_bytes : at + (i + 1) * m.row_bytes], "little") for i in range(m.rows)]
        at += m.rows * m.row_bytes
        if m.number % 3 == 0:
            mask = (1 << m.engine.weight_bits) - 1
            lanes = weight_lanes(m.engine, convolution(qgraph, m.engine.node))
            for row, values in zip(rows, lanes, strict=True):
                assert [row >> (i * m.engine.weight_bits) & mask for i in range(len(values))] == [int(v) & mask for v in values]
        assert m.entry >> 36 == m.number and (m.entry >> 16 & 0xFFFFF) == m.rows - 1
        assert 9 * (m.entry >> 4 & 0xFFF) + (m.entry & 15) == m.row_bytes
    assert at == len(image) - 4
    assert numbers == list(range(3 * sum(len(s.engines) for s in plan.stages)))


def test_emission_with_and_without_a_load_port(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, plan = small
    files = emit_rtl(qgraph, plan)
    assert files == emit_rtl(qgraph, plan)
    assert files["rtl/weights/load.bin"] == load_image(qgraph, plan)
    assert not [n for n in files if n.endswith(".hex")]
    assert all(f"lib/{name}" in files["rtl/files.f"].decode() for name in LOADER_FILES)
    network = json.loads(files["sim/network.json"])
    assert network["load"] == {"file": "load.bin", "bytes": len(files["rtl/weights/load.bin"])} and network["memories"] == []
    script = files["rtl/build_vivado.tcl"].decode()
    assert "-busif s_load_axis -clock ap_clk" in script and "*.hex" not in script.replace("get_files *.hex", "")
    without = emit_rtl(qgraph, plan_machine(qgraph, CLOCK, FPS))
    text = b"".join(c for n, c in without.items() if n in ("rtl/squeezenet.sv", "rtl/build_vivado.tcl", "rtl/files.f", "sim/tb_squeezenet.sv"))
    assert b"load_axis" not in text and b"loader" not in text and "rtl/weights/load.bin" not in without
    assert "load" not in json.loads(without["sim/network.json"])
    assert not [n for n in without if n.rpartition("/")[2] in LOADER_FILES]


def test_the_digest_tells_machines_apart(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, plan = small
    digest = shape_digest(qgraph, plan)
    other = lively_tiny(4)
    assert shape_digest(other, plan) == digest, "other weights, same machine"
    faster = folding_from_json(json.dumps({**json.loads(folding_to_json(plan)), "clock_mhz": 100.0}), qgraph)
    assert shape_digest(qgraph, faster) == digest
    slower = search(qgraph, Goal(CLOCK, FPS / 2, weights="loaded")).plan
    assert shape_digest(qgraph, slower) != digest
    # What is in the bitstream counts, because an image leaves it there.
    part = loaded(qgraph, rom=("conv10",))
    assert len({digest, shape_digest(qgraph, part), shape_digest(other, part)}) == 3


def test_weights_loaded_holds_without_a_device() -> None:
    qgraph = lively_tiny(3)
    plan = search(qgraph, Goal(CLOCK, FPS, weights="loaded")).plan
    assert all(e.loaded for s in plan.stages for e in s.engines)
    assert [all_loaded(s) for s in plan_machine(qgraph, CLOCK, FPS).stages] == list(plan.stages)


@pytest.mark.parametrize("rom", [(), ("conv1", "fire2.expand")])
def test_yosys_elaborates_a_loaded_machine(tmp_path: Path, rom: tuple[str, ...]) -> None:
    elaborate.require_yosys()
    qgraph = lively_tiny(3)
    out = write(tmp_path, qgraph, loaded(qgraph, rom)) / "rtl"
    sources = [out / name for name in (out / "files.f").read_text().split()]
    log = elaborate.elaborate("squeezenet", sources, {"WEIGHTS": f"{out}/weights/"})
    assert "fsq_loader" in log and "fsq_frame_hold" in log


# ---------------------------------------------------------------- which models a machine takes


def test_a_model_that_does_not_fit_is_refused_by_its_layer(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, plan = small
    check_other_model(qgraph, plan, lively_tiny(4))
    engine = plan.stages[0].engines[0]
    op = convolution(qgraph, "conv1")
    cases = [
        (changed(qgraph, "conv1", shift=op.shift + 20), r"layer conv1: the model needs shifts \d+ to \d+, the machine has"),
        (changed(qgraph, "conv1", bias=op.bias + (1 << engine.bias_bits)), "layer conv1: the model needs biases of"),
        (changed(qgraph, "conv1", weight_bits=7), "layer conv1: the machine has"),
        (changed(qgraph, "pool1", stride=1), "layer pool1: the machine has QMaxPool"),
        (changed(qgraph, "conv1", pad_value=(1, 2, 3)), "layer conv1: the machine has"),
    ]
    renamed = QuantGraph(tuple(replace(n, name="other") if n.name == "pool1" else n for n in qgraph.nodes), qgraph.output)
    cases.append((renamed, "layer other: the machine has another network there"))
    signed = tuple(replace(n, fmt=replace(n.fmt, signed=True)) if n.name == "conv10" else n for n in qgraph.nodes)
    cases.append((QuantGraph(signed, qgraph.output), "layer conv10: the machine has 8 unsigned bits, the model 8 signed"))
    for model, message in cases:
        with pytest.raises(InputError, match=message):
            check_other_model(qgraph, plan, model)
    # Weights in the bitstream stay what they are.
    part = loaded(qgraph, rom=("conv10",))
    check_other_model(qgraph, part, changed(qgraph, "conv1", bias=op.bias + 1))
    with pytest.raises(InputError, match="layer conv10: its weights are in the bitstream"):
        check_other_model(qgraph, part, changed(qgraph, "conv10", bias=convolution(qgraph, "conv10").bias + 1))
    with pytest.raises(InputError, match="no load port"):
        load_image(qgraph, plan_machine(qgraph, CLOCK, FPS))


# ---------------------------------------------------------------- simulation


def test_network_simulation_loads_first(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    """The runner of the export, as `verify --rtl` calls it; then with an image that the loader must refuse, and one that is cut."""
    require("icarus")
    out = write(tmp_path, *small)
    pixels = random_pixels(small[0], 3)
    result = run_rtl(out, *small, pixels, simulator="icarus", stalls="none,random:1,reset")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.02 * small[1].interval_cycles + 1
    path = out / "rtl/weights/load.bin"
    image = path.read_bytes()
    path.write_bytes(image[:100] + bytes([image[100] ^ 1]) + image[101:])
    broken = run_rtl(out, *small, pixels, simulator="icarus")
    assert not broken.ok and any("load_status is 0x0d after the load, 0x84 (good) was expected" in fault for fault in broken.faults)
    path.write_bytes(image[:-1])
    with pytest.raises(InputError, match=rf"load\.bin: {len(image)} bytes were expected"):
        run_rtl(out, *small, pixels, simulator="icarus")


def test_a_machine_that_is_loaded_in_part_and_sends_the_best_classes(tmp_path: Path) -> None:
    require("icarus")
    qgraph = lively_tiny(3)
    plan = loaded(qgraph, rom=("conv1", "fire2.expand"))
    out = write(tmp_path, qgraph, plan, RtlOptions(top_k=3))
    assert {p.suffix for p in (out / "rtl/weights").iterdir()} == {".bin", ".hex"}
    result = run_rtl(out, qgraph, plan, random_pixels(qgraph, 2), simulator="icarus", stalls="none,reset")
    assert result.ok, result.first_failure


def test_a_flipped_bit_of_a_sealed_image_is_found_in_its_layer(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    """The CRC is right, so the loader takes it: the comparison must not."""
    require("icarus")
    out = write(tmp_path, *small)
    path = out / "rtl/weights/load.bin"
    body = bytearray(path.read_bytes()[:-4])
    memories = load_memories(small[1])
    at = 16 + sum(m.rows * m.row_bytes for m in memories[: [m.engine.node for m in memories].index("conv10")])
    body[at] ^= 0x40
    path.write_bytes(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))
    result = run_rtl(out, *small, random_pixels(small[0], 2), simulator="icarus")
    assert next(row.stage for row in result.rows if not row.ok) == "conv10"


@pytest.mark.parametrize("simulator", harness.SIMULATORS)
def test_swaps_of_a_small_machine(small: tuple[QuantGraph, FoldPlan], tmp_path: Path, simulator: str) -> None:
    require(simulator)
    qgraph, plan = small
    other = lively_tiny(4)
    check_other_model(qgraph, plan, other)
    images = {"a": load_image(qgraph, plan), "b": load_image(other, plan, qgraph)}
    result = swap(write(tmp_path, qgraph, plan), job(plan, {"a": qgraph, "b": other}, images, random_pixels(qgraph, 3)), simulator)
    assert result.measured("frames") >= 15


def test_a_machine_that_does_not_hold_frames_is_found(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    require("icarus")
    qgraph, plan = small
    out = write(tmp_path, qgraph, plan)
    top = out / "rtl/squeezenet.sv"
    text = top.read_text()
    assert text.count(".idle(frames_idle), .hold") == 1
    top.write_text(text.replace(".idle(frames_idle), .hold", ".idle(frames_held), .hold"))
    images = {"a": load_image(qgraph, plan), "b": load_image(lively_tiny(4), plan, qgraph)}
    with pytest.raises(harness.SimulationError, match="weights are written with a frame in work"):
        swap(out, job(plan, {"a": qgraph, "b": lively_tiny(4)}, images, random_pixels(qgraph, 3)), "icarus")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded network, exported with a load port, and beside it other.pt: weights that differ everywhere and classes in another order."""
    folder = tmp_path_factory.mktemp("digits")
    config = ExportConfig(target_fps=50_000.0, weights="loaded", golden_frames=2)
    pipeline.export(embedded_model_path(), folder / "out", str(embedded_images("calibration")), config)
    state = torch.load(embedded_model_path(), weights_only=True)
    chance = torch.Generator().manual_seed(5)
    for name, value in state.items():
        state[name] = value.flip(0).contiguous() if name.startswith("classifier") else value * (1 + 0.2 * torch.randn(value.shape, generator=chance))
    torch.save(state, folder / "other.pt")
    return folder


def test_the_same_model_gives_the_exported_image(digits: Path) -> None:
    made = make_weights(digits / "out", embedded_model_path(), str(embedded_images("calibration")), digits / "same.bin")
    assert made.file.read_bytes() == (digits / "out/rtl/weights/load.bin").read_bytes()
    assert re.match(r"Wrote [\d,]+ bytes to ", made.text()) and made.to_json()["bytes"] == made.bytes


def test_weights_refuses_what_it_cannot_do(digits: Path, tmp_path: Path) -> None:
    images = str(embedded_images("calibration"))
    with pytest.raises(InputError, match="--calibration"):
        make_weights(digits / "out", embedded_model_path(), None, tmp_path / "x.bin")
    with pytest.raises(InputError, match="a file in an existing folder was expected"):
        make_weights(digits / "out", embedded_model_path(), images, tmp_path / "none" / "x.bin")
    config = ExportConfig(target_fps=50_000.0, weights="rom")
    pipeline.export(embedded_model_path(), tmp_path / "rom", images, config)
    with pytest.raises(InputError, match="its weights are in the bitstream, nothing can be loaded"):
        make_weights(tmp_path / "rom", embedded_model_path(), images, tmp_path / "x.bin")
    assert not (tmp_path / "x.bin").exists()


def test_the_command_line(digits: Path, tmp_path: Path, run_cli: RunCli) -> None:
    calibration = ("--calibration", embedded_images("calibration"))
    done = run_cli("weights", digits / "out", digits / "other.pt", *calibration, "-o", tmp_path / "new.bin", "--json")
    body = json.loads(done.out)
    assert done.code == 0 and set(body) == {"file", "bytes", "sum_frac", "machine_sum_frac"}
    image = (tmp_path / "new.bin").read_bytes()
    assert len(image) == body["bytes"] and image[:16] == (digits / "out/rtl/weights/load.bin").read_bytes()[:16]
    text = run_cli("weights", digits / "out", digits / "other.pt", *calibration, "-o", tmp_path / "again.bin")
    assert text.code == 0 and "send them to s_load_axis" in text.out and (tmp_path / "again.bin").read_bytes() == image
    # A layer a million times smaller: its output, or what reads it, needs shifts that the machine does not have.
    state = torch.load(embedded_model_path(), weights_only=True)
    for name in ("features.2.squeeze.weight", "features.2.squeeze.bias"):
        state[name] = state[name] * 2.0**-20
    torch.save(state, tmp_path / "odd.pt")
    refused = run_cli("weights", digits / "out", tmp_path / "odd.pt", *calibration, "-o", tmp_path / "odd.bin")
    assert refused.code == 2 and refused.err.count("\n") == 1 and re.search(r"layer fire2\S+: the model needs ", refused.err), refused.err
    assert not (tmp_path / "odd.bin").exists()


def test_swaps_of_trained_models(digits: Path) -> None:
    """The digit network and another of its shape, frames back to back: every class sum is of the model that was in use."""
    require("verilator")
    made = make_weights(digits / "out", digits / "other.pt", str(embedded_images("calibration")), digits / "other.bin")
    opened = pipeline.open_export(digits / "out")
    plan = pipeline.open_plan(opened)
    pixels = load_folder(embedded_images("test"), opened.preprocess).pixels[:60:20]
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == len(pixels)
    images = {"a": (digits / "out/rtl/weights/load.bin").read_bytes(), "b": made.file.read_bytes()}
    result = swap(digits / "out", job(plan, {"a": opened.qgraph, "b": made.qgraph}, images, pixels), "verilator")
    assert result.measured("frames") >= 15
