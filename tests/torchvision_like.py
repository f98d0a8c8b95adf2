"""SqueezeNet as torchvision writes it: modules that torch.jit.script compiles, with the family's state dict keys."""

from __future__ import annotations

import torch
from torch import nn

from fpga_squeeze.zoo.arch import ConvSpec, FireSpec, find_arch


class Fire(nn.Module):
    """squeeze, then two expands, joined."""

    def __init__(self, channels: int, squeeze: int, expand1x1: int, expand3x3: int) -> None:
        super().__init__()
        self.squeeze, self.squeeze_activation = nn.Conv2d(channels, squeeze, 1), nn.ReLU(inplace=True)
        self.expand1x1, self.expand1x1_activation = nn.Conv2d(squeeze, expand1x1, 1), nn.ReLU(inplace=True)
        self.expand3x3, self.expand3x3_activation = nn.Conv2d(squeeze, expand3x3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """A plain member of the family, in inference mode."""

    def __init__(self, name: str) -> None:
        super().__init__()
        arch = find_arch(name)
        channels, layers = arch.in_channels, list[nn.Module]()
        for spec in arch.layers:
            if isinstance(spec, ConvSpec):
                layers += [nn.Conv2d(channels, spec.out_channels, spec.kernel, spec.stride, spec.padding), nn.ReLU(inplace=True)]
                channels = spec.out_channels
            elif isinstance(spec, FireSpec):
                layers.append(Fire(channels, spec.squeeze, spec.expand1x1, spec.expand3x3))
                channels = spec.out_channels
            else:
                layers.append(nn.MaxPool2d(spec.kernel, spec.stride, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(channels, arch.classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)
