from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from quant_graphs import fire_network, replace_node

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.quantize import store
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator


@pytest.fixture(scope="module")
def both() -> tuple[Graph, QuantGraph]:
    graph = fire_network()
    pixels = np.random.default_rng(0).integers(0, 256, size=(9, 3, 21, 21), dtype=np.uint8)
    return graph, quantize(graph, calibrate(graph, pixels), QuantOptions())


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_round_trip_is_exact(both: tuple[Graph, QuantGraph], tmp_path: Path) -> None:
    graph, qgraph = both
    write(tmp_path, {**store.to_files(qgraph), **store.float_to_files(graph)})
    again, float_again = store.from_files(tmp_path), store.float_from_files(tmp_path)
    assert store.to_files(again) == store.to_files(qgraph)
    assert store.float_to_files(float_again) == store.float_to_files(graph)
    pixels = np.random.default_rng(1).integers(0, 256, size=(3, 3, 21, 21), dtype=np.uint8)
    assert np.array_equal(FastSimulator(again).run(pixels), FastSimulator(qgraph).run(pixels))
    assert [n.fmt for n in again.nodes] == [n.fmt for n in qgraph.nodes]


def test_names_and_plain_numpy(both: tuple[Graph, QuantGraph]) -> None:
    files = store.to_files(both[1])
    assert set(files) == {"graph.json", "weights.npz"}
    with np.load(io.BytesIO(files["weights.npz"]), allow_pickle=False) as archive:
        assert archive["conv1.weight"].dtype == np.int32
        assert archive["conv1.bias"].dtype == np.int64


@pytest.mark.parametrize("name", ["graph.json", "weights.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_damaged_files_are_named(both: tuple[Graph, QuantGraph], tmp_path: Path, name: str, damage: str) -> None:
    files = store.to_files(both[1])
    content = files[name]
    write(tmp_path, files)
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(InputError, match=name):
        store.from_files(tmp_path)


def test_other_version_and_unknown_operator(both: tuple[Graph, QuantGraph], tmp_path: Path) -> None:
    write(tmp_path, store.to_files(both[1]))
    body = json.loads((tmp_path / "graph.json").read_text())
    (tmp_path / "graph.json").write_text(json.dumps({**body, "version": 99}))
    with pytest.raises(InputError, match="version 1 was expected, got 99"):
        store.from_files(tmp_path)
    body["nodes"][1]["op"] = "QMystery"
    (tmp_path / "graph.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="QMystery"):
        store.from_files(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acc_bits": 9}, "do not fit the recorded 9 bits"),
        ({"weight_bits": 4}, "does not fit 4 bits"),
        ({"pad_value": (0,)}, "one pad value per input channel"),
        ({"shift": np.zeros(8, dtype=np.int64)}, "a shift differs"),
        ({"bias": np.zeros(3, dtype=np.int64)}, "one scale, bias and shift"),
        ({"stride": 1}, "shape"),
    ],
)
def test_illegal_graphs_are_refused(both: tuple[Graph, QuantGraph], change: dict[str, object], message: str) -> None:
    assert isinstance(both[1]["conv1"].op, QConv)
    verify_quantized(both[1])
    with pytest.raises(InputError, match=f"layer conv1: .*{message}"):
        verify_quantized(replace_node(both[1], "conv1", **change))
