"""The emitted ONNX: integers equal to the definition on ONNX Runtime and qonnx, exactness proofs, determinism, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import add_node, random_network, run_ort
from quant_graphs import conv_node, graph, image_node, pool_node, random_conv, sum_node

from fpga_squeeze import pipeline
from fpga_squeeze.emit.onnx import FILES, emit_onnx, onnx_files
from fpga_squeeze.emit.onnx_exact import FLOAT32_EXACT, split_conv, weight_digits
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.onnx import check_file

U8, S16, U16 = TensorFormat(8, 4, signed=False), TensorFormat(16, 6, signed=True), TensorFormat(16, 6, signed=False)


def frames_of(qgraph: QuantGraph, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random pixels, the first frame all white: the extremes of conv1."""
    frames = np.random.default_rng(seed).integers(0, 256, (count, *qgraph.input.shape), dtype=np.uint8)
    frames[0, :, : frames.shape[2] // 2] = 255
    return frames


def assert_equal(qgraph: QuantGraph, frames: np.ndarray | None = None) -> bytes:
    """Every tensor of the QDQ file equals the int64 reference; the file is returned."""
    frames = frames_of(qgraph) if frames is None else frames
    model = emit_onnx(qgraph)
    got = run_ort(model, frames)
    reference = [run_reference(qgraph, frame) for frame in frames]
    for node in qgraph.nodes[1:]:
        expected = np.stack([r[node.name] for r in reference])
        assert expected.size and got[node.name].dtype.kind in "iu" and np.array_equal(got[node.name], expected), (node.name, node.op, node.fmt)
    sums = np.stack([r[qgraph.output] for r in reference]).reshape(len(frames), -1)
    assert got["class_sums"].dtype == np.int64 and np.array_equal(got["class_sums"], sums)
    return model


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks_on_onnxruntime(seed: int) -> None:
    """Weights of 2 to 16 bits, activations of 4 to 16, both signs, strides, pads and pad values, pools, fires, bypass sums."""
    assert_equal(random_network(seed))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks_on_the_qonnx_executor(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    qgraph = random_network(seed, layers=4)
    path = tmp_path_factory.mktemp("qonnx") / "model.onnx"
    path.write_bytes(emit_onnx(qgraph, "qonnx"))
    rows = check_file(path, "qonnx", qgraph, tuple((n.name, n.name) for n in qgraph.nodes[1:]), frames_of(qgraph), lambda *_: None)
    assert len(rows) == len(qgraph.nodes) - 1 and all(row.ok for row in rows), [row.describe() for row in rows if not row.ok]


@pytest.mark.parametrize("shift", [1, 3, 9])
@pytest.mark.parametrize("signed", [False, True])
def test_ties_and_both_limits(shift: int, signed: bool) -> None:
    """Accumulators on every tie around zero and far beyond both limits, from a 1x1 convolution of weight 1 and -1."""
    image = image_node((1, 16, 16))
    half = 1 << (shift - 1)
    weight = np.array([half, -half, 127, -128]).reshape(4, 1, 1, 1).clip(-32768, 32767)
    conv = conv_node("conv1", image, weight, np.array([0, 0, 1 << 18, -(1 << 18)]), np.full(4, shift), TensorFormat(8, 2, signed), weight_bits=16)
    frames = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert_equal(graph(image, conv, sum_node("total", conv)), frames)


def extreme_conv(ones: int, weight_bits: int = 8) -> QuantGraph:
    """A white image sums to 255 * 127 * 500 + 255 * `ones`, just around 2^24; the next layer rounds nothing away."""
    image = image_node((501, 1, 1))
    weight = np.full((2, 501, 1, 1), 127)
    weight[:, 500] = ones
    weight[1] *= -1
    bias = np.array([FLOAT32_EXACT - 255 * 127 * 500 - 255 * ones, 0])
    return graph(image, conv_node("conv", image, weight, bias, np.array([8, 8]), S16, weight_bits=weight_bits))


def test_the_proof_is_tight() -> None:
    """Sums of exactly 2^24 stay one float32 convolution; one more and the layer is split, and still equal."""
    at = extreme_conv(3)
    white = np.full((1, 501, 1, 1), 255, dtype=np.uint8)
    op = at["conv"].op
    assert isinstance(op, QConv)
    assert split_conv("conv", op, at.input.fmt).whole and split_conv("conv", op, at.input.fmt).bound == FLOAT32_EXACT
    assert_equal(at, white)
    beyond = replace(op, bias=op.bias + np.array([1, 0]))
    assert not split_conv("conv", beyond, at.input.fmt).whole
    assert_equal(graph(at.nodes[0], replace(at["conv"], op=beyond)), white)


def test_without_the_split_wide_layers_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is needed: forced into one float32 convolution, a layer of 16-bit weights and activations gives other integers."""
    rng = np.random.default_rng(5)
    image = image_node((3, 9, 9))
    first = random_conv(rng, "conv1", image, 16, 3, U16, weight_bits=16)
    second = random_conv(rng, "conv2", first, 8, 3, TensorFormat(16, 2, signed=True), weight_bits=16)
    qgraph = graph(image, first, second, sum_node("total", second))
    assert_equal(qgraph)
    monkeypatch.setattr("fpga_squeeze.emit.onnx_exact.FLOAT32_EXACT", 1 << 53)
    with pytest.raises(AssertionError, match="conv2"):
        assert_equal(qgraph)


@given(st.integers(2, 16), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_weight_digits_add_up_to_the_weights(bits: int, count: int, seed: int) -> None:
    weight = np.random.default_rng(seed).integers(-(1 << (bits - 1)), 1 << (bits - 1), size=50)
    weight[:2] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    digits = weight_digits(weight, bits, count)
    assert len(digits) == count and np.array_equal(sum(d.values << d.position for d in digits), weight)


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(12, 12), (16, 16)])
def test_layers_as_wide_as_squeezenets_last(weight_bits: int, act_bits: int) -> None:
    """512 channels into a classifier and 64 x 3 x 3 taps, at 12 and 16 bits: split, and equal."""
    rng = np.random.default_rng(weight_bits)
    fmt = TensorFormat(act_bits, 5, signed=False)
    image = image_node((3, 7, 7))
    squeeze = random_conv(rng, "squeeze", image, 64, 1, fmt, weight_bits=weight_bits)
    expand = random_conv(rng, "expand3x3", squeeze, 512, 3, fmt, padding=(1, 1, 1, 1), weight_bits=weight_bits)
    conv10 = random_conv(rng, "conv10", expand, 10, 1, TensorFormat(act_bits, 5, signed=True), weight_bits=weight_bits)
    qgraph = graph(image, squeeze, expand, conv10, sum_node("total", conv10))
    model = onnx.load_model_from_string(assert_equal(qgraph))
    parts = [n.name for n in model.graph.node if n.op_type == "Conv" and n.name.startswith("conv10")]
    assert len(parts) > 1 and model.opset_import[0].version == 21


def test_adding_far_apart_scales_is_exact() -> None:
    rng = np.random.default_rng(1)
    image = image_node((3, 8, 8))
    a = random_conv(rng, "a", image, 4, 1, TensorFormat(16, 0, signed=True))
    b = random_conv(rng, "b", image, 4, 1, TensorFormat(16, 12, signed=True))
    c = add_node("c", a, b, TensorFormat(16, 0, signed=True))
    model = onnx.load_model_from_string(assert_equal(graph(image, a, b, c, sum_node("total", c))))
    assert next(n for n in model.graph.node if n.name == "c").doc_string.endswith("added in float64")


def test_a_pool_whose_far_padding_exceeds_its_kernel() -> None:
    rng = np.random.default_rng(2)
    image = image_node((1, 8, 8))
    a = random_conv(rng, "a", image, 3, 1, TensorFormat(8, 3, signed=True))
    pool = pool_node("p", a, 2, 7, (1, 0, 3, 3))
    assert_equal(graph(image, a, pool, sum_node("total", pool)))


def test_the_file_of_the_digits_network(digits_out: Path) -> None:
    """What a reader and other tools rely on: names, types, integer initialisers, zero points 0, powers of two, a documented producer."""
    qgraph = pipeline.open_export(digits_out).qgraph
    content = (digits_out / FILES["qdq"]).read_bytes()
    assert content == emit_onnx(qgraph), "the same graph gives the same bytes"
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {v.name for v in inferred.graph.value_info} == {v.name for v in model.graph.value_info}
    assert (model.producer_name, model.opset_import[0].version, len(model.opset_import)) == ("fpga-squeeze", 13, 1)
    assert {n.op_type for n in model.graph.node} == {
        "DequantizeLinear", "QuantizeLinear", "Conv", "Relu", "MaxPool", "Concat", "Cast", "ReduceSum", "Flatten", "Sub", "Pad", "Add"
    }  # fmt: skip
    nodes = {n.name: n for n in model.graph.node}
    assert {n.name for n in qgraph.nodes[1:]} <= set(nodes) and len(nodes) == len(model.graph.node)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in qgraph.nodes:
        if isinstance(node.op, QConv):
            assert np.array_equal(constants[f"{node.name}/weight"], node.op.weight) and constants[f"{node.name}/weight"].dtype == np.int8
            assert np.array_equal(constants[f"{node.name}/bias"], node.op.bias) and constants[f"{node.name}/bias"].dtype == np.int32
            assert np.array_equal(constants[f"{node.name}/weight/scale"], np.exp2(-node.op.weight_frac.astype(float)))
    assert all((np.frexp(v)[0] == 0.5).all() for name, v in constants.items() if name.endswith("scale"))
    assert all(not v.any() for name, v in constants.items() if name.startswith("zero") or name.endswith("zero_point"))


def test_both_dialects_carry_the_same_numbers(digits_out: Path) -> None:
    qgraph = pipeline.open_export(digits_out).qgraph
    assert sorted(onnx_files(qgraph, "qdq")) == [FILES["qdq"]]
    files = onnx_files(qgraph, "qonnx")
    assert sorted(files) == sorted(FILES.values())
    model = onnx.load_model_from_string(files[FILES["qonnx"]])
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    quant = [n for n in model.graph.node if n.op_type == "Quant"]
    convs = [n for n in qgraph.nodes if isinstance(n.op, QConv)]
    assert len(quant) == 2 * len(convs) + len(qgraph.nodes) - 2 and {n.domain for n in quant} == {"qonnx.custom_op.general"}
    for n in quant:
        settings_ = {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}
        assert settings_["narrow"] == 0 and settings_["rounding_mode"] == b"ROUND" and settings_["signed"] in (0, 1)
    for node in convs:
        assert isinstance(node.op, QConv)
        scale = np.exp2(-node.op.weight_frac.astype(float)).reshape(-1, 1, 1, 1)
        assert np.array_equal(constants[f"{node.name}/weight"] / scale, node.op.weight)


def test_layer_names_never_collide_with_made_names() -> None:
    """Layers of a foreign model may be called what the emitter calls its own tensors."""
    rng = np.random.default_rng(3)
    image = image_node((3, 6, 6))
    a = random_conv(rng, "class_sums", image, 4, 1, U8)
    b = random_conv(rng, "class_sums/weight", a, 4, 1, U8)
    c = random_conv(rng, "zero_uint8", b, 4, 1, U8)
    total = sum_node("class_sums/dequantize", c)
    qgraph = graph(image, a, b, c, total)
    frames = frames_of(qgraph)
    got = run_ort(emit_onnx(qgraph), frames)
    for node in qgraph.nodes[1:]:
        assert np.array_equal(got[node.name], np.stack([run_reference(qgraph, f)[node.name] for f in frames])), node.name


def test_refusals_name_the_layer() -> None:
    image = image_node((1, 4, 4))
    tiny = conv_node("tiny", image, np.ones((1, 1, 1, 1), dtype=int), np.zeros(1), np.array([200]), U8)
    with pytest.raises(InputError, match=r"layer tiny: a scale of 2\^-204 cannot"):
        emit_onnx(graph(image, tiny, sum_node("total", tiny)))
    huge = conv_node("huge", image, np.ones((1, 1, 1, 1), dtype=int), np.array([1 << 54]), np.array([50]), U8)
    with pytest.raises(InputError, match=r"layer huge: sums reach \d+, beyond the 2\^53"):
        emit_onnx(graph(image, huge, sum_node("total", huge)))
    with pytest.raises(InputError, match="qdq, qonnx was expected, got 'tflite'"):
        emit_onnx(graph(image, tiny), "tflite")
