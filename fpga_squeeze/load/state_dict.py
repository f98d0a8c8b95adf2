"""Reads tensors out of a .pt/.pth file without running anything in it, and maps their keys to the paper's layer names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.model_file import check_file
from fpga_squeeze.zoo.arch import Arch, ConvShape, conv_shapes

MAX_CLASSES = 65_536
NORM_LEAVES = ("weight", "bias", "running_mean", "running_var")
NORM_EPS = 1e-5
"""torch's default; a state dict does not say."""
NESTED_KEYS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,80})")

F64 = NDArray[np.float64]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class ConvWeights:
    """weight (OC, IC, K, K) and bias (OC,), float64; `norm`: scale and offset (OC,) of the batch normalization behind, running statistics merged."""

    weight: F64
    bias: F64
    norm: tuple[F64, F64] | None = None


def read_tensors(path: Path) -> Tensors:
    """The state dict in `path`: plain, or nested under one of NESTED_KEYS, with common prefixes stripped from its keys.

    Only tensors and plain containers are unpickled (`weights_only`). Raises InputError with one line for anything else.
    """
    return read_model_file(path)[0]


def read_model_file(path: Path) -> tuple[Tensors, object]:
    """(`read_tensors`, everything in the file as unpickled): what lies beside the state dict is for `load.trained`."""
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on old formats; the error below is the one line the user gets
            data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader answers a malformed file with nearly any exception type
        raise InputError(f"{path}: {_why_unreadable(error)}") from error
    return _strip_prefixes(path, _find_state_dict(path, data)), data


def _why_unreadable(error: Exception) -> str:
    refused = _REFUSED_GLOBAL.search(str(error))
    if refused is not None:
        return f"holds code or objects ({refused[1]}), and only tensors are unpickled here; save model.state_dict() instead"
    if "TorchScript" in str(error):
        return "a TorchScript archive; expected a state dict, so save model.state_dict() instead"
    return f"not a PyTorch state dict, or damaged ({type(error).__name__}); expected what torch.save(model.state_dict(), ...) writes, or ONNX or .pt2"


def _find_state_dict(path: Path, data: object) -> Mapping[object, object]:
    for _ in range(3):
        if not isinstance(data, Mapping):
            raise InputError(f"{path}: holds a {type(data).__name__}, expected a dict of tensors (model.state_dict())")
        # nested first: a checkpoint may keep a tensor (the loss, say) beside its state dict
        nested = next((key for key in NESTED_KEYS if isinstance(data.get(key), Mapping)), None)
        if nested is None:
            if any(isinstance(v, torch.Tensor) for v in data.values()):
                return data
            break
        data = data[nested]
    raise InputError(f"{path}: holds no tensors; expected a state dict, plain or under {', '.join(NESTED_KEYS)}")


def _strip_prefixes(path: Path, data: Mapping[object, object]) -> Tensors:
    tensors: Tensors = {}
    for key, value in data.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: entry {str(key)[:80]!r} is a {type(value).__name__}, expected named tensors only")
        tensors[key] = value
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
                stripped = True
    return tensors


def paper_names(tensors: Tensors, arch: Arch) -> dict[str, str]:
    """Map file key -> paper name (`fire2.expand1x1.weight`) under `arch`'s numbering; keys of neither style map to themselves.

    Understood: torchvision's `features.3.squeeze.weight`, the paper's `fire2.squeeze.weight`, and `fire2/squeeze1x1.weight` after Caffe's names.
    """
    modules = {shape.torchvision_prefix: shape.name for shape in conv_shapes(arch)}
    modules |= {shape.norm_prefix: shape.norm for shape in conv_shapes(arch) if shape.norm_prefix}
    result: dict[str, str] = {}
    for key in tensors:
        module, _, leaf = key.replace("/", ".").rpartition(".")
        name = modules.get(module, module.replace("squeeze1x1", "squeeze"))
        result[key] = f"{name}.{leaf}"
    return result


def take_weights(path: Path, tensors: Tensors, arch: Arch) -> dict[str, ConvWeights]:
    """Paper layer name -> weights, every tensor of the file used once.

    Raises InputError that names the first layer (in execution order) that is missing or whose shape, type or values differ from `arch`.
    """
    difference = first_difference(tensors, arch)
    if difference is not None:
        raise InputError(f"{path}: {arch.name}: {difference}")
    by_name = {name: tensors[key] for key, name in paper_names(tensors, arch).items()}
    result: dict[str, ConvWeights] = {}
    for shape in conv_shapes(arch):
        stored = [leaf for leaf in ("weight", "bias") if f"{shape.name}.{leaf}" in by_name]
        values = {leaf: _to_float64(path, shape.name, leaf, by_name[f"{shape.name}.{leaf}"]) for leaf in stored}
        bias = values["bias"] if "bias" in values else np.zeros(shape.weight[0])
        result[shape.name] = ConvWeights(values["weight"], bias, _norm(path, shape, by_name) if shape.norm_prefix else None)
    return result


def _norm(path: Path, shape: ConvShape, by_name: Tensors) -> tuple[F64, F64]:
    """Scale and offset of a batch normalization at inference: gamma / sqrt(var + eps) and beta - mean * scale."""
    gamma, beta, mean, var = (_to_float64(path, shape.norm, leaf, by_name[f"{shape.norm}.{leaf}"]) for leaf in NORM_LEAVES)
    if (var < 0).any():
        raise InputError(f"{path}: layer {shape.norm}: a running_var is negative; variances were expected")
    scale = gamma / np.sqrt(var + NORM_EPS)
    return scale, beta - mean * scale


def _expected(arch: Arch) -> list[tuple[str, str, tuple[int, ...]]]:
    """(paper name, name in torchvision's style, shape) of every tensor of a file."""
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for shape in conv_shapes(arch):
        leaves = [("weight", shape.weight)] if shape.norm_prefix else [("weight", shape.weight), ("bias", shape.weight[:1])]
        found += [(f"{shape.name}.{leaf}", f"{shape.torchvision_prefix}.{leaf}", wanted) for leaf, wanted in leaves]
        if shape.norm_prefix:
            found += [(f"{shape.norm}.{leaf}", f"{shape.norm_prefix}.{leaf}", shape.weight[:1]) for leaf in NORM_LEAVES]
    return found


def _optional(arch: Arch) -> set[str]:
    """Paper names that a file with batch normalization may have besides: a bias ahead of it, and torch's counter of batches."""
    return {name for s in conv_shapes(arch) if s.norm_prefix for name in (f"{s.name}.bias", f"{s.norm}.num_batches_tracked")}


def first_difference(tensors: Tensors, arch: Arch) -> str | None:
    """One clause about the first layer whose tensors do not fit `arch`, or None when all fit. Input channels and classes are free."""
    return mismatch(tensors, arch)[1]


def mismatch(tensors: Tensors, arch: Arch) -> tuple[int, str | None]:
    """(how many of `arch`'s tensors fit before the first that does not, a clause about that one or None)."""
    names = paper_names(tensors, arch)
    keys: dict[str, str] = {}
    for key, name in names.items():
        if name in keys:
            return 0, f"layer {name} is stored twice, as {keys[name]} and {key}; expected once"
        keys[name] = key
    fitting = 0
    expected = _expected(arch)
    for name, torchvision_name, wanted in expected:
        if name not in keys:
            return fitting, f"layer {name} (torchvision: {torchvision_name}) is missing, expected {_text(wanted)}"
        found = tuple(tensors[keys[name]].shape)
        layer = name.rpartition(".")[0]
        if not _fits(layer, found, wanted, _classes(tensors, keys)):
            note = {"conv1": ", with 1 or 3 input channels", "conv10": f", with 1 to {MAX_CLASSES} classes"}.get(layer, "")
            return fitting, f"layer {name} is {_text(found)}, expected {_text(wanted)}{note}"
        fitting += 1
    wanted_names = {name for name, _, _ in expected} | _optional(arch)
    for shape in conv_shapes(arch):
        bias = keys.get(f"{shape.name}.bias")
        if shape.norm_prefix and bias is not None and tuple(tensors[bias].shape) != shape.weight[:1]:
            return fitting, f"layer {shape.name}.bias is {_text(tuple(tensors[bias].shape))}, expected {_text(shape.weight[:1])}"
    extra = [key for name, key in keys.items() if name not in wanted_names]
    if extra:
        return fitting, f"unknown layer {extra[0]!r} ({len(extra)} such in all); expected only the {fitting} tensors of {arch.name}"
    return fitting, None


def _classes(tensors: Tensors, keys: Mapping[str, str]) -> int:
    head = tensors[keys["conv10.weight"]] if "conv10.weight" in keys else None
    return int(head.shape[0]) if head is not None and head.ndim == 4 else 0


def _fits(layer: str, found: tuple[int, ...], wanted: tuple[int, ...], classes: int) -> bool:
    if len(found) != len(wanted):
        return False
    if layer == "conv1" and len(found) == 4:
        return found[1] in (1, 3) and (found[0], *found[2:]) == (wanted[0], *wanted[2:])
    if layer == "conv10":
        return 1 <= found[0] <= MAX_CLASSES and found[0] == classes and found[1:] == wanted[1:]
    return found == wanted


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) if shape else "a single number"


def _to_float64(path: Path, layer: str, leaf: str, tensor: torch.Tensor) -> F64:
    if tensor.dtype not in _FLOATS or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.dtype} {tensor.layout}".replace("torch.", "")
        raise InputError(f"{path}: layer {layer}: the {leaf} is {kind}, expected dense floating-point numbers (16, 32 or 64 bits)")
    values = tensor.detach().to(torch.float64).contiguous().numpy()
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(f"{path}: layer {layer}: {bad} of {values.size} {leaf} values are NaN or infinite; finite numbers were expected")
    return values
