"""The members of the family by name, and the builder they all come from: the paper's metaparameters, its bypasses, optional batch normalization.

Layers and tables: zoo/tables.py. Paper: Iandola et al., arXiv 1602.07360, sections 4 and 5 (metaparameters), 6 (bypass).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import cache
from math import isfinite

from fpga_squeeze.errors import InputError
from fpga_squeeze.zoo.tables import Arch, ConvShape, ConvSpec, FireSpec, LayerSpec, PoolSpec, conv_shapes

STEMS = {"1.0": (96, 7, (1, 4, 8)), "1.1": (64, 3, (1, 3, 5))}
"""conv1's channels and kernel (stride 2), and the layers that a 3x3 max pool of stride 2 follows."""

BYPASSES = ("none", "simple", "complex")
FIRES = range(2, 10)
CUSTOM = "custom:"
MOST_CHANNELS = 4096


@dataclass(frozen=True)
class Metaparameters:
    """The paper's description of a SqueezeNet. Fire module i = 0 ... 7 (fire2 ... fire9) has e_i = base_e + incr_e * floor(i / freq) expand filters, of
    them round(pct_3x3 * e_i) 3x3 and the rest 1x1, and round(sr * e_i) squeeze filters. The defaults are SqueezeNet v1.0.

    `stem`: "1.0" (conv1 7x7, 96 channels, pools behind conv1, fire4, fire8) or "1.1" (3x3, 64, pools behind conv1, fire3, fire5).
    `bypass`: "simple" adds a fire's input to its output wherever both have the same channels (v1.0 and v1.1: fire3, 5, 7, 9); "complex" also adds a 1x1
    convolution of the input where they have not (fire2, 4, 6, 8). `batch_norm`: behind every convolution but conv10.
    """

    base_e: int = 128
    incr_e: int = 128
    freq: int = 2
    pct_3x3: float = 0.5
    sr: float = 0.125
    stem: str = "1.0"
    bypass: str = "none"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        for name, low in (("base_e", 2), ("incr_e", 0), ("freq", 1)):
            value = getattr(self, name)
            if not low <= value <= MOST_CHANNELS:
                raise InputError(f"metaparameter {name}: {low} to {MOST_CHANNELS} was expected, got {value}")
        for name in ("pct_3x3", "sr"):
            value = getattr(self, name)
            if not (isfinite(value) and 0 < value <= 1):
                raise InputError(f"metaparameter {name}: a share above 0 and up to 1 was expected, got {value:g}")
        if self.stem not in STEMS:
            raise InputError(f"metaparameter stem: {' or '.join(STEMS)} was expected, got {self.stem!r}")
        if self.bypass not in BYPASSES:
            raise InputError(f"metaparameter bypass: one of {', '.join(BYPASSES)} was expected, got {self.bypass!r}")
        for i in range(len(FIRES)):
            squeeze, one, three = self.fire(i)
            if min(squeeze, one, three) < 1 or one + three > MOST_CHANNELS:
                raise InputError(f"metaparameters: fire{i + 2} has {squeeze} squeeze, {one} 1x1 and {three} 3x3 filters; 1 or more each was expected")

    def fire(self, i: int) -> tuple[int, int, int]:
        """(squeeze, expand1x1, expand3x3) filters of module i, 0 for fire2.

        >>> Metaparameters().fire(0), Metaparameters().fire(7)
        ((16, 64, 64), (64, 256, 256))
        """
        e = self.base_e + self.incr_e * (i // self.freq)
        three = round(self.pct_3x3 * e)
        return round(self.sr * e), e - three, three

    @property
    def text(self) -> str:
        """`custom:base_e=...,...`: every metaparameter by name, as --arch takes it."""
        return CUSTOM + ",".join(f"{f.name}={_word(getattr(self, f.name))}" for f in fields(self))


def build_arch(name: str, meta: Metaparameters, input_size: int = 224, in_channels: int = 3, classes: int = 1000, dropout: float = 0.5) -> Arch:
    """The network that `meta` describes: conv1, fire2 ... fire9 with pools and bypasses, dropout, conv10, global average pooling."""
    channels, kernel, pools = STEMS[meta.stem]
    layers: list[LayerSpec] = [ConvSpec("conv1", channels, kernel, stride=2), PoolSpec("pool1")]
    for i, number in enumerate(FIRES):
        fire = FireSpec(f"fire{number}", *meta.fire(i))
        if meta.bypass != "none" and fire.out_channels == channels:
            fire = replace(fire, bypass="simple")
        elif meta.bypass == "complex":
            fire = replace(fire, bypass="conv")
        layers.append(fire)
        channels = fire.out_channels
        if number in pools:
            layers.append(PoolSpec(f"pool{number}"))
    return Arch(name, tuple(layers), input_size, in_channels, classes, "torchvision", dropout, batch_norm=meta.batch_norm)


def parse_metaparameters(text: str) -> Metaparameters:
    """`custom:base_e=64,incr_e=32,sr=0.25,stem=1.1,bypass=simple`; what is left out has its default.

    >>> parse_metaparameters("custom:base_e=64,bypass=simple").text == Metaparameters(base_e=64, bypass="simple").text
    True
    """
    values: dict[str, int | float | str | bool] = {}
    kinds = {f.name: str(f.type) for f in fields(Metaparameters)}
    for part in filter(None, text.removeprefix(CUSTOM).split(",")):
        key, equal, word = (p.strip() for p in part.partition("="))
        if not equal or key not in kinds or key in values:
            raise InputError(f"--arch {text}: {part!r} is not one of {', '.join(f'{k}={v}' for k, v in kinds.items())}, each at most once")
        values[key] = _typed(text, key, kinds[key], word)
    return Metaparameters(**values)  # type: ignore[arg-type]


def _typed(text: str, key: str, kind: str, word: str) -> int | float | str | bool:
    if kind == "str":
        return word
    if kind == "bool" and word in ("true", "false"):
        return word == "true"
    if kind == "int" and re.fullmatch(r"\d{1,6}", word):
        return int(word)
    if kind == "float" and re.fullmatch(r"\d{0,3}\.?\d{1,12}", word):
        return float(word)
    raise InputError(f"--arch {text}: {key} is {word!r}, expected {'true or false' if kind == 'bool' else 'a number' if kind == 'float' else 'a whole number'}")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


SQUEEZENET1_0 = build_arch("squeezenet1_0", Metaparameters())
SQUEEZENET1_1 = build_arch("squeezenet1_1", Metaparameters(stem="1.1"))
SQUEEZENET1_0_BYPASS = build_arch("squeezenet1_0_bypass", Metaparameters(bypass="simple"))
SQUEEZENET1_1_BYPASS = build_arch("squeezenet1_1_bypass", Metaparameters(stem="1.1", bypass="simple"))
SQUEEZENET1_0_COMPLEX_BYPASS = build_arch("squeezenet1_0_complex_bypass", Metaparameters(bypass="complex"))
SQUEEZENET1_1_COMPLEX_BYPASS = build_arch("squeezenet1_1_complex_bypass", Metaparameters(stem="1.1", bypass="complex"))

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

ARCHS: tuple[Arch, ...] = (
    SQUEEZENET1_0, SQUEEZENET1_1, SQUEEZENET_DIGITS, SQUEEZENET1_0_BYPASS, SQUEEZENET1_1_BYPASS, SQUEEZENET1_0_COMPLEX_BYPASS, SQUEEZENET1_1_COMPLEX_BYPASS,
)  # fmt: skip
"""In the order in which a state dict is tried: the shapes of a simple bypass net are those of the plain one, which stands before it."""


@cache
def find_arch(name: str) -> Arch:
    """The arch called `name`, or the one that `custom:...` describes; raises InputError with the known names otherwise."""
    if name.startswith(CUSTOM):
        meta = parse_metaparameters(name)
        return build_arch(meta.text, meta)
    for arch in ARCHS:
        if arch.name == name:
            return arch
    known = ", ".join(a.name for a in ARCHS)
    raise InputError(f"unknown arch {name!r}; known: {known}, and custom:base_e=...,incr_e=... (docs/family.md)")


__all__ = [
    "ARCHS", "BYPASSES", "SQUEEZENET1_0", "SQUEEZENET1_0_BYPASS", "SQUEEZENET1_0_COMPLEX_BYPASS", "SQUEEZENET1_1", "SQUEEZENET1_1_BYPASS",
    "SQUEEZENET1_1_COMPLEX_BYPASS", "SQUEEZENET_DIGITS", "Arch", "ConvShape", "ConvSpec", "FireSpec", "LayerSpec", "Metaparameters", "PoolSpec", "build_arch",
    "conv_shapes", "find_arch", "parse_metaparameters",
]  # fmt: skip
