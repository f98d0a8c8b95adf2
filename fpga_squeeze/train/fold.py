"""The bridge between a torch module of the family and the compiler: its Graph, and its parameters as the lowered Graph's convolutions see them.

The numbers always come from the compiler's own passes (`lowered_graph`); `lowered_parameters` repeats them in torch so that gradients find their way
back through the folded preprocessing, and a test holds the two together.
"""

from __future__ import annotations

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
    """The same weights and biases in float32, differentiable with respect to the module's parameters.

    Raises InputError for a module with BatchNorm.
    """
    normalized = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if normalized:
        raise InputError(f"--qat: {model.arch} has BatchNorm ({normalized[0]}), which is trained in floating point only; use a network without, or PTQ")
    result: Lowered = {}
    for i, (name, conv) in enumerate(_convolutions(model)):
        assert conv.bias is not None
        weight, bias = conv.weight, conv.bias
        if i == 0:
            weight, bias = _fold_preprocess(weight, bias, preprocess)
        result[name] = (weight, bias)
    return result


def weight_gradients(model: SqueezeNet, preprocess: Preprocess) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """(convolution, its weight as the lowered graph has it but with the module's channel order, the gradient of the module's own weight).

    Folding multiplies by positive factors only, so a gradient has the same sign on either side.
    """
    result = []
    for i, (name, conv) in enumerate(_convolutions(model)):
        weight, gradient = conv.weight, conv.weight.grad
        assert gradient is not None and conv.bias is not None
        if i == 0:
            weight, _ = _fold_preprocess(weight, conv.bias, preprocess)
            if preprocess.order == "BGR":
                weight = weight.flip(1)  # back to the module's order
        result.append((name, weight, gradient))
    return result


def rescale_module(model: SqueezeNet, graph: Graph, scales: dict[str, F64]) -> None:
    """Multiply channel c of every tensor by scales[node][c] in place (calibration's equalization): the module stays the same function.

    The factors of the image and of the scores must be 1, as calibration leaves them.
    """
    with torch.no_grad():
        for name, conv in _convolutions(model):
            made, read = scales[name], scales[graph[name].inputs[0]]
            assert conv.bias is not None
            factor = torch.from_numpy(made[:, None] / read[None, :])[:, :, None, None]
            conv.weight.copy_((conv.weight.to("cpu", torch.float64) * factor).to(torch.float32))
            conv.bias.copy_((conv.bias.to("cpu", torch.float64) * torch.from_numpy(made)).to(torch.float32))


def new_model(arch: Arch, classes: int, channels: int, init: Tensors | None, where: str = "--init") -> tuple[SqueezeNet, bool]:
    """A module for `classes`, its weights from `init` where given: (module, whether conv10 was made anew because the class counts differ).

    Raises InputError when `init` does not fit `arch`. Fresh weights come from torch's global generator.
    """
    model = SqueezeNet(arch, classes, channels)
    if init is None:
        return model, True
    take_weights(Path(where), init, arch)  # every tensor is there, fits and is finite
    modules = {shape.name: shape.torchvision_prefix for shape in conv_shapes(arch)}
    state: Tensors = {}
    for key, name in paper_names(init, arch).items():
        layer, _, leaf = name.rpartition(".")
        state[f"{modules[layer]}.{leaf}"] = init[key].to(torch.float32)
    own = model.state_dict()
    head = modules["conv10"]
    replaced = state[f"{head}.weight"].shape[0] != classes
    if replaced:
        state.update({f"{head}.{leaf}": own[f"{head}.{leaf}"] for leaf in ("weight", "bias")})
    found = state["features.0.weight"].shape[1]
    if found != channels:
        raise InputError(f"{where}: its first layer takes {found} channels, the preprocessing gives {channels}")
    model.load_state_dict(state)
    return model, replaced


def _convolutions(model: SqueezeNet) -> tuple[tuple[str, nn.Conv2d], ...]:
    found = []
    for shape in conv_shapes(find_arch(model.arch)):
        conv = model.get_submodule(shape.torchvision_prefix)
        assert isinstance(conv, nn.Conv2d)
        found.append((shape.name, conv))
    return tuple(found)


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
