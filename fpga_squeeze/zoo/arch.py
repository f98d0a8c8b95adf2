"""The SqueezeNet family as tables: one description of widths, strides and pool positions for the torch modules, the loader and the docs.

A state dict stores weights and no topology; what is not in the shapes (strides, pools, padding) is stated here, once.
Layer names are the paper's; `torchvision_prefix` gives the module path of the same layer in torchvision's implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.errors import InputError


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
    """squeeze (1x1) -> ReLU -> expand1x1 | expand3x3 (padding 1) -> ReLU -> concat."""

    name: str
    squeeze: int
    expand1x1: int
    expand3x3: int

    @property
    def out_channels(self) -> int:
        """Channels after the concat."""
        return self.expand1x1 + self.expand3x3


LayerSpec = ConvSpec | PoolSpec | FireSpec


@dataclass(frozen=True)
class Arch:
    """One network: `layers` up to the classifier, which is dropout, a 1x1 conv10 with ReLU and the global mean.

    `input_size`, `in_channels`, `classes` and `preprocess` (a preset's name) are what is assumed when nothing else is said.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    input_size: int
    in_channels: int
    classes: int
    preprocess: str
    dropout: float = 0.5
    ceil_mode: bool = True

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
    """One convolution's tensors: paper name, torchvision's module path, weight shape (OC, IC, K, K); the bias is (OC,)."""

    name: str
    torchvision_prefix: str
    weight: tuple[int, int, int, int]


def conv_shapes(arch: Arch, in_channels: int | None = None, classes: int | None = None) -> tuple[ConvShape, ...]:
    """Every convolution of `arch` in execution order.

    >>> [s.torchvision_prefix for s in conv_shapes(SQUEEZENET1_1)][:3], conv_shapes(SQUEEZENET1_1)[-1].weight
    (['features.0', 'features.3.squeeze', 'features.3.expand1x1'], (1000, 512, 1, 1))
    """
    shapes: list[ConvShape] = []
    channels = arch.in_channels if in_channels is None else in_channels
    index = 0
    for layer in arch.layers:
        prefix = f"features.{index}"
        index += 1
        if isinstance(layer, ConvSpec):
            shapes.append(ConvShape(layer.name, prefix, (layer.out_channels, channels, layer.kernel, layer.kernel)))
            channels = layer.out_channels
            index += 1  # its ReLU has an index of its own in torchvision's Sequential
        elif isinstance(layer, FireSpec):
            shapes.append(ConvShape(f"{layer.name}.squeeze", f"{prefix}.squeeze", (layer.squeeze, channels, 1, 1)))
            shapes.append(ConvShape(f"{layer.name}.expand1x1", f"{prefix}.expand1x1", (layer.expand1x1, layer.squeeze, 1, 1)))
            shapes.append(ConvShape(f"{layer.name}.expand3x3", f"{prefix}.expand3x3", (layer.expand3x3, layer.squeeze, 3, 3)))
            channels = layer.out_channels
    shapes.append(ConvShape("conv10", "classifier.1", (arch.classes if classes is None else classes, channels, 1, 1)))
    return tuple(shapes)


SQUEEZENET1_0 = Arch(
    "squeezenet1_0",
    (
        ConvSpec("conv1", 96, kernel=7, stride=2),
        PoolSpec("pool1"),
        FireSpec("fire2", 16, 64, 64),
        FireSpec("fire3", 16, 64, 64),
        FireSpec("fire4", 32, 128, 128),
        PoolSpec("pool4"),
        FireSpec("fire5", 32, 128, 128),
        FireSpec("fire6", 48, 192, 192),
        FireSpec("fire7", 48, 192, 192),
        FireSpec("fire8", 64, 256, 256),
        PoolSpec("pool8"),
        FireSpec("fire9", 64, 256, 256),
    ),
    input_size=224,
    in_channels=3,
    classes=1000,
    preprocess="torchvision",
)

SQUEEZENET1_1 = Arch(
    "squeezenet1_1",
    (
        ConvSpec("conv1", 64, kernel=3, stride=2),
        PoolSpec("pool1"),
        FireSpec("fire2", 16, 64, 64),
        FireSpec("fire3", 16, 64, 64),
        PoolSpec("pool3"),
        FireSpec("fire4", 32, 128, 128),
        FireSpec("fire5", 32, 128, 128),
        PoolSpec("pool5"),
        FireSpec("fire6", 48, 192, 192),
        FireSpec("fire7", 48, 192, 192),
        FireSpec("fire8", 64, 256, 256),
        FireSpec("fire9", 64, 256, 256),
    ),
    input_size=224,
    in_channels=3,
    classes=1000,
    preprocess="torchvision",
)

# Small on purpose: a frame is 0.97 M MACs, so that whole-frame C and RTL simulations take seconds. conv1 pads (a pad value that is no
# zero after folding the preprocessing) and pool2 hangs over the edge (14 -> 7 needs ceil_mode), so that both show up in the demo.
SQUEEZENET_DIGITS = Arch(
    "squeezenet_digits",
    (
        ConvSpec("conv1", 16, kernel=3, stride=2, padding=1),
        FireSpec("fire2", 8, 16, 16),
        PoolSpec("pool2"),
        FireSpec("fire3", 16, 32, 32),
        FireSpec("fire4", 16, 32, 32),
        PoolSpec("pool4"),
        FireSpec("fire5", 16, 48, 48),
    ),
    input_size=28,
    in_channels=1,
    classes=10,
    preprocess="digits",
    dropout=0.0,
)

ARCHS: tuple[Arch, ...] = (SQUEEZENET1_0, SQUEEZENET1_1, SQUEEZENET_DIGITS)


def find_arch(name: str) -> Arch:
    """The arch called `name`; raises InputError with the known names otherwise."""
    for arch in ARCHS:
        if arch.name == name:
            return arch
    raise InputError(f"unknown arch {name!r}; known: {', '.join(a.name for a in ARCHS)}")
