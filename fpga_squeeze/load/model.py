"""The front door: a model file and the user's options become a float Graph, its preprocessing, and a list of what had to be assumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import BatchNorm, Graph
from fpga_squeeze.limits import INPUT_SIZES
from fpga_squeeze.load import archive
from fpga_squeeze.load.model_file import check_file
from fpga_squeeze.load.onnx_import import load_onnx
from fpga_squeeze.load.preprocess import Preprocess, read_preprocess
from fpga_squeeze.load.pt2 import load_exported_program
from fpga_squeeze.load.recognise import recognise
from fpga_squeeze.load.source import Imported, SourceModel, renamed, renamed_formats
from fpga_squeeze.load.squeezenet import build_graph
from fpga_squeeze.load.state_dict import Tensors, mismatch, read_model_file, take_weights
from fpga_squeeze.load.torchscript import load_torchscript
from fpga_squeeze.load.trained import Trained, read_trained
from fpga_squeeze.prescribed import Prescribed
from fpga_squeeze.zoo.arch import ARCHS, Arch, ConvSpec, find_arch

GRAPH = "graph"
"""The arch of a network that is no member of the family: the file's own graph is the topology."""
DEFAULT_PREPROCESS = "torchvision"
DEFAULT_SIZE = 224


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
    """`graph` is unfused float and takes the normalized tensor that `preprocess.normalize` gives; `assumptions` are plain sentences.

    `source` is the foreign model that `graph` was made from, still able to run; None for a state dict, which holds no network to compare with.
    `prescribed`: number formats that the model brings along, to be taken as they are; None where they are to be chosen by calibration.
    """

    graph: Graph
    preprocess: Preprocess
    arch: str
    classes: int
    assumptions: tuple[str, ...]
    prescribed: Prescribed | None = None
    source: SourceModel | None = None


def load_model(path: Path | str, options: LoadOptions | None = None) -> LoadedModel:
    """Load a model: a SqueezeNet state dict (.pt, .pth), or any supported CNN as ONNX, torch.export program (.pt2) or TorchScript archive.

    The content decides which it is, not the name. No code of a file is ever run.

    Raises InputError: not readable, tensors that fit no known arch (the first layer that differs is named), operators that cannot be built
    (all of them are named), NaN or infinite weights, options out of range or against what the file says.
    """
    path = Path(path)
    chosen = options if options is not None else LoadOptions()
    _check_options(chosen)
    check_file(path)
    kind = archive.kind_of(path)
    if kind == archive.ONNX:
        return _from_graph(path, chosen, load_onnx(path, chosen.input_size))
    if kind == archive.EXPORTED_PROGRAM:
        return _from_graph(path, chosen, load_exported_program(path, chosen.input_size))
    if kind == archive.TORCHSCRIPT:
        return _from_graph(path, chosen, load_torchscript(path, chosen.input_size, DEFAULT_SIZE))
    return _from_state_dict(path, chosen)


def _from_state_dict(path: Path, chosen: LoadOptions) -> LoadedModel:
    if chosen.arch == GRAPH:
        raise InputError(f"{path}: --arch {GRAPH} means that the file holds the network's graph, but it is a state dict; name its architecture")
    tensors, data = read_model_file(path)
    trained = read_trained(path, data)
    if trained is not None and chosen.arch == "auto":
        chosen = replace(chosen, arch=trained.arch)
    arch = find_arch(chosen.arch) if chosen.arch != "auto" else infer_arch(path, tensors)
    weights = take_weights(path, tensors, arch)
    channels = weights[arch.layers[0].name].weight.shape[1]
    classes = weights["conv10"].weight.shape[0]
    preprocess = _preprocess(path, chosen, arch, trained, channels)
    ceil_mode = arch.ceil_mode if chosen.ceil_mode is None else chosen.ceil_mode
    conv10_padding = 0 if chosen.conv10_padding is None else chosen.conv10_padding
    graph = build_graph(arch, weights, preprocess.size, ceil_mode, conv10_padding)
    prescribed = trained.prescribed if trained is not None else None
    if trained is not None:  # said by the file, hence not assumed
        chosen = replace(chosen, input_size=preprocess.size, preprocess=preprocess.name, conv10_padding=conv10_padding)
    return LoadedModel(graph, preprocess, arch.name, classes, _assumptions(arch, chosen, preprocess, ceil_mode), prescribed)


def _preprocess(path: Path, options: LoadOptions, arch: Arch, trained: Trained | None, channels: int) -> Preprocess:
    """The options', else the training's, else the arch's own. Prescribed formats only fit the preprocessing that they were trained with."""
    if trained is None:
        return read_preprocess(options.preprocess or arch.preprocess, options.input_size, arch.input_size, channels)
    known = trained.preprocess
    if known.channels != channels:
        raise InputError(f"{path}: was trained on {known.channels} channels but its first layer takes {channels}")
    found = known if options.input_size is None else known.resized(options.input_size)
    if options.preprocess is not None:
        found = read_preprocess(options.preprocess, options.input_size, known.size, channels)
    same = (found.order, found.scale, found.mean, found.std) == (known.order, known.scale, known.mean, known.std)
    if trained.prescribed is not None and not same:
        raise InputError(f"--preprocess {options.preprocess}: the number formats in {path} were trained with {known.name}; leave the option out")
    return found


def _from_graph(path: Path, chosen: LoadOptions, imported: Imported) -> LoadedModel:
    """A file that holds its own graph: preprocessing is the one thing left to assume."""
    for option, value in (("--ceil-mode/--floor-mode", chosen.ceil_mode), ("--conv10-padding", chosen.conv10_padding)):
        if value is not None:
            raise InputError(f"{path}: {option} is for state dicts; this file says itself how it pads and pools, so leave the option out")
    graph, source, arch = imported.graph, imported.source, GRAPH
    prescribed = imported.prescribed
    member = recognise(graph)
    if member is not None:
        graph, source, arch = member.graph, renamed(source, member.names), member.arch.name
        prescribed = None if prescribed is None else renamed_formats(prescribed, member.names)
    if chosen.arch not in ("auto", GRAPH, arch):
        raise InputError(f"{path}: --arch {chosen.arch} was asked for, but the graph is {'no member of the family' if member is None else arch}")
    channels, size, _ = graph.input.shape
    default = "none" if source.raw_pixels else DEFAULT_PREPROCESS if member is None else member.arch.preprocess
    preprocess = read_preprocess(chosen.preprocess or default, size, size, channels)
    plain = preprocess.scale == 1.0 and not any(preprocess.mean) and all(s == 1.0 for s in preprocess.std)
    if prescribed is not None and not plain:
        raise InputError(f"{path}: --preprocess {chosen.preprocess}: a quantized model takes raw pixels as they are (none, or a BGR order without scaling)")
    lines = [f"arch {arch}, from the file's own graph"] if chosen.arch == "auto" else []
    lines += imported.assumptions
    if chosen.preprocess is None:
        lines.append(_preprocess_line(preprocess))
        if any(isinstance(n.op, BatchNorm) for n in graph.consumers(graph.input.name)):
            lines.append("the graph scales its input itself; if it takes raw pixels, say --preprocess none")
    return LoadedModel(graph, preprocess, arch, graph[graph.output].shape[0], tuple(lines), prescribed, source)


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
    if options.arch not in ("auto", GRAPH):
        find_arch(options.arch)
    if options.input_size is not None and not 1 <= options.input_size <= INPUT_SIZES[1]:
        raise InputError(f"--input-size is {options.input_size}, expected 1 to {INPUT_SIZES[1]} pixels")
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
        lines.append(_preprocess_line(preprocess))
    return tuple(lines)


def _preprocess_line(preprocess: Preprocess) -> str:
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (preprocess.mean, preprocess.std))
    return (
        f"preprocessing {preprocess.name}: short side {preprocess.resize}, centre {preprocess.size}, {preprocess.order}, "
        f"scale {preprocess.scale:.6g}, mean ({mean}), std ({std}) (--preprocess)"
    )
