"""`verify --onnx`: green on exports, red on a single flipped bit, one clear line when the file or the runtime fails."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import RunCli
from quant_graphs import conv_node, graph, image_node, sum_node

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig, load_config
from fpga_squeeze.emit.golden import read_frames
from fpga_squeeze.emit.onnx import FILES, emit_onnx
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.checks import stage_tensor
from fpga_squeeze.verify.onnx import check_file
from fpga_squeeze.verify.result import CheckRow
from fpga_squeeze.zoo import embedded_images, embedded_model_path

Change = Callable[[onnx.ModelProto], None]


def no_progress(step: str, done: int, total: int) -> None:
    """Silent."""


@pytest.fixture(scope="module")
def qonnx_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network with the QONNX dialect and more golden frames than one batch holds."""
    out = tmp_path_factory.mktemp("qonnx") / "out"
    pipeline.export(embedded_model_path(), out, str(embedded_images("calibration")), ExportConfig(onnx_dialect="qonnx", golden_frames=6))
    return out


def stages_of(out: Path) -> tuple[tuple[str, str], ...]:
    return tuple((s.name, stage_tensor(s)) for s in pipeline.open_plan(pipeline.open_export(out)).stages)


def rows_of(out: Path, path: Path, implementation: str) -> tuple[CheckRow, ...]:
    qgraph = pipeline.open_export(out).qgraph
    return check_file(path, implementation, qgraph, stages_of(out), read_frames(out, qgraph), no_progress)


def changed(out: Path, dialect: str, folder: Path, change: Change) -> Path:
    model = onnx.load_model_from_string((out / FILES[dialect]).read_bytes())
    before = model.SerializeToString()
    change(model)
    assert model.SerializeToString() != before
    path = folder / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def flip(name: str, byte: int, bit: int) -> Change:
    """Flip one bit of an initialiser."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        data = bytearray(tensor.raw_data)
        data[byte] ^= 1 << bit
        tensor.raw_data = bytes(data)

    return change


def test_both_dialects_are_equal_at_every_stage(qonnx_out: Path, run_cli: RunCli) -> None:
    result = run_cli("verify", qonnx_out, "--onnx", "--json")
    body = json.loads(result.out)
    assert result.code == 0 and body["ok"] and body["rtl"] is None and body["frames"] == 6
    stages = [name for name, _ in stages_of(qonnx_out)]
    for implementation in ("onnx", "qonnx"):
        rows = {c["stage"]: c for c in body["checks"] if c["implementation"] == implementation}
        assert list(rows) == stages and all(c["mismatches"] == 0 for c in rows.values())
        assert rows["conv1"]["compared"] == 6 * 16 * 14 * 14 and rows["pool10"]["compared"] == 6 * 10
    assert {c["implementation"] for c in body["checks"]} == {"fast", "onnx", "qonnx"}
    manifest = json.loads((qonnx_out / "manifest.json").read_text())
    assert set(FILES.values()) <= set(manifest["files"])
    assert load_config(qonnx_out / "model/build.toml").onnx_dialect == "qonnx"


def test_the_default_dialect_writes_and_checks_one_file(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(digits_out, out)
    assert (out / FILES["qdq"]).is_file() and not (out / FILES["qonnx"]).exists()
    result = run_cli("verify", out, "--onnx", "--frames", "1")
    assert result.code == 0 and "qonnx" not in result.out and "equal, bit by bit" in result.out


@pytest.mark.parametrize(
    ("name", "byte", "bit", "stage"),
    [
        ("conv1/weight", 4, 0, "conv1"),
        ("conv1/weight", 4, 7, "conv1"),
        ("conv1/pad/values", 2, 6, "conv1"),
        ("fire3.squeeze/bias", 0, 3, "fire3.squeeze"),
        ("fire4.expand3x3/weight", 100, 1, "fire4.expand"),
        ("fire4.expand1x1/weight/scale", 2, 7, "fire4.expand"),
        ("pool4/scale", 2, 7, "pool4"),
        ("conv10/weight/scale", 2, 7, "conv10"),
        ("conv10/scale", 2, 7, "conv10"),
    ],
)
def test_one_flipped_bit_is_found_and_names_the_first_stage(qonnx_out: Path, tmp_path: Path, name: str, byte: int, bit: int, stage: str) -> None:
    """Bits of weights, pads and biases, and the low bit of an exponent: a scale twice or half as large."""
    rows = rows_of(qonnx_out, changed(qonnx_out, "qdq", tmp_path, flip(name, byte, bit)), "onnx")
    bad = [row for row in rows if not row.ok]
    assert bad and bad[0].stage == stage and bad[0].first_difference is not None and bad[0].mismatches > 0
    assert all(row.ok for row in rows[: rows.index(bad[0])])


@pytest.mark.parametrize(
    ("name", "byte", "bit", "stage"),
    [
        ("conv1/weight", 2, 5, "conv1"),
        ("fire3.squeeze/bias", 2, 6, "fire3.squeeze"),
        ("pool4/scale", 1, 3, "pool4"),
        ("fire5.squeeze/scale", 2, 7, "fire5.squeeze"),
    ],
)
def test_one_flipped_bit_in_the_qonnx_file(qonnx_out: Path, tmp_path: Path, name: str, byte: int, bit: int, stage: str) -> None:
    """Float carriers: a weight next to its own, or a scale that is no power of two any more and puts values between integers."""
    rows = rows_of(qonnx_out, changed(qonnx_out, "qonnx", tmp_path, flip(name, byte, bit)), "qonnx")
    bad = [row for row in rows if not row.ok]
    assert bad and bad[0].stage == stage and all(row.ok for row in rows[: rows.index(bad[0])])


def test_the_first_difference_counts_frames_over_batches(tmp_path: Path) -> None:
    """A weight of 1 more on one pixel of a frame that is black but in the second batch: the report says frame 5."""
    image = image_node((1, 2, 2))
    weight = np.array([[[[1]]]])
    conv = conv_node("conv1", image, weight, np.zeros(1), np.zeros(1), TensorFormat(8, 0, signed=False))
    qgraph = graph(image, conv, sum_node("total", conv))
    path = tmp_path / "model.onnx"
    path.write_bytes(emit_onnx(qgraph))
    model = onnx.load_model_from_string(path.read_bytes())
    flip("conv1/weight", 0, 1)(model)
    path.write_bytes(model.SerializeToString())
    frames = np.zeros((7, 1, 2, 2), dtype=np.uint8)
    frames[5:, 0, 1, 0] = 10
    row = check_file(path, "onnx", qgraph, (("stage", "conv1"),), frames, no_progress)[0]
    assert row.describe() == "onnx stage: 2 of 28 values differ; the first at frame 5, channel 0, y 1, x 0: expected 10, got 30"


def test_a_failing_check_is_exit_code_1(qonnx_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(qonnx_out, out)
    path = changed(out, "qdq", tmp_path, flip("conv10/bias", 0, 6))
    shutil.copy(path, out / FILES["qdq"])
    result = run_cli("verify", out, "--onnx")
    assert result.code == 1 and "DIFFERS onnx conv10" in result.out and "NOT equal" in result.out
    assert json.loads((out / "report/verification.json").read_text())["ok"] is False


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")


def rename_stage(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.input[:] = [i.replace("fire3.squeeze", "other") for i in node.input]
        node.output[:] = [o.replace("fire3.squeeze", "other") for o in node.output]


def unknown_op(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Concat").op_type = "Glue"


def wrong_kernel(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "conv10/bias").dims[0] = 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_input, "its input is pixels"),
        (external, "names external data; export again"),
        (rename_stage, "no tensor 'fire3.squeeze'"),
        (unknown_op, "ONNX Runtime .* breaks off: .*Glue"),
        (wrong_kernel, "ONNX Runtime .* breaks off"),
    ],
)
def test_files_that_are_not_this_network(qonnx_out: Path, tmp_path: Path, run_cli: RunCli, change: Change, message: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(qonnx_out, out)
    shutil.copy(changed(out, "qdq", tmp_path, change), out / FILES["qdq"])
    result = run_cli("verify", out, "--onnx")
    assert result.code in (1, 2) and re.search(message, result.err), result.err
    assert result.err.startswith("fpga-squeeze: error: ") and result.err.count("\n") == 1, "one line"


def test_missing_and_damaged_files(qonnx_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    shutil.copytree(qonnx_out, out)
    (out / FILES["qdq"]).write_bytes((out / FILES["qdq"]).read_bytes()[:-1000])
    result = run_cli("verify", out, "--onnx")
    assert result.code == 2 and "no ONNX model" in result.err and result.err.count("\n") == 1
    (out / FILES["qdq"]).unlink()
    result = run_cli("verify", out, "--onnx")
    assert result.code == 2 and "quantized.onnx: cannot be read (No such file or directory); export again" in result.err


def test_qonnx_without_qonnx_says_how_to_get_it(qonnx_out: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qonnx.core.modelwrapper", None)
    result = run_cli("verify", qonnx_out, "--onnx")
    assert result.code == 2 and "pip install 'fpga-squeeze[qonnx]'" in result.err


def test_an_unknown_dialect_is_refused(tmp_path: Path, run_cli: RunCli) -> None:
    result = run_cli("export", embedded_model_path(), "-o", tmp_path / "out", "--onnx-dialect", "tflite")
    assert result.code == 2 and "--onnx-dialect: one of qdq, qonnx was expected, got 'tflite'" in result.err
    with pytest.raises(InputError, match="onnx-dialect"):
        ExportConfig(onnx_dialect="QDQ")


@pytest.mark.parametrize("version", ["1_1", "1_0"])
def test_real_squeezenets_equal_at_every_tensor(data_dir: Path, tmp_path: Path, version: str) -> None:
    """Trained ImageNet weights, photographs at 224 x 224: all tensors, not only those between stages."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((data_dir / "images").iterdir())[:2]:
        (photos / path.name).symlink_to(path)
    made = pipeline.quantize_model(data_dir / f"squeezenet{version}_imagenet.pt", str(photos), ExportConfig())
    path = tmp_path / "quantized.onnx"
    path.write_bytes(emit_onnx(made.qgraph))
    assert 1_200_000 < path.stat().st_size < 1_400_000
    rows = check_file(path, "onnx", made.qgraph, every_tensor(made.qgraph), made.images.pixels, no_progress)
    assert len(rows) == len(made.qgraph.nodes) - 1 and all(row.ok for row in rows), [row.describe() for row in rows if not row.ok]
    assert rows[-1].compared == 2 * 1000


def every_tensor(qgraph: QuantGraph) -> tuple[tuple[str, str], ...]:
    return tuple((n.name, n.name) for n in qgraph.nodes[1:])
