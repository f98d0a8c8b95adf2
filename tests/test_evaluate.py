from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quant_graphs import fire_network, replace_node

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.preprocess import preset
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.simulate.evaluate import evaluate, layer_sqnr, top_k
from fpga_squeeze.simulate.float_model import FloatModel

PIXELS = np.random.default_rng(0).integers(0, 256, size=(11, 3, 21, 21), dtype=np.uint8)


@pytest.fixture(scope="module")
def both() -> tuple[Graph, QuantGraph]:
    graph = fire_network()
    calibration = calibrate(graph, PIXELS)
    return calibration.graph, quantize(calibration.graph, calibration, QuantOptions())


def photos(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{i:04d}.png" for i in range(count)]
    for file, pixels in zip(files, PIXELS, strict=False):
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file)
    return files


def test_top_k_gives_ties_to_the_lower_class() -> None:
    scores = np.array([[1, 7, 7, 0], [-5, -5, -5, -5], [2, 3, 4, 5]])
    assert top_k(scores, 4).tolist() == [[1, 2, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]
    for k in (0, 5):
        with pytest.raises(InputError, match="1 to 4 was expected"):
            top_k(scores, k)


def test_counts_are_those_of_the_two_networks(both: tuple[Graph, QuantGraph], tmp_path: Path) -> None:
    files = photos(tmp_path, 11)
    best = FloatModel(both[0]).run(torch.from_numpy(PIXELS.astype(np.float32))).argmax(1).tolist()
    calls: list[tuple[int, int]] = []
    preprocess = preset("none", 21, 3)
    # two images carry a wrong label
    labels = [c if i > 1 else (c + 1) % 7 for i, c in enumerate(best)]
    result = evaluate(both[0], both[1], preprocess, list(zip(files, labels, strict=True)), lambda done, total: calls.append((done, total)))
    body = result.to_json()
    assert body["count"] == 11
    assert body["float"]["top1"] == pytest.approx(100 * 9 / 11, abs=1e-3)  # type: ignore[index]
    assert result.agreement_top1 >= 80.0
    assert result.fixed_accuracy.top5 >= result.fixed_accuracy.top1
    assert calls == [(8, 11), (11, 11)]


def test_damaged_images_are_skipped_by_name(both: tuple[Graph, QuantGraph], tmp_path: Path) -> None:
    files = photos(tmp_path, 3)
    files[1].write_bytes(b"not a picture")
    result = evaluate(both[0], both[1], preset("none", 21, 3), [(f, 0) for f in files])
    assert result.count == 2
    assert [name for name, _ in result.skipped] == ["0001.png"]
    with pytest.raises(InputError, match="none of the 1 images"):
        evaluate(both[0], both[1], preset("none", 21, 3), [(files[1], 0)])
    with pytest.raises(InputError, match="got none"):
        evaluate(both[0], both[1], preset("none", 21, 3), [])


def test_sqnr_is_high_and_falls_where_a_layer_is_damaged(both: tuple[Graph, QuantGraph]) -> None:
    graph, qgraph = both
    rows = {row.name: row for row in layer_sqnr(graph, qgraph, PIXELS)}
    assert list(rows) == [n.name for n in qgraph.nodes[1:]]
    assert all(row.sqnr_db > 20.0 for row in rows.values())
    assert rows["conv1"].sqnr_db > 35.0
    assert set(rows["conv1"].to_json()) == {"name", "kind", "sqnr_db", "bits", "frac", "signed", "clipped"}
    op = qgraph["fire2.expand3x3"].op
    assert isinstance(op, QConv)
    damaged = {row.name: row for row in layer_sqnr(graph, replace_node(qgraph, "fire2.expand3x3", weight=op.weight // 4), PIXELS)}
    assert damaged["conv1"] == rows["conv1"]
    assert damaged["fire2.expand3x3"].sqnr_db < 10.0
