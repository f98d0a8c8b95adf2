"""ONNX in: what other frameworks and torch's two exporters write becomes the same function, checked against ONNX Runtime."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import RunCli
from onnx import TensorProto, numpy_helper
from onnx_models import Net, plain

from fpga_squeeze import passes, pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, Graph, MaxPool, Relu
from fpga_squeeze.load.model import LoadedModel, LoadOptions, load_model
from fpga_squeeze.quantize import store
from fpga_squeeze.quantize.qgraph import QConcat, QConv
from fpga_squeeze.simulate.evaluate import layer_sqnr
from fpga_squeeze.verify.source_check import check_source
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from fpga_squeeze.zoo.squeezenet import SqueezeNet


def checked(path: Path, options: LoadOptions | None = None) -> LoadedModel:
    """The model, held against ONNX Runtime."""
    model = load_model(path, options)
    assert model.source is not None
    pixels = np.random.default_rng(1).integers(0, 256, (2, *model.graph.input.shape), dtype=np.uint8)
    result = check_source(model.graph, model.source, model.preprocess, pixels)
    assert result.images == 4 and result.runner.startswith("ONNX Runtime")
    return model


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes]


def channels_last() -> tuple[Net, str]:
    """As Keras exports: NHWC input, transposes around each convolution, biases added channels-last, means over dimensions 1 and 2."""
    n = Net((1, 8, 8, 3))
    x = n.node("Transpose", "x", perm=[0, 3, 1, 2])
    x = n.node("Conv", x, n.random(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    x = n.node("Transpose", x, perm=[0, 2, 3, 1])
    x = n.node("Relu", n.node("Add", x, n.random(4)))
    x = n.node("Transpose", n.node("MaxPool", n.node("Transpose", x, perm=[0, 3, 1, 2]), kernel_shape=[2, 2], strides=[2, 2]), perm=[0, 2, 3, 1])
    x = n.node("ReduceMean", x, axes=[1, 2], keepdims=0)
    return n, n.node("Softmax", n.node("Add", n.node("MatMul", x, n.random(4, 5)), n.random(5)))


def unfused() -> tuple[Net, str]:
    """Batch normalization by itself, before the ReLU."""
    n = Net()
    x = n.node("Conv", "x", n.random(4, 3, 3, 3), pads=[1] * 4)
    statistics = [n.const(np.linspace(0.5, 2.0, 4)), n.random(4), n.random(4), n.const(np.linspace(0.1, 3.0, 4))]
    return n, n.head(n.node("Relu", n.node("BatchNormalization", x, *statistics, epsilon=1e-3)), 4)


def pad_nodes() -> tuple[Net, str]:
    """Zeros as Pad nodes before a convolution and, where nothing is negative, before a pool."""
    n = Net()
    x = n.node("Pad", "x", n.const(np.array([0, 0, 1, 0, 0, 0, 1, 2])))
    x = n.node("Relu", n.conv(x, 4, 3))
    x = n.node("Pad", x, n.const(np.array([0, 0, 0, 1, 0, 0, 1, 0])), n.const(np.float32(0.0)), mode="constant")
    return n, n.head(n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]), 4)


def auto_pad(mode: str, size: int) -> Callable[[], tuple[Net, str]]:
    def build() -> tuple[Net, str]:
        n = Net((1, 3, size, size))
        x = n.node("Relu", n.conv("x", 4, 3, 3, auto_pad=mode, strides=[2, 2]))
        return n, n.head(n.node("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1], auto_pad=mode), 4)

    return build


def ceil_mode(pads: list[int]) -> Callable[[], tuple[Net, str]]:
    def build() -> tuple[Net, str]:
        n = Net((1, 3, 9, 9))
        x = n.node("Relu", n.conv("x", 4, 3))
        return n, n.head(n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=pads), 4)

    return build


def constants_as_nodes() -> tuple[Net, str]:
    """Weights as Constant nodes, one of them computed: transposed and scaled."""
    n = Net()
    rng = np.random.default_rng(3)
    w = n.node("Constant", value=numpy_helper.from_array(rng.normal(size=(3, 4, 3, 3)).astype(np.float32) / 4))
    w = n.node("Mul", n.node("Transpose", w, perm=[1, 0, 2, 3]), n.node("Constant", value_float=0.5))
    return n, n.head(n.node("Relu", n.node("Conv", "x", w)), 4)


def open_flatten() -> tuple[Net, str]:
    """view(x.size(0), -1) as the old exporter writes it, before a linear layer on a 4x4 map: a 4x4 convolution."""
    n = plain()
    batch = n.node("Unsqueeze", n.node("Gather", n.node("Shape", "pool_out"), n.const(np.array(0)), axis=0), n.const(np.array([0])))
    flat = n.node("Reshape", "pool_out", n.node("Concat", batch, n.const(np.array([-1])), axis=0))
    hidden = n.node("Relu", n.node("Gemm", flat, n.random(7, 64), n.random(7), transB=1))
    return n, n.node("Gemm", hidden, n.random(7, 5), n.const(np.float32(0.25)), alpha=0.5, beta=2.0)


def channels_last_flatten() -> tuple[Net, str]:
    """A channels-last map flattened: the weights' rows count height, width, channel."""
    n = plain()
    x = n.node("Flatten", n.node("Transpose", "pool_out", perm=[0, 2, 3, 1]), axis=1)
    return n, n.node("MatMul", x, n.random(64, 5))


def residual() -> tuple[Net, str]:
    n = plain()
    y = n.conv(n.node("Relu", n.conv("pool_out", 4, 4, 3, pads=[1] * 4)), 4, 4, 3, pads=[1] * 4)
    x = n.node("Relu", n.node("Sum", "pool_out", y, n.conv("pool_out", 4, 4, 1)))
    return n, n.node("Squeeze", n.head(x, 4), n.const(np.array([2, 3])))


def linear_after_the_mean() -> tuple[Net, str]:
    n = plain()
    x = n.node("AveragePool", n.conv("pool_out", 6, 4, 1), kernel_shape=[4, 4])
    x = n.node("Dropout", n.node("Identity", n.node("Flatten", x)))
    x = n.node("Gemm", x, n.random(6, 5), n.random(5))
    return n, n.node("LogSoftmax", n.node("Mul", x, n.const(np.float32(3.0))), axis=-1)


def relu_spellings() -> tuple[Net, str]:
    """Clip without an upper limit, a huge one, Max with 0, and ReLU6."""
    n = Net()
    x = n.node("Clip", n.conv("x", 4, 3), n.const(np.float32(0.0)))
    x = n.node("Max", n.const(np.float32(0.0)), n.conv(x, 4, 4))
    return n, n.head(n.node("Clip", n.conv(x, 4, 4), n.const(np.float32(0.0)), n.const(np.float32(0.75))), 4)


def scaled_input() -> tuple[Net, str]:
    """Preprocessing inside the graph."""
    n = Net()
    mean, deviation = np.array([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1), np.array([0.2, 0.3, 0.4]).reshape(3, 1, 1)
    x = n.node("Div", n.node("Sub", "x", n.const(mean)), n.const(deviation))
    return n, n.head(n.node("Relu", n.conv(x, 4, 3, 3, pads=[1] * 4)), 4)


def one_channel_axes() -> tuple[Net, str]:
    """A map of one channel, joined and averaged: axes of size 1 must not be confused."""
    n = Net((1, 1, 8, 8))
    parts = [n.node("Relu", n.conv("x", 1, 1, 1)) for _ in range(3)]
    return n, n.node("ReduceMean", n.node("Concat", *parts, axis=-3), axes=[-1, -2], keepdims=1)


CASES = {
    "channels_last": channels_last, "unfused": unfused, "pad_nodes": pad_nodes, "same_upper": auto_pad("SAME_UPPER", 8),
    "same_lower": auto_pad("SAME_LOWER", 8), "valid": auto_pad("VALID", 9), "ceil": ceil_mode([0] * 4), "ceil_padded": ceil_mode([1, 1, 1, 1]),
    "ceil_one_side": ceil_mode([1, 0, 0, 1]),
    "constants_as_nodes": constants_as_nodes, "open_flatten": open_flatten, "channels_last_flatten": channels_last_flatten, "residual": residual,
    "linear_after_the_mean": linear_after_the_mean, "relu_spellings": relu_spellings, "scaled_input": scaled_input, "one_channel_axes": one_channel_axes,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_frameworks_write_is_the_same_function(case: Callable[[], tuple[Net, str]], tmp_path: Path) -> None:
    net, output = case()
    model = checked(net.save(tmp_path / "m.onnx", output))
    assert model.arch == "graph" and kinds(model.graph)[-1] == "GlobalAveragePool"


def test_the_rewrites_are_what_the_machine_builds(tmp_path: Path) -> None:
    net, output = open_flatten()
    graph = load_model(net.save(tmp_path / "m.onnx", output)).graph
    weights = [n.op.weight.shape for n in graph.nodes if isinstance(n.op, Conv)]
    assert weights == [(4, 3, 3, 3), (7, 4, 4, 4), (5, 7, 1, 1)]
    net, output = linear_after_the_mean()
    model = load_model(net.save(tmp_path / "m.onnx", output))
    assert kinds(model.graph)[-4:] == ["Conv", "Conv", "BatchNorm", "GlobalAveragePool"], "linear layers move before the mean"
    assert any("LogSoftmax at the end is left out" in line for line in model.assumptions)
    net, output = pad_nodes()
    graph = load_model(net.save(tmp_path / "m.onnx", output)).graph
    assert [n.op.padding for n in graph.nodes if isinstance(n.op, Conv | MaxPool)] == [(1, 0, 1, 2), (0, 1, 1, 0), (0, 0, 0, 0)]


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 15, 18, 21, onnx.defs.onnx_opset_version()])
def test_operator_sets(opset: int, tmp_path: Path) -> None:
    """Where attributes became inputs and axes were counted anew."""
    n = plain(opset=opset)
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    x = n.node("Pad", "pool_out", pads=pads) if opset < 11 else n.node("Pad", "pool_out", n.const(np.array(pads)))
    x = n.conv(x, 6, 4)
    x = n.node("Clip", x, min=0.0, max=6.0) if opset < 11 else n.node("Clip", x, n.const(np.float32(0)), n.const(np.float32(6)))
    x = n.node("ReduceMean", x, axes=[2, 3]) if opset < 18 else n.node("ReduceMean", x, n.const(np.array([2, 3])))
    x = n.node("Squeeze", x, axes=[2, 3]) if opset < 13 else n.node("Squeeze", x, n.const(np.array([2, 3])))
    x = n.node("Softmax", n.node("Dropout", n.node("Gemm", x, n.random(6, 5), n.random(5))))
    model = n.model(x)
    model.ir_version = 3 if opset < 9 else 10
    path = tmp_path / "m.onnx"
    if opset < 9:  # initializers were inputs too
        model.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in n.initializers)
    path.write_bytes(model.SerializeToString())
    assert [n.op for n in checked(path).graph.nodes if isinstance(n.op, Relu)] == [Relu(), Relu(6.0)]


def test_half_precision(tmp_path: Path) -> None:
    n = Net(elem_type=TensorProto.FLOAT16)
    model = checked(n.save(tmp_path / "m.onnx", n.head(n.node("Relu", n.conv("x", 4, 3)), 4)))
    assert model.graph["classifier"].op.weight.dtype == np.float64  # type: ignore[union-attr]


def test_nodes_in_any_order(tmp_path: Path) -> None:
    net, output = residual()
    net.nodes.reverse()
    checked(net.save(tmp_path / "m.onnx", output))


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    net, output = residual()
    (tmp_path / "weights").mkdir()
    onnx.save_model(net.model(output), tmp_path / "m.onnx", save_as_external_data=True, location="weights/all.bin", size_threshold=0)
    outside, inside = checked(tmp_path / "m.onnx").graph, checked(net.save(tmp_path / "n.onnx", output)).graph
    for a, b in zip(outside.nodes, inside.nodes, strict=True):
        assert a.name == b.name and (not isinstance(a.op, Conv) or np.array_equal(a.op.weight, b.op.weight))  # type: ignore[union-attr]


@pytest.mark.parametrize(("batch", "size"), [("N", "H"), ("", "")])
def test_open_batch_and_size(batch: str, size: str, tmp_path: Path) -> None:
    n = Net((batch, 3, size or 8, size or 8))
    path = n.save(tmp_path / "m.onnx", n.head(n.node("Relu", n.conv("x", 4, 3)), 4))
    if size:
        with pytest.raises(InputError, match="height and width are open; give --input-size"):
            load_model(path)
    model = checked(path, LoadOptions(input_size=12 if size else None))
    assert model.graph.input.shape == ((3, 12, 12) if size else (3, 8, 8))
    assert any("batch 1 for the open batch dimension" in line for line in model.assumptions)


def test_options_that_contradict_the_file(tmp_path: Path) -> None:
    n = Net()
    path = n.save(tmp_path / "m.onnx", n.head(n.conv("x", 4, 3), 4))
    for options, text in (
        (LoadOptions(input_size=9), "takes 8x8 pixels but --input-size says 9"), (LoadOptions(ceil_mode=True), "--ceil-mode/--floor-mode is for state dicts"),
        (LoadOptions(conv10_padding=1), "--conv10-padding is for state dicts"), (LoadOptions("squeezenet1_1"), "the graph is no member of the family"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            load_model(path, options)
    with pytest.raises(InputError, match="it is a state dict; name its architecture"):
        load_model(embedded_model_path(), LoadOptions("graph"))


def test_every_unsupported_node_is_named_at_once(tmp_path: Path) -> None:
    n = Net()
    x = n.node("Sigmoid", n.conv("x", 4, 3), name="squash")
    x = n.node("Conv", x, n.random(4, 2, 3, 3), name="grouped", group=2)
    x = n.node("Conv", x, n.random(4, 4, 3, 3), name="wide", dilations=[2, 2])
    x = n.node("MaxPool", x, name="flat", kernel_shape=[2, 1])
    with pytest.raises(InputError) as caught:
        load_model(n.save(tmp_path / "m.onnx", n.head(x, 4)))
    text = str(caught.value)
    assert "4 of 8 operators" in text and "\n" not in text
    for part in ("Sigmoid 'squash': no such operator", "Conv 'grouped': 2 groups", "Conv 'wide': dilation 2x2", "MaxPool 'flat': a window of 2x1"):
        assert part in text


def test_a_changed_weight_and_a_changed_limit_are_found_and_named(tmp_path: Path) -> None:
    """The check itself must be able to fail, and name the first layer that differs."""
    net, output = residual()
    model = load_model(net.save(tmp_path / "m.onnx", output))
    assert model.source is not None
    pixels = np.full((1, 3, 8, 8), 90, dtype=np.uint8)
    first = model.graph["first"].op
    assert isinstance(first, Conv)
    weight = first.weight.copy()
    weight[2, 1, 0, 0] += 0.01
    check_source(model.graph, model.source, model.preprocess, pixels)
    for name, op in (("first", replace(first, weight=weight)), ("last_relu", Relu(0.01))):
        nodes = tuple(replace(n, op=op) if n.name == name else n for n in model.graph.nodes)
        with pytest.raises(InputError, match=f"layer {name}: the imported graph differs from the file's network"):
            check_source(Graph(nodes, model.graph.output), model.source, model.preprocess, pixels)


def quiet_export(model: torch.nn.Module, shape: tuple[int, ...], path: Path, **options: object) -> Path:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.get("dynamo"):
            options["verbose"] = False
        torch.onnx.export(model.eval(), (torch.zeros(shape),), path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "options",
    [{"dynamo": False, "opset_version": 11}, {"dynamo": False, "opset_version": 17, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}, {"dynamo": True}],
    ids=["old11", "old17", "new"],
)
def test_torchs_exporters_give_the_state_dicts_graph(options: dict[str, object], tmp_path: Path) -> None:
    network = SqueezeNet("squeezenet_digits")
    network.load_state_dict(torch.load(embedded_model_path(), weights_only=True))
    model = checked(quiet_export(network, (1, 1, 28, 28), tmp_path / "m.onnx", **options))
    assert (model.arch, model.classes) == ("squeezenet_digits", 10)
    expected = load_model(embedded_model_path())
    assert store.float_to_files(passes.lower(model.graph, model.preprocess)) == store.float_to_files(passes.lower(expected.graph, expected.preprocess))


def test_export_simulate_and_evaluate(tmp_path: Path, run_cli: RunCli) -> None:
    """The whole way of a plain CNN that is no SqueezeNet, from the command line."""
    torch.manual_seed(1)
    nn = torch.nn
    layers = [nn.Conv2d(1, 6, 5), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 10), nn.Softmax(1)]
    path = quiet_export(nn.Sequential(*layers), (1, 1, 28, 28), tmp_path / "lenet.onnx", dynamo=False)
    out = tmp_path / "out"
    result = run_cli("export", path, "--calibration", embedded_images("calibration"), "--preprocess", "digits", "-o", out)
    assert result.code == 0, result.err
    assert "import checked" in result.out and "Softmax at the end is left out" in result.out
    image = next(iter(sorted(embedded_images("test").rglob("*.png"))))
    assert run_cli("simulate", out, image).code == 0
    assert run_cli("evaluate", out, embedded_images("test"), "--limit", "20").code == 0
    assert 'arch = "graph"' in (out / "model/build.toml").read_text()
    again = run_cli("export", path, "--config", out / "model/build.toml", "--calibration", embedded_images("calibration"), "-o", tmp_path / "again")
    assert again.code == 0, again.err
    assert (tmp_path / "again/model/weights.npz").read_bytes() == (out / "model/weights.npz").read_bytes()


@pytest.mark.parametrize("bits", [8, 6])
def test_relu6_is_the_saturation_of_its_tensor(bits: int, tmp_path: Path) -> None:
    """The cap falls on the largest integer: beyond it float and fixed agree exactly, and no value between is lost."""
    n = Net((1, 1, 28, 28))
    strong = n.const(np.random.default_rng(0).normal(size=(6, 1, 3, 3)) * 4.0)
    x = n.node("Clip", n.node("Conv", "x", strong, name="strong"), n.const(np.float32(0)), n.const(np.float32(6)))
    x = n.node("MaxPool", x, name="pool", kernel_shape=[3, 3], strides=[2, 2])
    path = n.save(tmp_path / "m.onnx", n.head(n.node("Clip", n.conv(x, 8, 6, name="second"), n.const(np.float32(0)), n.const(np.float32(6))), 8))
    config = ExportConfig(preprocess="digits", act_bits=bits, weight_bits=12)
    quantized = pipeline.quantize_model(path, str(embedded_images("calibration")), config)
    for name in ("strong", "second"):
        fmt, op = quantized.qgraph[name].fmt, quantized.graph[name].op
        assert isinstance(op, Conv) and op.cap == pytest.approx(fmt.qmax * fmt.scale, rel=1e-12)
        factor = op.cap / 6.0
        assert 1.0 <= factor < 2.0 and not fmt.signed and fmt.bits == bits
    assert quantized.qgraph["pool"].fmt == quantized.qgraph["strong"].fmt
    rows = {row.name: row for row in layer_sqnr(quantized.graph, quantized.qgraph, quantized.images.pixels[:4])}
    assert rows["strong"].clipped == 0.0 and rows["strong"].sqnr_db > 6.0 * bits - 12.0


def test_caps_that_cannot_share_a_tensor_are_both_exact(tmp_path: Path) -> None:
    """A limit is the largest integer of its format: each operand keeps its own, the Concat reads copies in a format without one."""
    n = Net((1, 1, 8, 8))
    parts = [n.node("Clip", n.conv("x", 2, 1, name=f"to{cap}"), n.const(np.float32(0)), n.const(np.float32(cap))) for cap in (6, 4)]
    path = n.save(tmp_path / "m.onnx", n.head(n.node("Concat", *parts, axis=1), 4))
    qgraph = pipeline.quantize_model(path, "random", ExportConfig(preprocess="none")).qgraph
    concat = next(node for node in qgraph.nodes if isinstance(node.op, QConcat))
    copies = [qgraph[name] for name in concat.inputs]
    assert all(isinstance(c.op, QConv) and not c.fmt.signed and c.fmt == concat.fmt for c in copies)
    own = [qgraph[c.inputs[0]].fmt for c in copies]
    # 6 and 4 of the tensors as they were: equalized, each limit is 255 steps of a power of two.
    assert all(fmt.qmax == 255 and not fmt.signed for fmt in own) and len({c.inputs[0] for c in copies}) == 2


def test_foreign_names_become_layer_names(tmp_path: Path) -> None:
    """Whatever the file calls its nodes: letters first, no double underscores, distinct even where punctuation and case are ignored."""
    n = Net()
    x = "x"
    for i, name in enumerate(("0.weight", "/a__b//c_/Conv", "a.b.c", "A_B_C", "input", "été", "../../etc", "x" * 300)):
        x = n.node("Conv", x, n.random(3, 3, 1, 1, name=name if i == 0 else None), name=f"{name}" if i else "first")
    graph = checked(n.save(tmp_path / "m.onnx", n.head(x, 3))).graph
    names = [node.name for node in graph.nodes]
    assert names[:6] == ["image", "layer_0", "a_b.c_.Conv", "a.b.c", "A_B_C_2", "layer_input"]
    assert all(re.fullmatch(r"[A-Za-z][0-9A-Za-z_.]{0,90}", name) and "__" not in name and not name.endswith("_") for name in names)
    assert len({name.replace(".", "_").lower() for name in names}) == len(names)
