"""SqueezeNet as torch modules, built from the family's tables; state_dict keys equal torchvision's.

For training and for checking the loader; the compiler itself reads only tables and tensors.
"""

from __future__ import annotations

import torch
from torch import nn

from fpga_squeeze.errors import InputError
from fpga_squeeze.zoo.arch import Arch, ConvSpec, FireSpec, conv_shapes, find_arch


class Fire(nn.Module):
    """(N, in, H, W) -> (N, expand1x1 + expand3x3, H, W). `batch_norm`: behind each convolution, which then has no bias."""

    def __init__(self, in_channels: int, spec: FireSpec, batch_norm: bool = False) -> None:
        super().__init__()
        self.kind = spec.bypass
        self.batch_norm = batch_norm
        parts = {"squeeze": spec.squeeze, "expand1x1": spec.expand1x1, "expand3x3": spec.expand3x3}
        if spec.bypass == "conv":
            parts["bypass"] = spec.out_channels
        self.squeeze = nn.Conv2d(in_channels, spec.squeeze, kernel_size=1, bias=not batch_norm)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(spec.squeeze, spec.expand1x1, kernel_size=1, bias=not batch_norm)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(spec.squeeze, spec.expand3x3, kernel_size=3, padding=1, bias=not batch_norm)
        self.expand3x3_activation = nn.ReLU(inplace=True)
        if spec.bypass == "conv":
            self.bypass = nn.Conv2d(in_channels, spec.out_channels, kernel_size=1, bias=not batch_norm)
        if batch_norm:
            for name, channels in parts.items():
                self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Squeeze, then both expands, concatenated in the order [1x1, 3x3]; then the bypass is added, after the expands' ReLU and without one behind."""
        s = self.squeeze_activation(self._part("squeeze", x))
        y = torch.cat([self.expand1x1_activation(self._part("expand1x1", s)), self.expand3x3_activation(self._part("expand3x3", s))], dim=1)
        if self.kind == "none":
            return y
        return y + (x if self.kind == "simple" else self._part("bypass", x))

    def _part(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.get_submodule(name)(x)
        return self.get_submodule(f"{name}_bn")(y) if self.batch_norm else y


class SqueezeNet(nn.Module):
    """A member of the family: (N, in_channels, H, W) normalized float -> (N, classes) scores.

    Args:
        arch: its table, or its name. `classes`, `in_channels` (1 or 3), `dropout`: the arch's own when None. Any H and W that the pools allow.
    Weights start as torchvision's do: He-uniform convolutions, a normal classifier of deviation 0.01, zero biases.
    """

    def __init__(self, arch: Arch | str, classes: int | None = None, in_channels: int | None = None, dropout: float | None = None) -> None:
        super().__init__()
        table = find_arch(arch) if isinstance(arch, str) else arch
        self.arch = table.name
        self.classes = table.classes if classes is None else classes
        channels = table.in_channels if in_channels is None else in_channels
        if channels not in (1, 3):
            raise InputError(f"{table.name}: in_channels is {channels}, expected 1 or 3")
        if self.classes < 1:
            raise InputError(f"{table.name}: classes is {self.classes}, expected 1 or more")
        layers: list[nn.Module] = []
        for spec in table.layers:
            if isinstance(spec, ConvSpec):
                layers.append(nn.Conv2d(channels, spec.out_channels, spec.kernel, spec.stride, spec.padding, bias=not table.batch_norm))
                layers += [nn.BatchNorm2d(spec.out_channels)] if table.batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = spec.out_channels
            elif isinstance(spec, FireSpec):
                layers.append(Fire(channels, spec, table.batch_norm))
                channels = spec.out_channels
            else:
                layers.append(nn.MaxPool2d(spec.kernel, spec.stride, ceil_mode=table.ceil_mode))
        self.features = nn.Sequential(*layers)
        head = nn.Conv2d(channels, self.classes, kernel_size=1)
        drop = nn.Dropout(table.dropout if dropout is None else dropout)
        self.classifier = nn.Sequential(drop, head, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is head:
                    nn.init.normal_(module.weight, mean=0.0, std=0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores: the mean over the map of each class's rectified conv10 channel."""
        return torch.flatten(self.classifier(self.features(x)), 1)


def parameter_count(arch: Arch, classes: int | None = None, in_channels: int | None = None) -> int:
    """Weights and biases; with batch normalization its scales and offsets in the biases' place.

    >>> parameter_count(find_arch("squeezenet1_0")), parameter_count(find_arch("squeezenet1_1"))
    (1248424, 1235496)
    """
    total = 0
    for shape in conv_shapes(arch, in_channels, classes):
        oc, ic, kh, kw = shape.weight
        total += oc * ic * kh * kw + (2 * oc if shape.norm_prefix else oc)
    return total
