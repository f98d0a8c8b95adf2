"""Each pass on its own, and the whole lowering against the float network it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, BatchNorm, Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Identity, Input, MaxPool, Op, Relu
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.passes import even_signs, fold_preprocess, fuse_relu, lower, remove_identity, split_concat
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.zoo.squeezenet import SqueezeNet

RGB = Preprocess("test", 8, 8, 3, "RGB", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
BGR = Preprocess("test", 8, 8, 3, "BGR", 1.0, (104.0, 117.0, 123.0), (1.0, 2.0, 3.0))
RAW = Preprocess("test", 8, 8, 3, "RGB", 1.0, (0.0,) * 3, (1.0,) * 3)


def conv(oc: int, ic: int, k: int = 1, padding: int = 0, seed: int = 0, stride: int = 1) -> Conv:
    rng = np.random.default_rng(seed)
    return Conv(rng.normal(size=(oc, ic, k, k)), rng.normal(size=oc), stride, (padding,) * 4)


def chain(*ops: Op) -> Graph:
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    for i, op in enumerate(ops):
        x = b.add(f"n{i}", op, (x,))
    return b.build(x)


def pixels(n: int = 2, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)


def assert_lowering_keeps_the_function(graph: Graph, preprocess: Preprocess) -> Graph:
    lowered = lower(graph, preprocess)
    raw = pixels()
    expected = FloatModel(graph).run(preprocess.normalize(raw))
    got = FloatModel(lowered).run(torch.from_numpy(raw).float())
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=float(expected.abs().max()) * 1e-5)
    return lowered


@settings(max_examples=60, deadline=None)
@given(
    preprocess=st.sampled_from([RGB, BGR, RAW]),
    k=st.sampled_from([1, 3, 5]),
    padding=st.integers(0, 2),
    stride=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_preprocessing_folds_exactly_at_the_border_too(preprocess: Preprocess, k: int, padding: int, stride: int, seed: int) -> None:
    graph = chain(conv(4, 3, k, min(padding, k // 2), seed, stride), Relu())
    lowered = assert_lowering_keeps_the_function(graph, preprocess)
    op = lowered["n0"].op
    assert isinstance(op, Conv) and op.relu
    assert (op.pad_value is None) == (not any(op.padding))


def test_pad_value_is_the_mean_pixel_in_rgb_order() -> None:
    op = fold_preprocess(chain(conv(2, 3, 3, 1)), BGR)["n0"].op
    assert isinstance(op, Conv) and op.pad_value == (123.0, 117.0, 104.0)
    op = fold_preprocess(chain(conv(2, 3, 3, 1)), RGB)["n0"].op
    assert isinstance(op, Conv) and op.pad_value == pytest.approx((102.0, 127.5, 153.0))


def test_preprocess_fold_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="n0: MaxPool reads the image"):
        fold_preprocess(chain(MaxPool(2, 2)), RGB)
    with pytest.raises(InputError, match="takes 3 channels, preprocessing grey gives 1"):
        fold_preprocess(chain(conv(2, 3)), Preprocess("grey", 8, 8, 1, "L", 1.0, (0.0,), (1.0,)))
    negative = Preprocess("test", 8, 8, 3, "RGB", 1.0, (-1.0, 0.0, 0.0), (1.0,) * 3)
    with pytest.raises(InputError, match="n0: its zero padding is the pixel value -1"):
        fold_preprocess(chain(conv(2, 3, 3, 1)), negative)
    assert fold_preprocess(chain(conv(2, 3)), negative)


def test_identities_vanish_even_in_chains_and_at_the_end() -> None:
    graph = remove_identity(chain(Identity(), Identity(), conv(4, 3), Identity(), Relu(), Identity(), Identity()))
    assert [n.name for n in graph.nodes] == ["image", "n2", "n4"]
    assert graph.output == "n4"


def test_batchnorm_folds_and_keeps_the_function() -> None:
    rng = np.random.default_rng(1)
    norms = [BatchNorm(rng.normal(size=4), rng.normal(size=4)) for _ in range(2)]
    graph = chain(conv(4, 3, 3, 1), norms[0], norms[1], Relu(), conv(2, 4), GlobalAveragePool())
    assert not any(isinstance(n.op, BatchNorm) for n in assert_lowering_keeps_the_function(graph, RGB).nodes)


@pytest.mark.parametrize("padding", [0, 1])
def test_batchnorm_of_the_image_folds_into_what_reads_it(padding: int) -> None:
    """Preprocessing inside the graph, in two steps, padded in the scaled domain."""
    norms = [BatchNorm(np.ones(3), np.array([-10.0, -20.0, -30.0])), BatchNorm(np.array([0.5, 0.25, 2.0]), np.zeros(3))]
    raw = Preprocess("raw", 8, 8, 3, "RGB", 1.0, (0.0,) * 3, (1.0,) * 3)
    lowered = assert_lowering_keeps_the_function(chain(*norms, conv(4, 3, 3, padding), Relu()), raw)
    assert [n.name for n in lowered.nodes] == ["image", "n2"]
    op = lowered["n2"].op
    assert isinstance(op, Conv) and op.pad_value == ((10.0, 20.0, 30.0) if padding else None)
    # Read by something else it becomes a convolution of its own, of both steps and with the ReLU.
    lowered = assert_lowering_keeps_the_function(chain(*norms, Relu(), conv(4, 3)), raw)
    assert [n.name for n in lowered.nodes] == ["image", "n1", "n3"] and lowered["n1"].op.relu  # type: ignore[union-attr]


def test_relu6_keeps_its_limit_through_pool_concat_and_another_relu() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    both = b.add("concat", Concat(), (b.add("a", conv(2, 3, seed=1), (x,)), b.add("b", conv(3, 3, seed=2), (x,))))
    plain = b.add("relu", Relu(), (b.add("pool", MaxPool(2, 2), (both,)),))
    graph = b.build(b.add("head", conv(2, 5, seed=3), (b.add("relu6", Relu(0.3), (plain,)),)))
    lowered = assert_lowering_keeps_the_function(graph, BGR)
    assert all(lowered[name].op.cap == 0.3 for name in ("a", "b"))  # type: ignore[union-attr]
    lowered = assert_lowering_keeps_the_function(chain(conv(2, 3), Relu(0.6), Relu(0.2), Relu(), conv(2, 2)), RGB)
    assert lowered["n0"].op.cap == 0.2  # type: ignore[union-attr]


def test_relu6_of_its_own_where_the_unlimited_value_is_read_too() -> None:
    b = GraphBuilder()
    x = b.add("relu", Relu(), (b.add("conv", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),)),))
    graph = b.build(b.add("sum", Add(), (x, b.add("relu6", Relu(0.6), (x,)))))
    lowered = assert_lowering_keeps_the_function(graph, RGB)
    op = lowered["relu6"].op
    assert isinstance(op, Conv) and op.relu and op.cap == 0.6 and lowered["conv"].op.cap is None  # type: ignore[union-attr]


def test_batchnorm_elsewhere_becomes_a_convolution() -> None:
    norm = BatchNorm(np.array([0.5, -1.0, 2.0, 0.0]), np.array([1.0, 0.0, -1.0, 3.0]))
    lowered = assert_lowering_keeps_the_function(chain(conv(4, 3), Relu(), norm, Relu(), norm), RGB)
    assert [n.name for n in lowered.nodes] == ["image", "n0", "n2", "n4"] and lowered["n2"].op.relu  # type: ignore[union-attr]
    b = GraphBuilder()
    x = b.add("conv", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),))
    lowered = assert_lowering_keeps_the_function(b.build(b.add("sum", Add(), (x, b.add("norm", norm, (x,))))), RGB)
    weight = lowered["norm"].op.weight  # type: ignore[union-attr]
    assert weight.shape == (4, 4, 1, 1) and np.array_equal(np.diag(weight[:, :, 0, 0]), norm.scale)


def test_relu_fuses_through_pool_and_concat() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    both = b.add("concat", Concat(), (b.add("a", conv(2, 3, seed=1), (x,)), b.add("b", conv(3, 3, seed=2), (x,))))
    graph = b.build(b.add("head", conv(2, 5, seed=3), (b.add("relu", Relu(), (b.add("pool", MaxPool(2, 2), (both,)),)),)))
    lowered = assert_lowering_keeps_the_function(graph, BGR)
    assert all(lowered[name].op.relu for name in ("a", "b"))  # type: ignore[union-attr]
    assert "relu" not in lowered.by_name


def test_relu_on_a_bypass_sum() -> None:
    b = GraphBuilder()
    a = b.add("a.relu", Relu(), (b.add("a", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),)),))
    c = b.add("c.relu", Relu(), (b.add("c", conv(4, 4, 3, 1), (a,)),))
    graph = b.build(b.add("relu", Relu(), (b.add("sum", Add(), (a, c)),)))
    lowered = assert_lowering_keeps_the_function(graph, RGB)
    assert lowered["sum"].op == Add(relu=True)


def test_two_relus_in_a_row_are_one() -> None:
    assert [n.name for n in fuse_relu(chain(conv(2, 3), Relu(), Relu())).nodes] == ["image", "n0"]


@pytest.mark.parametrize("through_pool", [False, True])
def test_relu_of_its_own_where_the_plain_value_is_read_too(through_pool: bool) -> None:
    b = GraphBuilder()
    x = b.add("conv", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),))
    y = b.add("pool", MaxPool(1, 1), (x,)) if through_pool else x
    graph = b.build(b.add("sum", Add(), (x, b.add("relu", Relu(), (y,)))))
    lowered = assert_lowering_keeps_the_function(graph, RGB)
    assert not lowered["conv"].op.relu and lowered["relu"].op.relu  # type: ignore[union-attr]


def test_what_reads_the_image_besides_convolutions_reads_a_copy() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    y = b.add("cat", Concat(), (b.add("pool", MaxPool(3, 1, (1, 1, 1, 1)), (x,)), x, b.add("conv", conv(2, 3), (x,))))
    lowered = assert_lowering_keeps_the_function(b.build(b.add("last", conv(4, 8), (y,))), BGR)
    assert not lowered["conv"].op.relu  # type: ignore[union-attr]
    c = GraphBuilder()
    x = c.add("image", Input((3, 8, 8)), ())
    mixed = c.build(c.add("cat", Concat(), (x, c.add("relu", Relu(), (c.add("conv", conv(2, 3), (x,)),)))))
    assert {n.name for n in assert_lowering_keeps_the_function(mixed, BGR).nodes} == {"image", "image.values", "conv", "cat.conv", "cat"}
    assert {r.name for r in lowered.consumers("image")} == {"image.values", "conv"}
    assert_lowering_keeps_the_function(chain(MaxPool(2, 2), conv(4, 3)), RGB)


def test_operands_of_a_concat_get_one_sign() -> None:
    b = GraphBuilder()
    x = b.add("stem", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),))
    x = b.add("relu", Relu(), (x,))
    plain = b.add("plain", conv(2, 4, seed=2), (x,))
    both = b.add("cat", Concat(), (b.add("r", Relu(), (b.add("a", conv(3, 4, seed=3), (x,)),)), plain, x))
    graph = b.build(b.add("last", conv(2, 9, seed=4), (both,)))
    lowered = assert_lowering_keeps_the_function(graph, RGB)
    copies = [n for n in lowered.nodes if n.name.startswith("cat.") and isinstance(n.op, Conv)]
    assert {n.inputs[0] for n in copies} == {"a", "stem"} and not any(n.op.relu for n in copies)  # type: ignore[union-attr]
    assert lowered["a"].op.relu and not lowered["plain"].op.relu  # type: ignore[union-attr]
    alike = chain(conv(4, 3), Relu(), conv(2, 4))
    assert [n.name for n in even_signs(alike).nodes] == [n.name for n in alike.nodes]


def test_operands_of_a_concat_get_one_limit() -> None:
    """A limit is the largest integer of its format, so an operand without it cannot share that format."""
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    low, high = b.add("low", Relu(0.4), (b.add("a", conv(2, 3, seed=1), (x,)),)), b.add("high", Relu(), (b.add("b", conv(3, 3, seed=2), (x,)),))
    graph = b.build(b.add("last", conv(2, 5, seed=3), (b.add("cat", Concat(), (low, high)),)))
    lowered = assert_lowering_keeps_the_function(graph, RGB)
    copy = lowered["cat.a"].op
    assert isinstance(copy, Conv) and copy.relu and copy.cap is None
    assert lowered["a"].op.cap == 0.4 and lowered["b"].op.cap is None and lowered["cat"].inputs == ("cat.a", "b")  # type: ignore[union-attr]


def test_copies_of_operands_have_names_of_their_own() -> None:
    b = GraphBuilder()
    x = b.add("image", Input((3, 8, 8)), ())
    r = [b.add(name, Relu(), (b.add(f"{name}0", conv(2, 3, seed=i), (x,)),)) for i, name in enumerate(("b.c", "c"))]
    plain = b.add("plain", conv(2, 3, seed=7), (x,))
    first, second = b.add("a", Concat(), (r[0], plain)), b.add("a.b", Concat(), (r[1], plain))
    graph = b.build(b.add("sum", Add(), (first, second)))
    assert_lowering_keeps_the_function(graph, RGB)


def test_relu_on_the_image_has_its_own_and_after_the_mean_is_refused() -> None:
    lowered = assert_lowering_keeps_the_function(chain(Relu(), conv(2, 3)), RGB)
    assert lowered["n0"].op.relu  # type: ignore[union-attr]
    with pytest.raises(InputError, match="n2: ReLU after n1 \\(GlobalAveragePool\\)"):
        fuse_relu(chain(conv(2, 3), GlobalAveragePool(), Relu()))


def test_passes_leave_their_input_alone() -> None:
    first = conv(4, 3, 3, 1)
    before = first.weight.copy(), first.bias.copy()
    lower(chain(first, Relu()), RGB)
    np.testing.assert_array_equal(first.weight, before[0])
    np.testing.assert_array_equal(first.bias, before[1])


@pytest.mark.parametrize(("arch", "choice", "size"), [("squeezenet1_0", "caffe", 63), ("squeezenet1_1", "torchvision", 64), ("squeezenet_digits", None, 28)])
def test_whole_networks(tmp_path: Path, arch: str, choice: str | None, size: int) -> None:
    torch.manual_seed(2)
    torch.save(SqueezeNet(arch).state_dict(), tmp_path / "m.pt")
    model = load_model(tmp_path / "m.pt", LoadOptions(preprocess=choice, input_size=size))
    lowered = lower(model.graph, model.preprocess)
    raw = np.random.default_rng(0).integers(0, 256, (2, *model.graph.input.shape), dtype=np.uint8)
    expected = FloatModel(model.graph).run(model.preprocess.normalize(raw))
    got = FloatModel(lowered).run(torch.from_numpy(raw).float())
    assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert lowered.macs == model.graph.macs


# ---------------------------------------------------------------- split_concat


def inception(order: tuple[int, ...]) -> Graph:
    """Four branches of one tensor in one Concat, in `order`: 1x1, 3x3, 5x5, a pool with a 1x1 behind."""
    b = GraphBuilder()
    x = b.add("stem", conv(4, 3), (b.add("image", Input((3, 8, 8)), ()),))
    branches = [b.add(f"k{k}", conv(k, 4, k, k // 2, seed=k), (x,)) for k in (1, 3, 5)]
    branches.append(b.add("pooled", conv(2, 4, seed=9), (b.add("pool", MaxPool(3, 1, (1, 1, 1, 1)), (x,)),)))
    return b.build(b.add("cat", Concat(), tuple(branches[i] for i in order)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1), (3, 1, 0, 2), (1, 0), (1, 2, 0)])
def test_wide_concats_are_split_around_the_branch_that_comes_last_and_keep_their_channels(order: tuple[int, ...]) -> None:
    graph = inception(order) if len(order) == 4 else chain_of(order)
    split = split_concat(graph)
    assert all(len(n.inputs) == 2 for n in split.nodes if isinstance(n.op, Concat)) and split.output == "cat"
    values = torch.from_numpy(pixels()).float()
    assert torch.equal(FloatModel(split).run(values), FloatModel(graph).run(values))
    if len(order) == 4:
        assert [n.name for n in split.nodes if isinstance(n.op, Concat)] == ["cat.join1", "cat.join2", "cat"]
        assert "k5" in split["cat.join1"].inputs, "the 5x5 convolution looks two rows ahead"
    else:
        assert len(order) > 2 or split is graph


def chain_of(order: tuple[int, ...]) -> Graph:
    """A dense chain: each layer's input and results, in `order`, in one Concat; other layers read them too."""
    b = GraphBuilder()
    x = [b.add("stem", conv(2, 3), (b.add("image", Input((3, 8, 8)), ()),))]
    for i in range(max(order)):
        x.append(b.add(f"layer{i}", conv(2, 2, 3, 1, seed=i), (x[-1],)))
    return b.build(b.add("cat", Concat(), tuple(x[i] for i in order)))


def test_names_of_split_concats_do_not_meet_those_of_layers() -> None:
    b = GraphBuilder()
    x = b.add("cat.join1", conv(2, 3), (b.add("image", Input((3, 8, 8)), ()),))
    y = b.add("a", conv(2, 2, 3, 1), (x,))
    split = split_concat(b.build(b.add("cat", Concat(), (x, y, b.add("b", conv(2, 2, 3, 1), (y,))))))
    assert [n.name for n in split.nodes if isinstance(n.op, Concat)] == ["cat.join1_", "cat"]
