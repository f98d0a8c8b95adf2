"""Formats that a model brings along: taken as they are, refused by layer when they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_graphs import bypass_network, fire_network

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.load.model import load_model
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.prescribed import Prescribed, prescribed_of, quantize_prescribed
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.zoo import embedded_images, embedded_model_path

PIXELS = np.random.default_rng(0).integers(0, 256, size=(6, 3, 21, 21), dtype=np.uint8)


def chosen(graph: Graph, bits: int = 4) -> tuple[Graph, Prescribed]:
    """The equalized network and the formats that calibration finds for it."""
    size = graph.input.shape[1]
    calibration = calibrate(graph, PIXELS[:, :, :size, :size])
    return calibration.graph, prescribed_of(quantize(graph, calibration, QuantOptions(bits)))


def test_integers_are_the_rounded_weights_at_the_given_scales() -> None:
    graph, prescribed = chosen(fire_network())
    qgraph = quantize_prescribed(graph, prescribed)
    verify_quantized(qgraph)
    for node in graph.nodes:
        if not isinstance(node.op, Conv):
            continue
        op, source = qgraph[node.name].op, qgraph[node.inputs[0]]
        assert isinstance(op, QConv)
        for c in range(len(op.bias)):
            frac = prescribed.weights[node.name][1][c]
            expected = [min(7, max(-8, round(w * 2.0**frac))) for w in node.op.weight[c].ravel().tolist()]  # round: half to even
            assert op.weight[c].ravel().tolist() == expected
            assert op.bias[c] == round(float(node.op.bias[c]) * 2.0 ** (frac + source.fmt.frac))
            assert op.shift[c] == frac + source.fmt.frac - qgraph[node.name].fmt.frac
        low, high = accumulator_range(op.weight, op.bias, min(source.fmt.qmin, *op.pad_value), max(source.fmt.qmax, *op.pad_value))
        assert op.acc_bits == signed_bits(int(min(low.min(), 0)), int(max(high.max(), 0)))
        assert qgraph[node.name].fmt == prescribed.activations[node.name]
    assert np.abs(qgraph["conv1"].op.weight).max() == 8, "the case saturates"  # type: ignore[union-attr]


def test_pools_and_concats_need_no_format_of_their_own() -> None:
    graph, prescribed = chosen(fire_network())
    convolutions = {name: prescribed.activations[name] for name in prescribed.weights}
    same(quantize_prescribed(graph, replace(prescribed, activations=convolutions)), quantize_prescribed(graph, prescribed))


def same(a: QuantGraph, b: QuantGraph) -> None:
    for x, y in zip(a.nodes, b.nodes, strict=True):
        assert (x.name, x.fmt, x.inputs) == (y.name, y.fmt, y.inputs)
        if isinstance(x.op, QConv) and isinstance(y.op, QConv):
            assert all(np.array_equal(getattr(x.op, f), getattr(y.op, f)) for f in ("weight", "bias", "shift", "weight_frac"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 4, 8, 16]), st.booleans())
def test_every_simulator_takes_it(seed: int, bits: int, relu: bool) -> None:
    graph, prescribed = chosen(fire_network(seed) if seed % 3 else bypass_network(relu), bits)
    qgraph = quantize_prescribed(graph, prescribed)
    verify_quantized(qgraph)
    size = graph.input.shape[1]
    pixels = PIXELS[0, :, :size, :size]
    expected = run_reference(qgraph, pixels)[qgraph.output].ravel()
    assert np.array_equal(FastSimulator(qgraph).run(pixels[np.newaxis])[0], expected)


def test_json_round_trip() -> None:
    _, prescribed = chosen(fire_network())
    assert Prescribed.from_json(prescribed.to_json()) == prescribed
    assert Prescribed.from_json(prescribed.to_json()).to_json() == prescribed.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "version 1 was expected"),
        ('{"version": 2, "activations": {}, "weights": {}}', "version 1 was expected"),
        ('{"version": 1, "activations": {}}', "exactly the objects activations and weights"),
        ('{"version": 1, "activations": {}, "weights": []}', "exactly the objects activations and weights"),
        ('{"version": 1, "activations": {"a": {"bits": 8}}, "weights": {}}', "layer a: a format of bits, frac and signed"),
        ('{"version": 1, "activations": {"a": {"bits": 8, "frac": 1.5, "signed": true}}, "weights": {}}', "layer a: frac must be a whole number"),
        ('{"version": 1, "activations": {"a": {"bits": true, "frac": 1, "signed": true}}, "weights": {}}', "layer a: bits must be a whole number"),
        ('{"version": 1, "activations": {"a": {"bits": 8, "frac": 99999, "signed": true}}, "weights": {}}', "layer a: whole numbers"),
        ('{"version": 1, "activations": {}, "weights": {"a": {"bits": 8, "frac": 3}}}', "layer a: weights of bits and a list frac"),
        ('{"version": 1, "activations": {}, "weights": {"a": {"bits": 8, "frac": [1, "2"]}}}', "layer a: whole numbers"),
    ],
)
def test_damaged_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^here: .*{message}"):
        Prescribed.from_json(text, "here")


def test_refusals_name_the_layer() -> None:
    graph, good = chosen(fire_network())

    def activations(name: str, fmt: TensorFormat | None) -> Prescribed:
        changed = {k: v for k, v in good.activations.items() if k != name}
        return replace(good, activations=changed if fmt is None else {**changed, name: fmt})

    def weights(name: str, row: tuple[int, tuple[int, ...]] | None) -> Prescribed:
        changed = {k: v for k, v in good.weights.items() if k != name}
        return replace(good, weights=changed if row is None else {**changed, name: row})

    squeeze, expand = good.activations["fire2.squeeze"], good.activations["fire2.expand1x1"]
    cases = [
        (activations("fire2.squeeze", None), "layer fire2.squeeze: no output format is prescribed"),
        (activations("fire7", squeeze), "layer fire7: a format is prescribed for it, but the network has no such layer"),
        (activations("image", squeeze), "layer image: pixels are unsigned 8 bits with frac 0"),
        (activations("fire2.squeeze", replace(squeeze, signed=True)), "layer fire2.squeeze: its output is rectified, signed 8 bits"),
        (activations("fire2.squeeze", replace(squeeze, bits=3)), "layer fire2.squeeze: 4 to 16 activation bits were expected, 3"),
        (activations("fire2.squeeze", replace(squeeze, frac=99)), "layer fire2.squeeze: a frac between"),
        (activations("fire2.squeeze", replace(squeeze, frac=-40)), "layer fire2.squeeze: requantizing needs a shift of"),
        (activations("fire2.expand1x1", replace(expand, frac=expand.frac + 1)), "layer fire2.concat: it must have its inputs' format"),
        (activations("pool1", squeeze), "layer pool1: it must have its inputs' format"),
        (activations("pool10", squeeze), "layer pool10: an exact sum has signed 32 bits"),
        (weights("conv10", None), "layer conv10: no weight scales are prescribed"),
        (weights("pool1", (8, (1,))), "layer pool1: weight scales are prescribed for it, but it is no convolution"),
        (weights("conv10", (8, (1,))), "layer conv10: it has 7 output channels, weight scales are prescribed for 1"),
        (weights("conv10", (1, (1,) * 7)), "layer conv10: 2 to 16 weight bits were expected, 1"),
    ]
    for prescribed, message in cases:
        with pytest.raises(InputError, match=message):
            quantize_prescribed(graph, prescribed)
    # without a ReLU the sign may not vanish either
    graph, good = chosen(bypass_network(False))
    for name in ("a", "add"):
        with pytest.raises(InputError, match=f"layer {name}: its output is not rectified, unsigned"):
            quantize_prescribed(graph, activations(name, replace(good.activations[name], signed=False)))


def test_the_pipeline_takes_the_formats_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = embedded_model_path(), str(embedded_images("calibration"))
    prescribed = prescribed_of(pipeline.quantize_model(path, images, ExportConfig(weight_bits=5)).qgraph)
    monkeypatch.setattr(pipeline, "load_model", lambda *args: replace(load_model(*args), prescribed=prescribed))
    with_images, without = (pipeline.quantize_model(path, c, ExportConfig()) for c in (images, None))
    same(with_images.qgraph, without.qgraph)
    same(without.qgraph, quantize_prescribed(without.graph, prescribed))
    assert (len(with_images.images.pixels), len(without.images.pixels)) == (100, pipeline.RANDOM_IMAGES)
    for config in (ExportConfig(weight_bits=5), ExportConfig(act_bits=7), ExportConfig(layer_bits=(("conv1", 8),))):
        with pytest.raises(InputError, match="brings its number formats along"):
            pipeline.quantize_model(path, None, config)


def test_a_model_without_formats_needs_images() -> None:
    assert load_model(embedded_model_path()).prescribed is None
    with pytest.raises(InputError, match="--calibration: a folder"):
        pipeline.quantize_model(embedded_model_path(), None, ExportConfig())
