"""ONNX files that are quantized already: their integers and scales become the machine's, and ONNX Runtime gives the same class sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from onnx import TensorProto, numpy_helper
from onnx_models import Net

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.load.model import load_model
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.verify.source_check import check_quantized_source
from fpga_squeeze.zoo import embedded_images


class QNet(Net):
    """Adds quantized convolutions as exporters write them; remembers their integers."""

    def __init__(self, elem_type: int = TensorProto.FLOAT) -> None:
        super().__init__((1, 1, 28, 28), elem_type=elem_type)
        self.integers: dict[str, np.ndarray] = {}

    def raw(self, values: np.ndarray) -> str:
        """An initializer of its own type."""
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def pair(self, x: str, scale: float, dtype: type = np.uint8, zero: int = 0) -> str:
        """QuantizeLinear and DequantizeLinear."""
        s, z = self.raw(np.float32(scale).reshape(())), self.raw(np.array(zero, dtype=dtype))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, s, z), s, z)

    def qconv(self, x: str, oc: int, ic: int, k: int, in_scale: float, name: str, **attrs: object) -> str:
        """int8 weights with a scale a channel, an int32 bias at the accumulator's scale."""
        rng = np.random.default_rng(len(name) + oc)
        weight = rng.integers(-128, 128, (oc, ic, k, k)).astype(np.int8)
        self.integers[name] = weight
        scale = np.exp2(-rng.integers(9, 12, oc)).astype(np.float32)
        bias = rng.integers(-3000, 3000, oc).astype(np.int32)
        w = self.node("DequantizeLinear", self.raw(weight), self.raw(scale), self.raw(np.zeros(oc, dtype=np.int8)), axis=0)
        b = self.node("DequantizeLinear", self.raw(bias), self.raw((scale * np.float32(in_scale)).astype(np.float32)), axis=0)
        return self.node("Conv", x, w, b, name=name, **attrs)


def network(kind: str = "uint8", classifier: str = "Relu") -> tuple[QNet, str]:
    """conv, ReLU, pool, two branches joined, classifier, mean. `kind` int8: activations int8 with a zero point of 0, as symmetric tools choose."""
    dtype, last = (np.uint8, 2.0**-2) if kind == "uint8" else (np.int8, 2.0**-1)
    n = QNet()
    x = n.pair("x", 1.0)
    x = n.pair(n.node("Relu", n.qconv(x, 6, 1, 3, 1.0, "one", strides=[2, 2])), 0.5, dtype)
    x = n.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], name="pool")
    a = n.node("Relu", n.qconv(x, 4, 6, 1, 0.5, "left"))
    b = n.node("Relu", n.qconv(x, 4, 6, 3, 0.5, "right", pads=[1] * 4))
    joined = n.pair(n.node("Concat", a, b, axis=1, name="join"), 0.25, dtype)
    y = n.qconv(joined, 10, 8, 1, 0.25, "classifier")
    y = n.pair(n.node("Relu", y), last, dtype) if classifier == "Relu" else n.pair(y, last, np.int8)
    return n, n.node("Flatten", n.node("GlobalAveragePool", y, name="gap"))


def quantized(path: Path, config: ExportConfig | None = None) -> pipeline.Quantized:
    return pipeline.quantize_model(path, str(embedded_images("calibration")), config or ExportConfig())


@pytest.mark.parametrize(("kind", "classifier"), [("uint8", "Relu"), ("uint8", "none"), ("int8", "Relu")])
def test_integers_and_formats_are_the_files(kind: str, classifier: str, tmp_path: Path) -> None:
    net, output = network(kind, classifier)
    result = quantized(net.save(tmp_path / "m.onnx", output))
    said = " | ".join(result.loaded.assumptions)
    assert "already quantized" in said and "the machine's integers equal the file's own network, run by ONNX Runtime" in said
    for name, weight in net.integers.items():
        op = result.qgraph[name].op
        assert isinstance(op, QConv) and op.weight_bits == 8
        np.testing.assert_array_equal(op.weight, weight)
    bits = 8 if kind == "uint8" else 7
    assert result.qgraph["one"].fmt == TensorFormat(bits, 1, signed=False) == result.qgraph["pool"].fmt
    assert result.qgraph["left"].fmt == result.qgraph["right"].fmt == result.qgraph["join"].fmt == TensorFormat(bits, 2, signed=False)
    assert result.qgraph["classifier"].fmt.signed is (classifier != "Relu")


def test_the_check_finds_one_changed_weight(tmp_path: Path) -> None:
    net, output = network()
    result = quantized(net.save(tmp_path / "m.onnx", output))
    assert result.loaded.source is not None
    pixels = result.images.pixels
    assert check_quantized_source(result.qgraph, result.loaded.source, result.loaded.preprocess, pixels).largest <= 1
    op = result.qgraph["right"].op
    assert isinstance(op, QConv)
    weight = op.weight.copy()
    weight[1, 2, 1, 1] ^= 8
    nodes = tuple(replace(n, op=replace(op, weight=weight)) if n.name == "right" else n for n in result.qgraph.nodes)
    with pytest.raises(InputError, match=r"layer join: .* integers differ from the file's own"):
        check_quantized_source(QuantGraph(nodes, result.qgraph.output), result.loaded.source, result.loaded.preprocess, pixels)


def test_uint8_images_and_a_quantized_mean(tmp_path: Path, run_cli: RunCli) -> None:
    """From the command line: the graph's input is uint8, the mean is quantized once more at the end."""
    n = QNet(TensorProto.UINT8)
    x = n.node("DequantizeLinear", "x", n.raw(np.float32(1.0).reshape(())), n.raw(np.uint8(0).reshape(())))
    x = n.pair(n.node("Relu", n.qconv(x, 10, 1, 5, 1.0, "only", strides=[2, 2])), 1.0)
    path = n.save(tmp_path / "m.onnx", n.pair(n.node("GlobalAveragePool", x, name="gap"), 0.5))
    result = run_cli("export", path, "--calibration", embedded_images("calibration"), "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert "QuantizeLinear at the end is left out" in result.out and "already quantized" in result.out
    assert run_cli("simulate", tmp_path / "out", next(iter(sorted(embedded_images("test").rglob("*.png"))))).code == 0
    refused = run_cli("export", path, "--weight-bits", "4", "-o", tmp_path / "other")
    assert refused.code == 2 and "--weight-bits" in refused.err
    refused = run_cli("export", path, "--preprocess", "digits", "-o", tmp_path / "other")
    assert refused.code == 2 and "takes raw pixels as they are" in refused.err


def test_this_tools_own_spelling(tmp_path: Path) -> None:
    """As model/quantized.onnx is written: the image padded with a pixel value (subtract, pad zeros, add), class sums as integers."""
    n = QNet(TensorProto.UINT8)
    x = n.node("DequantizeLinear", "x", n.raw(np.float32(1.0).reshape(())), n.raw(np.uint8(0).reshape(())))
    pixel = n.const(np.full((1, 1, 1, 1), 33.0))
    x = n.node("Add", n.node("Pad", n.node("Sub", x, pixel), n.const(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), pixel)
    y = n.node("Relu", n.qconv(x, 10, 1, 3, 1.0, "only", strides=[2, 2]))
    y = n.node("QuantizeLinear", y, n.raw(np.float32(0.5).reshape(())), n.raw(np.uint8(0).reshape(())))
    y = n.node("ReduceSum", n.node("Cast", y, to=TensorProto.INT64), n.const(np.array([2, 3])))
    result = quantized(n.save(tmp_path / "m.onnx", n.node("Flatten", y)))
    op = result.qgraph["only"].op
    assert isinstance(op, QConv) and op.pad_value == (33,) and op.padding == (1, 1, 1, 1)
    np.testing.assert_array_equal(op.weight, n.integers["only"])
    assert "the machine's integers equal" in result.loaded.assumptions[-1] and not any("left out" in line for line in result.loaded.assumptions)
    assert result.loaded.source is not None
    half = replace(result.loaded.source.taps[-1], unit=result.loaded.source.taps[-1].unit / 2)
    with pytest.raises(InputError, match="integers differ"):
        check_quantized_source(result.qgraph, replace(result.loaded.source, taps=(half,)), result.loaded.preprocess, result.images.pixels)


def test_uint8_images_of_a_float_network(tmp_path: Path) -> None:
    n = QNet(TensorProto.UINT8)
    x = n.node("Div", n.node("Cast", "x", to=TensorProto.FLOAT), n.const(np.float32(255.0)))
    model = load_model(n.save(tmp_path / "m.onnx", n.head(n.node("Relu", n.conv(x, 4, 1)), 4)))
    assert model.prescribed is None and model.preprocess.name == "none"
    assert "import checked" in quantized(tmp_path / "m.onnx").loaded.assumptions[-1]


def bad(kind: str) -> tuple[QNet, str]:
    n = QNet()
    x = n.pair("x", 1.0 / 255.0 if kind == "image scale" else 1.0) if kind != "float image" else "x"
    y = n.qconv(x, 10, 1, 3, 1.0, "only") if kind != "float weights" else n.conv(x, 10, 1, name="only")
    if kind == "twice":
        y = n.pair(y, 0.5, np.int8)
    if kind != "not rounded":
        y = n.pair(n.node("Relu", y), 0.3 if kind == "scale" else 0.25, np.int8 if kind == "zero point" else np.uint8, 3 if kind == "zero point" else 0)
    return n, n.node("GlobalAveragePool", y, name="gap")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("image scale", "no power of two"), ("scale", "the scale 0.300000012 is no power of two"), ("zero point", "the zero point 3"),
        ("float weights", "layers without quantized weights: only"), ("not rounded", "layers whose results are not quantized: only"),
        ("twice", "the machine rounds a tensor once"), ("float image", "the image is not"),
    ],
)  # fmt: skip
def test_what_the_machine_cannot_take_as_it_is(kind: str, text: str, tmp_path: Path) -> None:
    net, output = bad(kind)
    with pytest.raises(InputError, match=text) as caught:
        load_model(net.save(tmp_path / "m.onnx", output))
    assert "\n" not in str(caught.value)


def test_weights_alone_may_be_quantized(tmp_path: Path) -> None:
    """Integers for storage only: a float model, quantized here as any other."""
    n = QNet()
    y = n.node("Relu", n.qconv("x", 10, 1, 3, 1.0, "only"))
    model = load_model(n.save(tmp_path / "m.onnx", n.node("GlobalAveragePool", y, name="gap")))
    assert model.prescribed is None
