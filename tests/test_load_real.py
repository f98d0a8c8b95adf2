"""Real ImageNet weights by every route: state dict, both ONNX exporters, torch.export, TorchScript, the same integers to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_load_aten import Writer, program, script, trace, written
from test_load_onnx import quiet_export
from torchvision_like import SqueezeNet

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.quantize import store

PHOTOGRAPHS = 8


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["squeezenet1_0", "squeezenet1_1"])
def test_every_route_gives_the_state_dicts_integers(arch: str, data_dir: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((data_dir / "images").iterdir())[:PHOTOGRAPHS]:
        (few / path.name).symlink_to(path)
    weights = data_dir / f"{arch}_imagenet.pt"
    network = SqueezeNet(arch)
    network.load_state_dict({k: v.float() for k, v in torch.load(weights, weights_only=True).items()})
    shape = (1, 3, 224, 224)
    routes = {
        "old": quiet_export(network, shape, tmp_path / "old.onnx", dynamo=False, opset_version=11),
        "new": quiet_export(network, shape, tmp_path / "new.onnx", dynamo=True),
    }
    writers: tuple[Writer, ...] = (program, script, trace)
    for writer in writers:
        (tmp_path / writer.__name__).mkdir()
        routes[writer.__name__] = written(writer, network.eval(), shape, tmp_path / writer.__name__)
    expected = store.to_files(pipeline.quantize_model(weights, str(few), ExportConfig()).qgraph)
    assert len(expected["weights.npz"]) > 1_000_000
    for name, path in routes.items():
        quantized = pipeline.quantize_model(path, str(few), ExportConfig())
        assert quantized.loaded.arch == arch and any("import checked" in line for line in quantized.loaded.assumptions)
        assert store.to_files(quantized.qgraph) == expected, name
