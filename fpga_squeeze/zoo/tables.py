"""The SqueezeNet family as tables: one description of widths, strides and pool positions for the torch modules, the loader and the docs.

A state dict stores weights and no topology; what is not in the shapes (strides, pools, padding) is stated here, once.
Layer names are the paper's; `torchvision_prefix` gives the module path of the same layer in torchvision's implementation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvSpec:
    """A convolution with ReLU: conv1. `padding` on all four sides."""

    name: str
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class PoolSpec:
    """Max pooling without padding; its name counts as in the paper, after the layer before it."""

    name: str
    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True)
class FireSpec:
    """squeeze (1x1) -> ReLU -> expand1x1 | expand3x3 (padding 1) -> ReLU -> concat -> addition of the bypass, if there is one.

    `bypass`: "none"; "simple", the fire's input is added to the concat; "conv", a 1x1 convolution of the input (no ReLU) is added.
    """

    name: str
    squeeze: int
    expand1x1: int
    expand3x3: int
    bypass: str = "none"

    @property
    def out_channels(self) -> int:
        """Channels after the concat."""
        return self.expand1x1 + self.expand3x3


LayerSpec = ConvSpec | PoolSpec | FireSpec


@dataclass(frozen=True)
class Arch:
    """One network: `layers` up to the classifier, which is dropout, a 1x1 conv10 with ReLU and the global mean.

    `input_size`, `in_channels`, `classes` and `preprocess` (a preset's name) are what is assumed when nothing else is said. `batch_norm`: every
    convolution but conv10 is followed by a batch normalization, before its ReLU, and has no bias of its own.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    input_size: int
    in_channels: int
    classes: int
    preprocess: str
    dropout: float = 0.5
    ceil_mode: bool = True
    batch_norm: bool = False

    @property
    def final_channels(self) -> int:
        """Channels that conv10 reads."""
        return next(layer.out_channels for layer in reversed(self.layers) if not isinstance(layer, PoolSpec))

    @property
    def pools(self) -> tuple[PoolSpec, ...]:
        """The max pools in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, PoolSpec))


@dataclass(frozen=True)
class ConvShape:
    """One convolution's tensors: paper name, torchvision's module path, weight shape (OC, IC, K, K); the bias is (OC,).

    `norm_prefix`: module path of the batch normalization behind it, whose paper name is `norm`; empty without one.
    """

    name: str
    torchvision_prefix: str
    weight: tuple[int, int, int, int]
    norm_prefix: str = ""

    @property
    def norm(self) -> str:
        """Paper name of the batch normalization."""
        return f"{self.name}_bn"


def conv_shapes(arch: Arch, in_channels: int | None = None, classes: int | None = None) -> tuple[ConvShape, ...]:
    """Every convolution of `arch` in execution order.

    >>> net = Arch("a", (ConvSpec("conv1", 64, 3, 2), PoolSpec("pool1"), FireSpec("fire2", 16, 64, 64)), 224, 3, 1000, "torchvision")
    >>> [s.torchvision_prefix for s in conv_shapes(net)][:3], conv_shapes(net)[-1].weight
    (['features.0', 'features.3.squeeze', 'features.3.expand1x1'], (1000, 128, 1, 1))
    """
    shapes: list[ConvShape] = []
    channels = arch.in_channels if in_channels is None else in_channels
    index = 0
    for layer in arch.layers:
        prefix = f"features.{index}"
        index += 1
        if isinstance(layer, ConvSpec):
            norm = f"features.{index}" if arch.batch_norm else ""
            shapes.append(ConvShape(layer.name, prefix, (layer.out_channels, channels, layer.kernel, layer.kernel), norm))
            channels = layer.out_channels
            index += 1 + arch.batch_norm  # its ReLU has an index of its own in torchvision's Sequential
        elif isinstance(layer, FireSpec):
            parts = [("squeeze", layer.squeeze, channels, 1)]
            parts += [("expand1x1", layer.expand1x1, layer.squeeze, 1), ("expand3x3", layer.expand3x3, layer.squeeze, 3)]
            if layer.bypass == "conv":
                parts.append(("bypass", layer.out_channels, channels, 1))
            for part, out, into, kernel in parts:
                norm = f"{prefix}.{part}_bn" if arch.batch_norm else ""
                shapes.append(ConvShape(f"{layer.name}.{part}", f"{prefix}.{part}", (out, into, kernel, kernel), norm))
            channels = layer.out_channels
    shapes.append(ConvShape("conv10", "classifier.1", (arch.classes if classes is None else classes, channels, 1, 1)))
    return tuple(shapes)
