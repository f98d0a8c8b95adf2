"""The front door: a model file and the user's options become a float Graph, its preprocessing, and a list of what had to be assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.preprocess import Preprocess, read_preprocess
from fpga_squeeze.load.squeezenet import build_graph
from fpga_squeeze.load.state_dict import Tensors, mismatch, read_tensors, take_weights
from fpga_squeeze.zoo.arch import ARCHS, Arch, ConvSpec, find_arch

_MAX_INPUT_SIZE = 2048


@dataclass(frozen=True)
class LoadOptions:
    """What a state dict cannot say; None means the arch's default, which is then listed among the assumptions.

    `input_size`: side of the square image in pixels. `conv10_padding`: pixels on each side (the Caffe originals pad by 1, torchvision by 0).
    `preprocess`: a preset's name or the path of a JSON file.
    """

    arch: str = "auto"
    input_size: int | None = None
    ceil_mode: bool | None = None
    conv10_padding: int | None = None
    preprocess: str | None = None


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """`graph` is unfused float and takes the normalized tensor that `preprocess.normalize` gives; `assumptions` are plain sentences."""

    graph: Graph
    preprocess: Preprocess
    arch: str
    classes: int
    assumptions: tuple[str, ...]


def load_model(path: Path | str, options: LoadOptions | None = None) -> LoadedModel:
    """Load a SqueezeNet state dict (.pt, .pth).

    Raises InputError: not a readable state dict, tensors that fit no known arch (the first layer that differs is named), NaN or infinite
    weights, options out of range.
    """
    path = Path(path)
    chosen = options if options is not None else LoadOptions()
    _check_options(chosen)
    tensors = read_tensors(path)
    arch = find_arch(chosen.arch) if chosen.arch != "auto" else infer_arch(path, tensors)
    weights = take_weights(path, tensors, arch)
    channels = weights[arch.layers[0].name].weight.shape[1]
    classes = weights["conv10"].weight.shape[0]
    preprocess = read_preprocess(chosen.preprocess or arch.preprocess, chosen.input_size, arch.input_size, channels)
    ceil_mode = arch.ceil_mode if chosen.ceil_mode is None else chosen.ceil_mode
    conv10_padding = 0 if chosen.conv10_padding is None else chosen.conv10_padding
    graph = build_graph(arch, weights, preprocess.size, ceil_mode, conv10_padding)
    return LoadedModel(graph, preprocess, arch.name, classes, _assumptions(arch, chosen, preprocess, ceil_mode))


def infer_arch(path: Path, tensors: Tensors) -> Arch:
    """The arch that every tensor fits; raises InputError about the first differing layer of the nearest one."""
    results = [(*mismatch(tensors, arch), arch) for arch in ARCHS]
    for _, difference, arch in results:
        if difference is None:
            return arch
    fitting, difference, nearest = max(results, key=lambda r: r[0])
    if fitting == 0:
        first = next(iter(tensors))
        shape = "x".join(str(n) for n in tensors[first].shape)
        known = ", ".join(a.name for a in ARCHS)
        raise InputError(f"{path}: fits no known arch ({known}): its first tensor is {first} ({shape}); {nearest.name}: {difference}")
    raise InputError(f"{path}: fits no known arch; nearest is {nearest.name}: {difference}")


def _check_options(options: LoadOptions) -> None:
    if options.arch != "auto":
        find_arch(options.arch)
    if options.input_size is not None and not 1 <= options.input_size <= _MAX_INPUT_SIZE:
        raise InputError(f"--input-size is {options.input_size}, expected 1 to {_MAX_INPUT_SIZE} pixels")
    if options.conv10_padding is not None and not 0 <= options.conv10_padding <= 3:
        raise InputError(f"--conv10-padding is {options.conv10_padding}, expected 0 to 3 pixels")


def _assumptions(arch: Arch, options: LoadOptions, preprocess: Preprocess, ceil_mode: bool) -> tuple[str, ...]:
    """What the file did not say and no option settled, each with the option that changes it."""
    stem = arch.layers[0]
    assert isinstance(stem, ConvSpec)
    pools = ", ".join(p.name for p in arch.pools)
    lines = [f"strides and pooling: {stem.name} stride {stem.stride} padding {stem.padding}, 3x3 max pools of stride 2 at {pools}"]
    if options.arch == "auto":
        lines.insert(0, f"arch {arch.name}, from the layers' shapes (--arch)")
        if any(a.name == f"{arch.name}_bypass" for a in ARCHS):
            lines.insert(1, f"no bypass: a simple bypass leaves no trace in the weights (--arch {arch.name}_bypass)")
    if arch.batch_norm:
        lines.append("batch normalization with epsilon 1e-5, torch's default")
    if options.ceil_mode is None:
        lines.append(f"pooling rounds {'up' if ceil_mode else 'down'}, ceil_mode={ceil_mode} (--ceil-mode/--floor-mode)")
    if options.conv10_padding is None:
        lines.append("conv10 padding 0 (--conv10-padding; the Caffe originals pad by 1)")
    if options.input_size is None:
        lines.append(f"input {preprocess.channels}x{preprocess.size}x{preprocess.size} (--input-size)")
    if options.preprocess is None:
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (preprocess.mean, preprocess.std))
        lines.append(
            f"preprocessing {preprocess.name}: short side {preprocess.resize}, centre {preprocess.size}, {preprocess.order}, "
            f"scale {preprocess.scale:.6g}, mean ({mean}), std ({std}) (--preprocess)"
        )
    return tuple(lines)
