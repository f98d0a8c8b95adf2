from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_graphs import fire_network

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, BatchNorm, Conv, GlobalAveragePool, Graph, GraphBuilder, Identity, Input, MaxPool, Relu, ceil_mode_extra
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.simulate.tensor_ops import max_pool, pad_channels


def unfused_graph() -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.add("image", Input((2, 6, 6)), ())
    x = b.add("conv", Conv(rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4), 1, (1, 1, 1, 1)), (x,))
    x = b.add("norm", BatchNorm(rng.standard_normal(4), rng.standard_normal(4)), (x,))
    relu = b.add("relu", Relu(), (x,))
    x = b.add("drop", Identity(), (relu,))
    x = b.add("add", Add(), (x, relu))
    return b.build(b.add("mean", GlobalAveragePool(), (x,)))


def test_every_operator_of_an_unfused_graph() -> None:
    graph = unfused_graph()
    conv, norm = graph["conv"].op, graph["norm"].op
    assert isinstance(conv, Conv) and isinstance(norm, BatchNorm)
    x = torch.randn(3, 2, 6, 6)
    y = F.conv2d(x.double(), torch.from_numpy(conv.weight), torch.from_numpy(conv.bias), padding=1)
    y = y * torch.from_numpy(norm.scale).view(1, 4, 1, 1) + torch.from_numpy(norm.offset).view(1, 4, 1, 1)
    expected = 2 * y.relu().mean((2, 3))
    model = FloatModel(graph)
    torch.testing.assert_close(model.run(x).double(), expected, rtol=1e-4, atol=1e-4)
    trace = model.trace(x)
    assert set(trace) == {n.name for n in graph.nodes}
    assert (trace["norm"] < 0).any(), "a trace must hold what stood before the ReLU"


def test_run_leaves_the_image_alone_and_equals_the_trace() -> None:
    model = FloatModel(fire_network())
    x = torch.rand(2, 3, 21, 21) * 255
    before = x.clone()
    assert torch.equal(model.run(x), model.trace(x)["pool10"].flatten(1))
    assert torch.equal(x, before)


def test_pad_value_is_what_surrounds_the_image() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((2, 3, 3)), ())
    weight = np.ones((1, 2, 3, 3))
    graph = b.build(b.add("conv", Conv(weight, np.zeros(1), 1, (1, 1, 1, 1), False, (7.0, 11.0)), (x,)))
    y = FloatModel(graph).trace(torch.zeros(1, 2, 3, 3))["conv"]
    assert y[0, 0].tolist() == [[90.0, 54.0, 90.0], [54.0, 0.0, 54.0], [90.0, 54.0, 90.0]]


def test_wrong_image_size_is_refused() -> None:
    with pytest.raises(InputError, match="takes images of shape"):
        FloatModel(fire_network()).run(torch.zeros(1, 3, 8, 8))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3))
def test_max_pool_equals_explicit_minus_infinity(seed: int, kernel: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    padding = tuple(int(v) for v in rng.integers(0, kernel, size=4))
    x = torch.from_numpy(-rng.random((1, 2, int(rng.integers(kernel, 9)), int(rng.integers(kernel, 9)))).astype(np.float32))
    top, left, bottom, right = padding
    expected = F.max_pool2d(F.pad(x, (left, right, top, bottom), value=float("-inf")), kernel, stride)
    assert torch.equal(max_pool(x, kernel, stride, padding), expected)


@pytest.mark.parametrize("size", [6, 7, 8, 9, 12])
def test_ceil_mode_as_torch(size: int) -> None:
    x = torch.randn(1, 1, size, size)
    extra = ceil_mode_extra(size, 3, 2, 0)
    assert torch.equal(max_pool(x, 3, 2, (0, 0, extra, extra)), F.max_pool2d(x, 3, 2, ceil_mode=True))


def test_channel_padding_keeps_the_layout() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    y = pad_channels(x, (1, 2, 0, 1), torch.tensor([1.0, 2.0, 3.0]))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert y.shape == (2, 3, 5, 8)
    assert torch.equal(y[:, :, 1:, 2:7], x)
    assert y[0, :, 0, 0].tolist() == [1.0, 2.0, 3.0]


def test_pool_op_in_a_graph_has_the_recorded_shape() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((1, 7, 8)), ())
    graph = b.build(b.add("pool", MaxPool(3, 2, (0, 0, 0, 1)), (x,)))
    assert tuple(FloatModel(graph).trace(torch.randn(1, 1, 7, 8))["pool"].shape[1:]) == graph["pool"].shape
