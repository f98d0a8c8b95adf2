"""Quantization-aware training: the forward pass is the machine, bit for bit; gradients go where they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quant_graphs import bypass_network, fire_network, replace_node

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.load.preprocess import Preprocess, preset
from fpga_squeeze.load.state_dict import read_tensors
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.prescribed import prescribed_of, quantize_prescribed
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QAdd, QConv, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator, layer_bound
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.train.checkpoint import save_model
from fpga_squeeze.train.fold import Lowered, lowered_graph, lowered_parameters, new_model, rescale_module
from fpga_squeeze.train.qat import QatNetwork, _Requantize, choose_prescribed, machine_forward
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from fpga_squeeze.zoo.arch import find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet

DIGITS = preset("digits", 28, 1)
ARCH = find_arch("squeezenet_digits")


def digits(which: str = "calibration") -> tuple[np.ndarray, np.ndarray]:
    pairs = labelled(embedded_images(which))
    return load_files(tuple(p for p, _ in pairs), DIGITS).pixels, np.array([label for _, label in pairs])


def network(weight_bits: int, act_bits: int = 8) -> QatNetwork:
    """The embedded model, ready for quantization-aware training."""
    model, _ = new_model(ARCH, 10, 1, read_tensors(embedded_model_path()))
    return QatNetwork(model, DIGITS, choose_prescribed(model, DIGITS, digits()[0], QuantOptions(weight_bits, act_bits), equalize=True))


def tune(net: QatNetwork, steps: int, rate: float = 1e-3) -> list[float]:
    pixels, labels = (torch.from_numpy(a) for a in digits())
    optimizer = torch.optim.Adam(net.parameters(), rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        scores = net(pixels)
        loss = torch.nn.functional.cross_entropy(scores.rectified, labels) + torch.nn.functional.cross_entropy(scores.linear, labels) / 3
        loss.backward()
        net.block_saturated()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(2, 8), (4, 8), (4, 4), (8, 8), (16, 16)])
def test_trained_forward_equals_the_simulator_on_the_export(weight_bits: int, act_bits: int, tmp_path: Path) -> None:
    net = network(weight_bits, act_bits)
    before = net.model.state_dict()["features.0.weight"].clone()
    tune(net, 4)
    assert not torch.equal(net.model.state_dict()["features.0.weight"], before)
    net.eval()
    pixels, _ = digits("test")
    sums = net.class_sums(pixels)
    save_model(tmp_path / "model.pt", net.model.state_dict(), ARCH.name, DIGITS, tuple("0123456789"), net.prescribed)
    exported = pipeline.quantize_model(tmp_path / "model.pt", None, ExportConfig()).qgraph
    assert np.array_equal(sums, FastSimulator(exported).run(pixels))
    expected = run_reference(exported, pixels[3])[exported.output].ravel()
    assert np.array_equal(sums[3], expected) and expected.any()
    wide = [n.name for n in exported.nodes if isinstance(n.op, QConv) and layer_bound(exported, n).dtype == torch.float64]
    assert bool(wide) is (weight_bits == 16), "the case with sums beyond 2^24 is among them"
    # the scores that are trained are those sums: times the scale, over the 7 x 7 map (the forward with gradients, not the other one)
    h = exported[exported[exported.output].inputs[0]].shape[1]
    trained = net(torch.from_numpy(pixels)).rectified.detach().double().numpy()
    np.testing.assert_allclose(trained, sums * exported[exported.output].fmt.scale / h**2, rtol=1e-6)


def test_one_changed_weight_shows() -> None:
    net = network(4)
    qgraph, pixels = net.quantized(), digits("test")[0]
    op = qgraph["fire3.expand3x3"].op
    assert isinstance(op, QConv)
    weight = op.weight.copy()
    weight[5, 3, 1, 1] += 1 if weight[5, 3, 1, 1] < 7 else -1
    other = FastSimulator(replace_node(qgraph, "fire3.expand3x3", weight=weight)).run(pixels)
    assert not np.array_equal(net.class_sums(pixels), other)


def graph_parameters(graph: Graph) -> Lowered:
    found = {}
    for n in graph.nodes:
        if isinstance(n.op, Conv):
            found[n.name] = tuple(torch.from_numpy(a.astype(np.float32)).requires_grad_() for a in (n.op.weight, n.op.bias))
    return found  # type: ignore[return-value]


def quantized(graph: Graph, pixels: np.ndarray, options: QuantOptions) -> tuple[Graph, QuantGraph]:
    calibration = calibrate(graph, pixels)
    return calibration.graph, quantize_prescribed(calibration.graph, prescribed_of(quantize(graph, calibration, options)))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("options", [QuantOptions(4, 8), QuantOptions(3, 6)])
def test_additions_are_exact_and_pass_gradients_to_both_sides(relu: bool, options: QuantOptions) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, size=(6, 3, 9, 9), dtype=np.uint8)
    graph, qgraph = quantized(bypass_network(relu), pixels, options)
    assert any(isinstance(n.op, QAdd) for n in qgraph.nodes)
    parameters = graph_parameters(graph)
    sums, scores = machine_forward(qgraph, parameters, torch.from_numpy(pixels).float())
    assert np.array_equal(sums.numpy(), FastSimulator(qgraph).run(pixels)) and sums.any()
    (scores.rectified.square().sum() + scores.linear.sum()).backward()
    for name in ("a", "c", "conv10"):
        gradient = parameters[name][0].grad
        assert gradient is not None and bool(gradient.abs().sum() > 0) and bool(gradient.isfinite().all())


def test_pad_values_and_ceil_mode_pools_are_exact() -> None:
    pixels = np.random.default_rng(6).integers(0, 256, size=(5, 3, 21, 21), dtype=np.uint8)
    for seed in range(3):
        graph, qgraph = quantized(fire_network(seed), pixels, QuantOptions(4))
        assert qgraph["conv1"].op.pad_value != (0, 0, 0)  # type: ignore[union-attr]
        sums, _ = machine_forward(qgraph, graph_parameters(graph), torch.from_numpy(pixels).float())
        assert np.array_equal(sums.numpy(), FastSimulator(qgraph).run(pixels))


@pytest.mark.parametrize("preprocess", [DIGITS, preset("torchvision", 32, 3), preset("caffe", 32, 3), preset("none", 32, 3)])
def test_folding_in_torch_equals_the_passes(preprocess: Preprocess) -> None:
    torch.manual_seed(3)
    model = SqueezeNet(ARCH, classes=5, in_channels=preprocess.channels)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    graph, found = lowered_graph(model, preprocess), lowered_parameters(model, preprocess)
    assert set(found) == {n.name for n in graph.nodes if isinstance(n.op, Conv)}
    for name, (weight, bias) in found.items():
        op = graph[name].op
        assert isinstance(op, Conv)
        np.testing.assert_allclose(weight.detach().numpy(), op.weight, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(bias.detach().numpy(), op.bias, rtol=1e-4, atol=1e-4)


def test_equalizing_the_module_keeps_its_function() -> None:
    model, _ = new_model(ARCH, 10, 1, read_tensors(embedded_model_path()))
    pixels, _ = digits()
    graph = lowered_graph(model, DIGITS)
    x = torch.from_numpy(pixels).float()
    before = FloatModel(graph).run(x)
    calibration = calibrate(graph, pixels)
    assert any((s != 1.0).any() for s in calibration.scales.values())
    rescale_module(model, graph, calibration.scales)
    after = lowered_graph(model, DIGITS)
    torch.testing.assert_close(FloatModel(after).run(x), before, rtol=1e-4, atol=1e-4)
    for n in after.nodes:
        if isinstance(n.op, Conv):
            np.testing.assert_allclose(n.op.weight, calibration.graph[n.name].op.weight, rtol=1e-6, atol=1e-9)  # type: ignore[union-attr]


def test_without_equalizing_weights_stay_as_they_are() -> None:
    model, _ = new_model(ARCH, 10, 1, read_tensors(embedded_model_path()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prescribed = choose_prescribed(model, DIGITS, digits()[0], QuantOptions(8), equalize=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    net = QatNetwork(model, DIGITS, prescribed)
    pixels, labels = digits("test")
    assert (net.class_sums(pixels).argmax(1) == labels).mean() > 0.9, "the formats fit this network"


MEMBERS = (
    "squeezenet1_1", "squeezenet1_1_bypass", "squeezenet1_1_complex_bypass",
    "custom:base_e=16,incr_e=8,sr=0.25,stem=1.1,bypass=complex,batch_norm=true", "custom:base_e=16,incr_e=8,sr=0.25,stem=1.0,bypass=simple,batch_norm=true",
)  # fmt: skip


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_of_the_family_is_exact_after_training(name: str, tmp_path: Path) -> None:
    try:
        arch = find_arch(name)
    except InputError:
        pytest.skip(f"the family has no {name}")
    torch.manual_seed(2)
    preprocess = preset("torchvision", 48, 3)
    model = SqueezeNet(arch, classes=6)
    rng = np.random.default_rng(8)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.6)  # some negative
            torch.nn.init.normal_(module.running_mean, 0.0, 0.5)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    pixels = rng.integers(0, 256, size=(6, 3, 48, 48), dtype=np.uint8)
    graph = lowered_graph(model, preprocess)
    for layer, (weight, bias) in lowered_parameters(model, preprocess).items():
        op = graph[layer].op
        assert isinstance(op, Conv)
        np.testing.assert_allclose(weight.detach().numpy(), op.weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(bias.detach().numpy(), op.bias, rtol=1e-4, atol=1e-4)
    x = torch.from_numpy(pixels).float()
    before = FloatModel(graph).run(x)
    net = QatNetwork(model, preprocess, choose_prescribed(model, preprocess, pixels, QuantOptions(4), equalize=True))
    after = FloatModel(lowered_graph(model, preprocess)).run(x)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
    optimizer = torch.optim.SGD(net.parameters(), 1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        (net(x).linear - 1.0).square().mean().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        net.block_saturated()
        optimizer.step()
    sums = net.class_sums(pixels)
    save_model(tmp_path / "model.pt", model.state_dict(), arch.name, preprocess, tuple("abcdef"), net.prescribed)
    exported = pipeline.quantize_model(tmp_path / "model.pt", None, ExportConfig())
    assert exported.loaded.arch == name or name.startswith("custom:")
    assert np.array_equal(sums, FastSimulator(exported.qgraph).run(pixels)) and sums.any()
    # and the file is a beginning for another training: the same weights in a new module, but for conv10
    again, new_head = new_model(arch, 9, 3, read_tensors(tmp_path / "model.pt"))
    assert new_head and all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items() if not k.startswith("classifier"))


def test_requantizing_rounds_half_to_even_and_clamps_gradients() -> None:
    fmt = TensorFormat(4, 1, signed=False)  # 0 ... 15 half steps
    x = torch.tensor([-1.0, 0.0, 0.25, 0.75, 1.25, 7.5, 8.0, 3.1], requires_grad=True)
    y = _Requantize.apply(x, fmt)
    assert y.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 7.5, 7.5, 3.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0, 1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_saturated_weights_only_come_back(order: str) -> None:
    preprocess = replace(preset("caffe", 28, 3), order=order)
    torch.manual_seed(1)
    model = SqueezeNet(ARCH, in_channels=3)
    pixels = np.random.default_rng(1).integers(0, 256, size=(8, 3, 28, 28), dtype=np.uint8)
    net = QatNetwork(model, preprocess, choose_prescribed(model, preprocess, pixels, QuantOptions(4), equalize=True))
    conv = model.features[0]
    with torch.no_grad():
        conv.weight[3, 0, 0, 0], conv.weight[3, 2, 1, 1] = 1e3, -1e3
    net(torch.from_numpy(pixels)).linear.sum().backward()
    weight = net.quantized()["conv1"].op.weight  # type: ignore[union-attr]
    first = 0 if order == "RGB" else 2  # the hardware's channels are in RGB order
    assert (weight[3, first, 0, 0], weight[3, 2 - first, 1, 1]) == (7, -8)
    for sign in (-1.0, 1.0):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, sign)
        net.block_saturated()
        # descent goes against the gradient: -1 would move the first weight further above its range, +1 the second further below
        assert (conv.weight.grad[3, 0, 0, 0], conv.weight.grad[3, 2, 1, 1]) == ((0.0, -1.0) if sign < 0 else (1.0, 0.0))
        blocked = sum(int((p.grad == 0).sum()) for p in model.parameters())  # type: ignore[union-attr]
        assert 0 < blocked < 0.1 * sum(p.numel() for p in model.parameters()), "all others are free"


def test_fine_formats_give_the_float_gradients() -> None:
    net = network(16, 16)
    pixels, labels = (torch.from_numpy(a) for a in digits())
    torch.nn.functional.cross_entropy(net(pixels[:40]).rectified, labels[:40]).backward()
    got = {name: p.grad.clone() for name, p in net.model.named_parameters() if p.grad is not None}
    net.model.zero_grad()
    scores = net.model(DIGITS.normalize(pixels[:40].numpy()))
    torch.nn.functional.cross_entropy(scores, labels[:40]).backward()
    assert len(got) == len(list(net.model.parameters()))
    for name, p in net.model.named_parameters():
        assert p.grad is not None
        similarity = torch.nn.functional.cosine_similarity(p.grad.flatten(), got[name].flatten(), 0)
        assert similarity > 0.99, name
        assert 0.9 < float(p.grad.norm() / got[name].norm()) < 1.1, name


def test_two_bit_weights_are_learned() -> None:
    net = network(2)
    losses = tune(net, 60, rate=2e-3)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    pixels, labels = digits("test")
    assert (net.class_sums(pixels).argmax(1) == labels).mean() > 0.8
    assert {abs(int(w)) for n in net.quantized().nodes if isinstance(n.op, QConv) for w in n.op.weight.ravel()} <= {0, 1, 2}


def test_formats_of_another_network_are_refused() -> None:
    net = network(4)
    net.prescribed = replace(net.prescribed, weights={k: v for k, v in net.prescribed.weights.items() if k != "conv10"})
    with pytest.raises(InputError, match="layer conv10: no weight scales"):
        net.quantized()
