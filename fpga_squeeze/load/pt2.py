"""torch.export programs (.pt2): the graph is read from the archive's JSON, the tensors from its raw bytes. torch.export.load is not used, as it
evaluates expressions of the file.

Two layouts exist: torch 2.7 and newer (models/*.json, data/weights/, data/constants/) and before (serialized_*.json and .pt at the top).
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.archive import Archive
from fpga_squeeze.load.aten import Recorder
from fpga_squeeze.load.aten_ops import Tensor
from fpga_squeeze.load.features import clean
from fpga_squeeze.load.source import Imported

RUNNER = "torch's own operators"
MAX_INPUT_SIZE = 4096
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64,
    12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_PREFIX = "torch.ops.aten."
Json = dict[str, Any]


def load_exported_program(path: Path, input_size: int | None) -> Imported:
    """Read a .pt2 file. `input_size` stands for a height and width that the program leaves open.

    Raises InputError: damaged or oversized archives, an unknown layout, an input that is no image, and every operator that cannot be built.
    """
    with Archive(path) as archive:
        try:
            program = _json(archive, _program_name(archive))
            return _Program(path, program, _Weights(archive)).run(input_size)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration, RecursionError) as error:
            raise InputError(f"{path}: the exported program is damaged or of an unknown version ({type(error).__name__}: {clean(str(error))})") from error


def _program_name(archive: Archive) -> str:
    if "serialized_exported_program.json" in archive.names:
        return "serialized_exported_program.json"
    models = sorted(n for n in archive.names if n.startswith("models/") and n.endswith(".json"))
    if len(models) != 1:
        raise InputError(f"{archive.path}: {len(models)} exported programs in the archive; one was expected")
    return models[0]


def _json(archive: Archive, name: str) -> Json:
    body = json.loads(archive.text(name))
    if not isinstance(body, dict):
        raise InputError(f"{archive.path}: {name} holds no JSON object; the file is damaged")
    return body


class _Weights:
    """Parameters, buffers and constants by name, read when asked for."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._raw: dict[str, tuple[str, Json]] = {}
        self._loaded: dict[str, torch.Tensor] = {}
        for folder, config in (("data/weights", "model_weights_config.json"), ("data/constants", "model_constants_config.json")):
            if f"{folder}/{config}" in archive.names:
                for name, entry in _json(archive, f"{folder}/{config}")["config"].items():
                    self._raw[name] = (f"{folder}/{entry['path_name']}", entry)
        for name in ("serialized_state_dict.pt", "serialized_state_dict.json", "serialized_constants.pt", "serialized_constants.json"):
            if name in archive.names:
                self._loaded.update(_pickled(archive, name))

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._raw:
            raise InputError(f"{self._archive.path}: the tensor {clean(name)!r} is missing from the archive")
        file, entry = self._raw[name]
        if entry.get("use_pickle"):
            return _pickled(self._archive, file)[name]
        meta = entry["tensor_meta"]
        dtype = _DTYPES.get(meta["dtype"])
        sizes, strides = (tuple(int(s["as_int"]) for s in meta[key]) for key in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        content = self._archive.read(file)
        if dtype is None or min((*sizes, *strides, offset), default=0) < 0 or meta["layout"] != 7:
            raise InputError(f"{self._archive.path}: the tensor {clean(name)!r} is not a dense one of a known type")
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) if prod(sizes) else -1
        if (last + 1) * dtype.itemsize > len(content) or prod(sizes) * dtype.itemsize > len(content):
            raise InputError(f"{self._archive.path}: the tensor {clean(name)!r} of shape {list(sizes)} is longer than the {len(content)} bytes stored for it")
        if not content:
            return torch.empty(sizes, dtype=dtype)
        usable = len(content) // dtype.itemsize * dtype.itemsize
        return torch.frombuffer(bytearray(content[:usable]), dtype=dtype).as_strided(sizes, strides, offset).clone()


def _pickled(archive: Archive, name: str) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader answers a malformed file with nearly any exception type
        raise InputError(f"{archive.path}: {name} holds something other than tensors, or is damaged ({type(error).__name__})") from error
    if not isinstance(data, Mapping) or not all(isinstance(v, torch.Tensor) for v in data.values()):
        raise InputError(f"{archive.path}: {name} holds no tensors by name")
    return {str(k): v for k, v in data.items()}


class _Program:
    """Walks the serialized graph."""

    def __init__(self, path: Path, program: Json, weights: _Weights) -> None:
        self._path = path
        self._module: Json = program["graph_module"]
        self._graph: Json = self._module["graph"]
        self._weights = weights
        self._recorder = Recorder(path)
        self._values: dict[str, Any] = {}

    def run(self, input_size: int | None) -> Imported:
        inputs = self._bind_parameters()
        if len(inputs) != 1:
            raise InputError(f"{self._path}: {len(inputs)} inputs ({', '.join(clean(i) for i in inputs[:8])}); one image was expected")
        self._values[inputs[0]] = self._image(inputs[0], input_size)
        for node in self._graph["nodes"]:
            self._node(node)
        outputs = [spec["user_output"]["arg"] for spec in self._module["signature"]["output_specs"] if "user_output" in spec]
        return self._recorder.finish([self._value(arg) for arg in outputs], RUNNER)

    def _bind_parameters(self) -> list[str]:
        """Give every parameter its tensor; the names of what the user feeds."""
        inputs = []
        for spec in self._module["signature"]["input_specs"]:
            kind, body = next(iter(spec.items()))
            if kind == "user_input":
                argument = body["arg"]
                if "as_tensor" not in argument:
                    raise InputError(f"{self._path}: an input of the program is no tensor; one image was expected")
                inputs.append(argument["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                origin = body.get("parameter_name") or body.get("buffer_name") or body.get("tensor_constant_name")
                self._values[body["arg"]["name"]] = Tensor(body["arg"]["name"], constant=self._weights[origin], origin=origin)
            else:
                raise InputError(f"{self._path}: the program takes a {clean(kind)}; only parameters, buffers and one image are supported")
        return inputs

    def _image(self, name: str, input_size: int | None) -> Tensor:
        sizes = [s.get("as_int") for s in self._graph["tensor_values"][name]["sizes"]]
        where = f"{self._path}: the input {clean(name)!r} of shape {'x'.join('?' if s is None else str(s) for s in sizes)}"
        if len(sizes) != 4 or sizes[1] not in (1, 3):
            raise InputError(f"{where}: an image of four dimensions (batch, 1 or 3 channels, height, width) was expected")
        if sizes[0] is None:
            self._recorder.notes.append("batch 1 for the open batch dimension of the input")
        elif sizes[0] != 1:
            raise InputError(f"{where}: a batch of {sizes[0]}; export the model with batch 1 or with an open batch dimension")
        if None in sizes[2:] and input_size is None:
            raise InputError(f"{where}: height and width are open; give --input-size")
        height, width = (input_size if s is None else s for s in sizes[2:])
        assert height is not None
        if height != width or not 1 <= height <= MAX_INPUT_SIZE:
            raise InputError(f"{where}: square images of at most {MAX_INPUT_SIZE} pixels a side are supported")
        if input_size is not None and height != input_size:
            raise InputError(f"{where}: the model takes {height}x{width} pixels but --input-size says {input_size}")
        return self._recorder.image(sizes[1], int(height), name)

    def _node(self, node: Json) -> None:
        target = str(node["target"])
        outputs = node["outputs"]
        name = next((str(body["name"]) for o in outputs for body in o.values() if isinstance(body, dict) and "name" in body), target)
        if target in ("_operator.getitem", "operator.getitem"):
            source, index = (self._value(i["arg"]) for i in node["inputs"])
            result = source[index] if isinstance(source, tuple) else source
        elif not target.startswith(_PREFIX):
            result = self._recorder.unknown(target.removeprefix("torch.ops."), name, "not one of torch's standard operators (aten)")
        else:
            op, _, overload = target.removeprefix(_PREFIX).partition(".")
            arguments = {i["name"]: self._value(i["arg"]) for i in node["inputs"]}
            result = self._recorder.call(op, overload or "default", (), arguments, name)
        self._assign(outputs, result)

    def _assign(self, outputs: list[Json], result: Any) -> None:
        names = []
        for o in outputs:
            kind, body = next(iter(o.items()))
            names += [t["name"] for t in body] if kind == "as_tensors" else [body.get("name") or body.get("as_name")]
        many = result if isinstance(result, tuple) else (result,) * len(names)
        for name, value in zip(names, many, strict=False):
            self._values[name] = value

    def _value(self, argument: Json) -> Any:
        """A serialized argument: a number, a list, a tensor made before, or None."""
        kind, body = next(iter(argument.items()))
        if kind == "as_tensor":
            return self._find(body["name"])
        if kind in ("as_tensors",):
            return [self._find(t["name"]) for t in body]
        if kind == "as_none":
            return None
        if kind in ("as_sym_int", "as_sym_ints"):
            many = [self._find(b["as_name"]) if "as_name" in b else b["as_int"] for b in (body if isinstance(body, list) else [body])]
            return many if isinstance(body, list) else many[0]
        if kind == "as_scalar_type":
            return _DTYPES.get(body)
        if kind in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_strings"):
            return body
        return kind  # a device, layout or memory format: text, which an operator's schema takes or refuses

    def _find(self, name: str) -> Any:
        if name not in self._values:
            raise InputError(f"{self._path}: {clean(name)!r} is read before anything makes it; the program is not valid")
        return self._values[name]
