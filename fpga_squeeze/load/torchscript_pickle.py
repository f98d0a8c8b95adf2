"""Reads the pickles of a TorchScript archive into plain stand-ins. Nothing but the few rebuild functions below is ever called, opcodes outside
a short list are refused before anything is unpickled, and classes become inert `Module` objects.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.archive import Archive
from fpga_squeeze.load.features import clean

MAX_PICKLE_BYTES = 16_000_000
MAX_OPCODES = 2_000_000
_OPCODES = frozenset((
    "PROTO", "GLOBAL", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NEWOBJ", "EMPTY_DICT", "MARK", "BINUNICODE", "SHORT_BINUNICODE", "BINPUT",
    "LONG_BINPUT", "BINGET", "LONG_BINGET", "NEWFALSE", "NEWTRUE", "NONE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINPERSID", "REDUCE",
    "SETITEM", "SETITEMS", "BUILD", "EMPTY_LIST", "APPEND", "APPENDS", "STOP",
))  # fmt: skip
_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip


@dataclass(eq=False)
class Module:
    """Stands for a scripted module: the name of its class in the archive's code, its attributes, and its path in the network."""

    kind: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    path: str = ""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's state must be its attributes by name")
        self.attributes = {str(k): v for k, v in state.items()}


class Held:
    """A tensor as the unpickler sees it: without the methods that a pickle could call on a real one."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class _Callable:
    """A rebuild function as the unpickler sees it: one for each use, without attributes that a pickle could change for others."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def read_pickle(archive: Archive, name: str) -> Any:
    """The entry `name`, its tensors read from the folder of the same name. Raises InputError for anything but modules, tensors and plain values."""
    content = archive.read(name, MAX_PICKLE_BYTES)
    where = f"{archive.path}: {name}"
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if opcode.name not in _OPCODES:
                raise InputError(f"{where}: the pickle opcode {opcode.name} is refused; TorchScript does not write it")
            # the unpickler's memo is an array: a high index alone would allocate gigabytes
            if count > MAX_OPCODES or (opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > MAX_OPCODES):
                raise InputError(f"{where}: more than {MAX_OPCODES} parts; no network has as many")
        return _Unpickler(archive, name.removesuffix(".pkl"), content).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle ends in nearly any exception type
        raise InputError(f"{where}: damaged, or not what TorchScript writes ({type(error).__name__}: {clean(str(error))})") from error


class _Unpickler(pickle.Unpickler):
    """`find_class` gives inert stand-ins only, so that REDUCE and NEWOBJ have nothing else to call."""

    def __init__(self, archive: Archive, folder: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            # a subclass a class of the archive: NEWOBJ makes one of it without arguments
            return type("ScriptModule", (Module,), {"kind": f"{module}.{name}", "__init__": _no_arguments})
        found = _ALLOWED.get((module, name))
        if found is not None:
            return _Callable(found)
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise InputError(f"{self._archive.path}: holds code or objects ({clean(module)}.{clean(name)}); only modules, tensors and plain values are read")

    def persistent_load(self, key: Any) -> Held:
        kind, dtype, file, _, count = key
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int) or not str(file).isdigit():
            raise pickle.UnpicklingError("an unknown kind of storage")
        if file not in self._storages:
            content = self._archive.read(f"{self._folder}/{file}")
            if not 0 <= count * dtype.itemsize <= len(content):
                raise InputError(f"{self._archive.path}: {self._folder}/{file} has {len(content)} bytes, {count} numbers of {dtype.itemsize} were promised")
            used = bytearray(content[: count * dtype.itemsize])
            self._storages[file] = torch.frombuffer(used, dtype=dtype) if used else torch.empty(0, dtype=dtype)
        return Held(self._storages[file])


def _no_arguments(self: Module) -> None:
    raise pickle.UnpicklingError("a module cannot be called")


def _rebuild_tensor(held: Held, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Held:
    storage = held.tensor
    if len(size) != len(stride) or min((offset, *size, *stride), default=0) < 0:
        raise pickle.UnpicklingError("a tensor's shape is not valid")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if prod(size) else -1
    if last >= storage.numel() or prod(size) > max(storage.numel(), 1):
        raise pickle.UnpicklingError(f"a tensor of shape {list(size)} does not fit its storage of {storage.numel()} numbers")
    return Held(storage.as_strided(size, stride, offset) if prod(size) else storage.new_empty(size))


def _rebuild_parameter(data: Held, *_: object) -> Held:
    return data


def _plain_list(values: list[Any]) -> list[Any]:
    return list(values)


def _tagged(value: Any, _: object) -> Any:
    return value


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.jit._pickle", "build_intlist"): _plain_list,
    ("torch.jit._pickle", "build_doublelist"): _plain_list,
    ("torch.jit._pickle", "build_boollist"): _plain_list,
    ("torch.jit._pickle", "build_tensorlist"): _plain_list,
    ("torch.jit._pickle", "restore_type_tag"): _tagged,
}
