"""torch.export programs and TorchScript archives in: read without running their code, checked against torch's own operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision_like import SqueezeNet

from fpga_squeeze import passes
from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.load.model import LoadedModel, LoadOptions, load_model
from fpga_squeeze.quantize import store
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.verify.source_check import check_source
from fpga_squeeze.zoo import embedded_model_path


class Plain(nn.Module):
    """Unfused BatchNorm, ReLU6, a ceil-mode pool, a linear layer after the mean, log_softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        )  # fmt: skip
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x).mean((2, 3))
        return F.log_softmax(self.fc(x), 1)


class LeNet(nn.Module):
    """view(x.size(0), -1) before linear layers, dropout, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 8, 3)
        self.f1, self.f2 = nn.Linear(72, 12), nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        x = F.dropout(F.relu(self.f1(x.view(x.size(0), -1))), training=self.training)
        return F.softmax(self.f2(x), dim=1)


class Block(nn.Module):
    """A residual block that adds and rectifies in place."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.b, self.nb = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.nb(self.b(F.relu(self.na(self.a(x)), inplace=True)))
        y += self.down(x)
        return F.relu(y, inplace=True)


class Residual(nn.Module):
    """A small ResNet; the pad is an operator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 7, 2), nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.stem(F.pad(x, [3, 3, 3, 3]))), 3, 2, 1)
        return self.fc(torch.flatten(self.pool(self.blocks(x)), 1))


def settled(kind: type[nn.Module]) -> nn.Module:
    """A seeded network in inference mode whose batch statistics are not trivial."""
    torch.manual_seed(0)
    network = kind().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def program(network: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    torch.export.save(torch.export.export(network, (torch.zeros(shape),)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def core_program(network: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    torch.export.save(torch.export.export(network, (torch.zeros(shape),)).run_decompositions(), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


def script(network: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    torch.jit.script(network).save(str(path))
    return path


def trace(network: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    torch.jit.trace(network, torch.zeros(shape)).save(str(path))
    return path


def frozen(network: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    torch.jit.freeze(torch.jit.script(network)).save(str(path))
    return path


Writer = Callable[[nn.Module, tuple[int, ...], Path], Path]
WRITERS: tuple[Writer, ...] = (program, core_program, script, trace, frozen)


def written(writer: Writer, network: nn.Module, shape: tuple[int, ...], folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's deprecation notes
        return writer(network, shape, folder / "model.pt")


def checked(path: Path, options: LoadOptions) -> LoadedModel:
    model = load_model(path, options)
    assert model.source is not None
    pixels = np.random.default_rng(1).integers(0, 256, (2, *model.graph.input.shape), dtype=np.uint8)
    assert check_source(model.graph, model.source, model.preprocess, pixels).runner == "torch's own operators"
    return model


@pytest.mark.parametrize("writer", WRITERS, ids=lambda w: w.__name__)
@pytest.mark.parametrize("kind", [Plain, LeNet, Residual])
def test_networks_that_are_no_squeezenets(kind: type[nn.Module], writer: Writer, tmp_path: Path) -> None:
    """The importer's own check, and the live module beside it."""
    network = settled(kind)
    model = checked(written(writer, network, (1, 3, 20, 20), tmp_path), LoadOptions(input_size=20))
    assert model.arch == "graph"
    x = torch.randn(3, 3, 20, 20)
    scores = FloatModel(model.graph).run(x)
    expected = network(x)
    if kind is Plain:
        scores = torch.log_softmax(scores, 1)
    elif kind is LeNet:
        scores = torch.softmax(scores, 1)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert passes.lower(model.graph, model.preprocess).nodes


@pytest.mark.parametrize("writer", WRITERS, ids=lambda w: w.__name__)
def test_the_family_gives_the_state_dicts_graph(writer: Writer, tmp_path: Path) -> None:
    network = SqueezeNet("squeezenet_digits").eval()
    network.load_state_dict(torch.load(embedded_model_path(), weights_only=True))
    model = checked(written(writer, network, (1, 1, 28, 28), tmp_path), LoadOptions(input_size=28))
    assert (model.arch, model.classes) == ("squeezenet_digits", 10)
    expected = load_model(embedded_model_path())
    assert store.float_to_files(passes.lower(model.graph, model.preprocess)) == store.float_to_files(passes.lower(expected.graph, expected.preprocess))


def test_an_open_batch_dimension(tmp_path: Path) -> None:
    batch = torch.export.Dim("n")
    torch.export.save(torch.export.export(settled(LeNet), (torch.zeros(2, 3, 20, 20),), dynamic_shapes=({0: batch},)), tmp_path / "m.pt2")
    model = checked(tmp_path / "m.pt2", LoadOptions())
    assert any("batch 1 for the open batch dimension" in line for line in model.assumptions)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = written(program, settled(LeNet), (1, 3, 20, 20), tmp_path)
    assert load_model(path.rename(tmp_path / "model.onnx")).arch == "graph"
    script_path = written(script, settled(LeNet), (1, 3, 20, 20), tmp_path)
    model = load_model(script_path.rename(tmp_path / "weights.pth"), LoadOptions(input_size=20))
    assert model.arch == "graph" and not any("input 20x20" in line for line in model.assumptions)


def test_torchscript_without_a_size_assumes_one(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = load_model(written(script, network.eval(), (1, 3, 8, 8), tmp_path))
    assert model.graph.input.shape == (3, 224, 224) and any("input 224x224" in line for line in model.assumptions)


def test_a_network_left_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = written(script, Plain().train(), (1, 3, 20, 20), tmp_path)
    with pytest.raises(InputError, match="changes a tensor of the network itself; export the network for inference"):
        load_model(path, LoadOptions(input_size=20))


class Aliasing(nn.Module):
    """Changes a tensor through a view of it: what a graph of values cannot show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        torch.relu_(y.flatten(1))
        return y.mean((2, 3))


def test_the_check_finds_what_the_importer_cannot_see(tmp_path: Path) -> None:
    model = load_model(written(script, Aliasing().eval(), (1, 3, 8, 8), tmp_path), LoadOptions(input_size=8))
    assert model.source is not None
    with pytest.raises(InputError, match="differs from the file's network"):
        check_source(model.graph, model.source, model.preprocess, np.zeros((1, 3, 8, 8), dtype=np.uint8))


def test_a_changed_bias_is_found_and_named(tmp_path: Path) -> None:
    model = load_model(written(program, settled(Residual), (1, 3, 20, 20), tmp_path))
    assert model.source is not None
    op = model.graph["blocks.0.b"].op
    assert isinstance(op, Conv)
    nodes = tuple(replace(n, op=replace(op, bias=op.bias + 0.01)) if n.name == "blocks.0.b" else n for n in model.graph.nodes)
    with pytest.raises(InputError, match=r"layer blocks\.0\.b: the imported graph differs"):
        check_source(Graph(nodes, model.graph.output), model.source, model.preprocess, np.zeros((1, 3, 20, 20), dtype=np.uint8))
