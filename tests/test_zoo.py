"""The family's tables and modules against published figures, torchvision's keys, and torch itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.squeezenet import build_graph
from fpga_squeeze.load.state_dict import ConvWeights
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.zoo.arch import ARCHS, SQUEEZENET1_0, SQUEEZENET1_1, SQUEEZENET_DIGITS, Arch, conv_shapes, find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet, parameter_count

FIRES = {"squeezenet1_0": (3, 4, 5, 7, 8, 9, 10, 12), "squeezenet1_1": (3, 4, 6, 7, 9, 10, 11, 12)}


def weights_of(model: SqueezeNet, arch: Arch) -> dict[str, ConvWeights]:
    state = model.state_dict()
    return {
        s.name: ConvWeights(state[f"{s.torchvision_prefix}.weight"].double().numpy(), state[f"{s.torchvision_prefix}.bias"].double().numpy())
        for s in conv_shapes(arch)
    }


def zero_weights(arch: Arch) -> dict[str, ConvWeights]:
    return {s.name: ConvWeights(np.zeros(s.weight), np.zeros(s.weight[0])) for s in conv_shapes(arch)}


@pytest.mark.parametrize(("arch", "count"), [(SQUEEZENET1_0, 1_248_424), (SQUEEZENET1_1, 1_235_496)])
def test_parameter_counts_are_the_published_ones(arch: Arch, count: int) -> None:
    assert sum(p.numel() for p in SqueezeNet(arch).parameters()) == count == parameter_count(arch)


@pytest.mark.parametrize("name", sorted(FIRES))
def test_keys_are_torchvisions_in_order(name: str) -> None:
    modules = ["features.0"]
    modules += [f"features.{i}.{part}" for i in FIRES[name] for part in ("squeeze", "expand1x1", "expand3x3")]
    modules += ["classifier.1"]
    assert list(SqueezeNet(name).state_dict()) == [f"{m}.{leaf}" for m in modules for leaf in ("weight", "bias")]


@pytest.mark.parametrize(
    ("arch", "size", "padding", "millions"),
    [
        (SQUEEZENET1_0, 224, 0, 818.92),
        (SQUEEZENET1_0, 227, 0, 832.67),
        (SQUEEZENET1_0, 227, 1, 861.34),
        (SQUEEZENET1_1, 224, 0, 349.15),
        (SQUEEZENET1_1, 227, 0, 387.75),
    ],
)
def test_mac_counts(arch: Arch, size: int, padding: int, millions: float) -> None:
    assert round(build_graph(arch, zero_weights(arch), size, True, padding).macs / 1e6, 2) == millions


def test_digits_model_is_small_and_shows_padding_and_an_overhanging_pool() -> None:
    graph = build_graph(SQUEEZENET_DIGITS, zero_weights(SQUEEZENET_DIGITS), 28, True, 0)
    assert 10_000 <= parameter_count(SQUEEZENET_DIGITS) <= 40_000
    assert 500_000 <= graph.macs <= 1_500_000
    assert graph["conv1"].op.padding == (1, 1, 1, 1)  # type: ignore[union-attr]
    assert graph["pool2"].op.padding == (0, 0, 1, 1)  # type: ignore[union-attr]


def test_pools_stand_where_the_paper_and_torchvision_put_them() -> None:
    assert [p.name for p in SQUEEZENET1_0.pools] == ["pool1", "pool4", "pool8"]
    assert [p.name for p in SQUEEZENET1_1.pools] == ["pool1", "pool3", "pool5"]


@pytest.mark.parametrize("arch", ARCHS, ids=lambda a: a.name)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 3, 40), (3, 11, 47)])
def test_graph_equals_module_for_any_head_size_and_channels(arch: Arch, channels: int, classes: int, size: int) -> None:
    torch.manual_seed(1)
    model = SqueezeNet(arch, classes=classes, in_channels=channels).eval()
    torch.nn.init.normal_(dict(model.named_parameters())["classifier.1.weight"], std=0.3)
    graph = build_graph(arch, weights_of(model, arch), size, True, 0)
    assert graph[graph.output].shape == (classes, 1, 1)
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        expected = model(x)
    assert expected.abs().max() > 0
    torch.testing.assert_close(FloatModel(graph).run(x), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(17, 260), ceil_mode=st.booleans(), arch=st.sampled_from(ARCHS))
def test_pool_shapes_equal_torch(size: int, ceil_mode: bool, arch: Arch) -> None:
    try:
        graph = build_graph(arch, zero_weights(arch), size, ceil_mode, 0)
    except InputError as error:
        assert "--input-size" in str(error)
        return
    for pool in arch.pools:
        source = graph[graph[pool.name].inputs[0]].shape
        expected = torch.nn.functional.max_pool2d(torch.zeros(1, *source), pool.kernel, pool.stride, ceil_mode=ceil_mode)
        assert graph[pool.name].shape == tuple(expected.shape[1:])


def test_bad_choices_are_refused() -> None:
    with pytest.raises(InputError, match="unknown arch 'squeezenet9'; known: squeezenet1_0"):
        find_arch("squeezenet9")
    with pytest.raises(InputError, match="in_channels is 4, expected 1 or 3"):
        SqueezeNet("squeezenet1_1", in_channels=4)
    with pytest.raises(InputError, match="classes is 0"):
        SqueezeNet("squeezenet1_1", classes=0)
