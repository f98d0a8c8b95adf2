"""The bridge between a torch module of the family and the compiler: its Graph, and its parameters as the lowered Graph's convolutions see them.

The numbers always come from the compiler's own passes (`lowered_graph`); `lowered_parameters` repeats them in torch so that gradients find their way
back through the folded preprocessing, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fpga_squeeze import passes
from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import F64, Graph
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.load.squeezenet import build_graph
from fpga_squeeze.load.state_dict import Tensors, paper_names, take_weights
from fpga_squeeze.zoo.arch import Arch, conv_shapes, find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet

Lowered = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Convolution of the lowered graph -> its weight (OC, IC, K, K) and bias (OC,)."""


def lowered_graph(model: SqueezeNet, preprocess: Preprocess) -> Graph:
    """What `export` would lower the module's state dict to: the loader's graph and every pass, in float64."""
    arch = find_arch(model.arch)
    tensors = {key: value.detach().to("cpu") for key, value in model.state_dict().items()}
    weights = take_weights(Path("training"), tensors, arch)
    return passes.lower(build_graph(arch, weights, preprocess.size, arch.ceil_mode, 0), preprocess)


def lowered_parameters(model: SqueezeNet, preprocess: Preprocess) -> Lowered:
    """The same weights and biases in float32, differentiable with respect to the module's parameters; batch normalization at its running statistics."""
    result: Lowered = {}
    for i, layer in enumerate(_layers(model)):
        weight, bias = layer.conv.weight, layer.bias()
        if layer.norm is not None:
            gain = layer.norm.weight * torch.rsqrt(layer.variance() + layer.norm.eps)
            weight, bias = weight * gain.view(-1, 1, 1, 1), (bias - layer.mean()) * gain + layer.norm.bias
        if i == 0:
            weight, bias = _fold_preprocess(weight, bias, preprocess)
        result[layer.name] = (weight, bias)
    return result


def weight_gradients(model: SqueezeNet, preprocess: Preprocess) -> list[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(convolution, its weight as the lowered graph has it but with the module's channel order, the gradient of the module's own weight, and the sign
    (OC, 1, 1, 1) with which that gradient acts on the lowered weight: -1 where batch normalization multiplies by a negative scale).
    """
    lowered = lowered_parameters(model, preprocess)
    result = []
    for i, layer in enumerate(_layers(model)):
        weight, gradient = lowered[layer.name][0], layer.conv.weight.grad
        assert gradient is not None
        if i == 0 and preprocess.order == "BGR":
            weight = weight.flip(1)
        sign = torch.sign(layer.norm.weight) if layer.norm is not None else torch.ones(len(weight), device=weight.device)
        result.append((layer.name, weight, gradient, sign.view(-1, 1, 1, 1)))
    return result


def rescale_module(model: SqueezeNet, graph: Graph, scales: dict[str, F64]) -> None:
    """Multiply channel c of every tensor by scales[node][c] in place (calibration's equalization): the module stays the same function.

    The factors of the image and of the scores must be 1, as calibration leaves them.
    """
    with torch.no_grad():
        for layer in _layers(model):
            made, read = scales[layer.name], scales[graph[layer.name].inputs[0]]
            if layer.norm is not None:  # what the convolution itself makes keeps its scale, and so do the running statistics
                for parameter in (layer.norm.weight, layer.norm.bias):
                    _multiply(parameter, made)
                made = np.ones_like(made)
            elif layer.conv.bias is not None:
                _multiply(layer.conv.bias, made)
            _multiply(layer.conv.weight, (made[:, None] / read[None, :])[:, :, None, None])


def new_model(arch: Arch, classes: int, channels: int, init: Tensors | None, where: str = "--init") -> tuple[SqueezeNet, bool]:
    """A module for `classes`, its weights from `init` where given: (module, whether conv10 was made anew because the class counts differ).

    Raises InputError when `init` does not fit `arch`. Fresh weights come from torch's global generator.
    """
    model = SqueezeNet(arch, classes, channels)
    if init is None:
        return model, True
    take_weights(Path(where), init, arch)  # every tensor is there, fits and is finite
    modules = {shape.name: shape.torchvision_prefix for shape in conv_shapes(arch)}
    modules |= {layer.norm_name: layer.norm_path for layer in _layers(model) if layer.norm is not None}
    own = model.state_dict()
    head = modules["conv10"]
    state = dict(own)  # for what a file may lack: the counters of batch normalization
    found: Tensors = {}
    for key, name in paper_names(init, arch).items():
        layer_name, _, leaf = name.rpartition(".")
        found[f"{modules[layer_name]}.{leaf}"] = init[key] if leaf == "num_batches_tracked" else init[key].to(torch.float32)
    for layer in _layers(model):
        bias = found.pop(f"{layer.path}.bias") if layer.norm is not None and f"{layer.path}.bias" in found else None
        if bias is not None:  # a bias ahead of batch normalization only shifts the mean
            found[f"{layer.norm_path}.running_mean"] = found[f"{layer.norm_path}.running_mean"] - bias
    channels_found = found["features.0.weight"].shape[1]
    if channels_found != channels:
        raise InputError(f"{where}: its first layer takes {channels_found} channels, the preprocessing gives {channels}")
    replaced = found[f"{head}.weight"].shape[0] != classes
    if replaced:
        found = {key: value for key, value in found.items() if not key.startswith(f"{head}.")}
    state.update(found)
    model.load_state_dict(state)
    return model, replaced


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution of the module and the batch normalization behind it; `path`: its module's, `norm_name`: the paper's for the normalization."""

    name: str
    path: str
    conv: nn.Conv2d
    norm_name: str
    norm_path: str
    norm: nn.BatchNorm2d | None

    def bias(self) -> torch.Tensor:
        """The convolution's bias, zeros where it has none."""
        return self.conv.bias if self.conv.bias is not None else torch.zeros(self.conv.out_channels, device=self.conv.weight.device)

    def mean(self) -> torch.Tensor:
        """Running mean of the normalization."""
        assert self.norm is not None and self.norm.running_mean is not None
        return self.norm.running_mean

    def variance(self) -> torch.Tensor:
        """Running variance of the normalization."""
        assert self.norm is not None and self.norm.running_var is not None
        return self.norm.running_var


def _layers(model: SqueezeNet) -> tuple[_Layer, ...]:
    found = []
    for shape in conv_shapes(find_arch(model.arch)):
        conv = model.get_submodule(shape.torchvision_prefix)
        assert isinstance(conv, nn.Conv2d)
        norm_path = str(getattr(shape, "norm_prefix", None) or "")
        norm = model.get_submodule(norm_path) if norm_path else None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        found.append(_Layer(shape.name, shape.torchvision_prefix, conv, str(getattr(shape, "norm", "")), norm_path, norm))
    return tuple(found)


def _multiply(parameter: torch.Tensor, factor: F64) -> None:
    parameter.copy_((parameter.to("cpu", torch.float64) * torch.from_numpy(factor)).to(torch.float32))


def _fold_preprocess(weight: torch.Tensor, bias: torch.Tensor, preprocess: Preprocess) -> tuple[torch.Tensor, torch.Tensor]:
    """`passes.fold_preprocess` for one convolution, in torch."""
    std, mean = np.array(preprocess.std), np.array(preprocess.mean)
    gain = torch.from_numpy(preprocess.scale / std).to(weight)
    offset = torch.from_numpy(mean / std).to(weight)
    source = [0] * preprocess.channels  # the pixels' channel r feeds the network's channel source[r]
    for c in range(preprocess.channels):
        source[preprocess.rgb_index(c)] = c
    folded = (weight * gain.view(1, -1, 1, 1))[:, source]
    return folded, bias - (weight * offset.view(1, -1, 1, 1)).sum((1, 2, 3))
