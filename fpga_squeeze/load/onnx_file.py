"""An ONNX file as checked data: limits before parsing, tensors from inside the model's folder only, nodes in an order that can be run."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.features import clean
from fpga_squeeze.load.model_file import MAX_FILE_BYTES, check_file

MAX_MESSAGES = 400_000
"""Parts of the file (nodes, attributes, tensors, ...): an empty one takes two bytes here and a hundred in memory."""
MAX_VARINT_BYTES = 32_000_000
MAX_NODES = 20_000
MAX_DEPTH = 24
OPSETS = (7, onnx.defs.onnx_opset_version())
Array = NDArray[np.generic]

_DTYPES: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16, TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32, TensorProto.INT16: np.int16, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16, TensorProto.UINT32: np.uint32, TensorProto.UINT64: np.uint64, TensorProto.BOOL: np.bool_,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """`model` with external data taken in and nodes sorted; `tensors` are its initializers by name; `opset` of the default domain."""

    path: Path
    model: ModelProto
    tensors: dict[str, Array]
    opset: int


def read_onnx(path: Path) -> OnnxFile:
    """Raises InputError, one line, for whatever is damaged, too large, outside the folder, or not ONNX."""
    check_file(path)
    data = path.read_bytes()
    _Scan(path).message(memoryview(data), ModelProto.DESCRIPTOR, 0)
    try:
        model = ModelProto.FromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not an ONNX model, or damaged ({clean(str(error).splitlines()[0] if str(error) else type(error).__name__)})") from error
    opset = _check_header(path, model)
    _ExternalData(path).take_in(model)
    tensors: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.name in tensors:
            raise InputError(f"{path}: the initializer {clean(tensor.name)!r} is stored twice")
        tensors[tensor.name] = to_array(path, tensor)
    _sort_nodes(path, model, set(tensors))
    return OnnxFile(path, model, tensors, opset)


class _Scan:
    """Counts a protobuf's parts without building them, so that a small file cannot become a huge object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._messages = 0
        self._varint_bytes = 0

    def message(self, data: memoryview, descriptor: Any, depth: int) -> None:
        """Walk one message. Raises InputError when it is malformed, too deep or has too many parts."""
        if depth > MAX_DEPTH:
            raise InputError(f"{self._path}: nested more than {MAX_DEPTH} deep; no network is, so the file is damaged or hostile")
        fields = descriptor.fields_by_number
        position, end = 0, len(data)
        while position < end:
            self._messages += 1
            if self._messages > MAX_MESSAGES:
                raise InputError(f"{self._path}: more than {MAX_MESSAGES} parts; no network has as many, so the file is damaged or hostile")
            key, position = self._varint(data, position)
            field, kind = fields.get(key >> 3), key & 7
            if kind == 0:
                _, position = self._varint(data, position)
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            elif kind == 2:
                length, position = self._varint(data, position)
                if position + length > end:
                    raise self._damaged()
                if field is not None and field.message_type is not None:
                    self.message(data[position : position + length], field.message_type, depth + 1)
                elif field is not None and field.type == field.TYPE_STRING:
                    self._check_text(data[position : position + length])
                elif field is not None and field.type in (field.TYPE_INT32, field.TYPE_INT64, field.TYPE_UINT64, field.TYPE_ENUM):
                    self._varint_bytes += length
                position += length
            else:
                raise self._damaged()
            if self._varint_bytes > MAX_VARINT_BYTES:
                raise InputError(f"{self._path}: more than {MAX_VARINT_BYTES} bytes of single integers; store tensors as raw_data")
        if position != end:
            raise self._damaged()

    def _varint(self, data: memoryview, position: int) -> tuple[int, int]:
        value = shift = 0
        for byte in data[position : position + 10]:
            value |= (byte & 0x7F) << shift
            shift += 7
            position += 1
            if byte < 0x80:
                return value, position
        raise self._damaged()

    def _check_text(self, data: memoryview) -> None:
        try:
            bytes(data).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: a name that is no UTF-8 text; the file is damaged") from error

    def _damaged(self) -> InputError:
        return InputError(f"{self._path}: not an ONNX model, or damaged or cut short (its protobuf does not parse)")


def _check_header(path: Path, model: ModelProto) -> int:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    opset: int | None = opsets.get("", opsets.get("ai.onnx"))
    if not model.graph.node or opset is None:
        lacking = "no version of its operator set" if opset is None else "no nodes"
        raise InputError(f"{path}: an ONNX model was expected, this file has {lacking}; it is damaged or of another kind")
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise InputError(f"{path}: ONNX operator set {opset}; {OPSETS[0]} to {OPSETS[1]} are read")
    if len(model.graph.node) > MAX_NODES:
        raise InputError(f"{path}: {len(model.graph.node)} nodes; at most {MAX_NODES} are read")
    if model.graph.sparse_initializer or model.training_info:
        held = "sparse initializers" if model.graph.sparse_initializer else "a training graph"
        raise InputError(f"{path}: holds {held}; export the network for inference, with dense weights")
    return int(opset)


class _ExternalData:
    """Puts tensors stored in files beside the model into the model: relative paths inside its folder only, no links."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent
        self._total = path.stat().st_size

    def take_in(self, model: ModelProto) -> None:
        """Raises InputError for a path that leaves the folder, a missing or short file, or too much data."""
        tensors = list(model.graph.initializer)
        for node in model.graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")] + [t for a in node.attribute for t in a.tensors]
        for tensor in tensors:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = self._read(tensor)
                tensor.ClearField("external_data")
                tensor.data_location = TensorProto.DEFAULT

    def _read(self, tensor: TensorProto) -> bytes:
        where = f"{self._path}: tensor {clean(tensor.name)!r}: external data"
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        file = self._inside(where, location)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        except ValueError as error:
            raise InputError(f"{where}: offset and length must be whole numbers") from error
        size = file.stat().st_size
        expected = _byte_size(self._path, tensor)
        length = expected if length == -1 else length
        if length != expected or not 0 <= offset <= size - length:
            said = f"offset {offset} of {clean(location)!r}, which has {size} bytes; length says {length}"
            raise InputError(f"{where}: {expected} bytes were expected at {said}")
        self._total += length
        if self._total > MAX_FILE_BYTES:
            raise InputError(f"{self._path}: more than {MAX_FILE_BYTES} bytes with external data; larger models are not read")
        if length == 0:
            return b""
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[offset : offset + length]

    def _inside(self, where: str, location: str) -> Path:
        parts = PurePosixPath(location).parts
        if not location or location.startswith("/") or "\\" in location or ":" in location or ".." in parts or "\0" in location:
            raise InputError(f"{where}: the path {clean(location)!r} is refused; a file in the model's own folder was expected")
        file = self._folder
        for part in parts:
            file = file / part
            if file.is_symlink():
                raise InputError(f"{where}: {clean(location)!r} is a link; a plain file in the model's own folder was expected")
        if not file.is_file():
            raise InputError(f"{where}: {clean(location)!r} is missing; keep it beside the model")
        return file


def _byte_size(path: Path, tensor: TensorProto) -> int:
    dtype = _DTYPES.get(tensor.data_type)
    if dtype is None:
        kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else tensor.data_type
        raise InputError(f"{path}: tensor {clean(tensor.name)!r} has the type {kind}, which is not supported")
    if any(d < 0 for d in tensor.dims) or len(tensor.dims) > 8 or prod(tensor.dims) > MAX_FILE_BYTES:
        limits = f"at most 8 dimensions and {MAX_FILE_BYTES} numbers are read"
        raise InputError(f"{path}: tensor {clean(tensor.name)!r} claims the shape {clean(str(list(tensor.dims)))}; {limits}")
    return int(prod(tensor.dims)) * np.dtype(dtype).itemsize


def to_array(path: Path, tensor: TensorProto) -> Array:
    """A tensor's values. Raises InputError when type, shape and stored numbers do not agree."""
    size = _byte_size(path, tensor)
    dtype = np.dtype(_DTYPES[tensor.data_type])
    needed = f"of shape {list(tensor.dims)} needs {prod(tensor.dims)} numbers, others are stored"
    wrong = InputError(f"{path}: tensor {clean(tensor.name)!r} {needed}; the file is damaged")
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise wrong
        return np.frombuffer(tensor.raw_data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tuple(tensor.dims))
    stored: dict[type, Any] = {np.float32: tensor.float_data, np.float64: tensor.double_data, np.int64: tensor.int64_data}
    stored |= {np.uint32: tensor.uint64_data, np.uint64: tensor.uint64_data}
    values = stored.get(dtype.type, tensor.int32_data)
    if len(values) != prod(tensor.dims):
        raise wrong
    try:
        if dtype == np.float16:
            return np.array(values, dtype=np.uint16).view(np.float16).reshape(tuple(tensor.dims))
        return np.array(values, dtype=dtype).reshape(tuple(tensor.dims))
    except (OverflowError, ValueError) as error:
        raise wrong from error


def _sort_nodes(path: Path, model: ModelProto, known: set[str]) -> None:
    """Bring the nodes into running order. Raises InputError for names made twice, missing or made from themselves."""
    graph = model.graph
    available = known | {i.name for i in graph.input} | {""}
    maker: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker or name in available:
                raise InputError(f"{path}: the tensor {clean(name)!r} is made twice; the graph is not valid")
            maker[name] = i
    nodes = list(graph.node)
    dangling = [(n, x) for n in nodes for x in n.input if x not in available and x not in maker]
    dangling_output = [o.name for o in graph.output if o.name not in available and o.name not in maker]
    if dangling or dangling_output:
        said = [f"{label(n)} reads {clean(x)!r}" for n, x in dangling[:20]] + [f"the output is {clean(x)!r}" for x in dangling_output[:5]]
        raise InputError(f"{path}: tensors that nothing makes: {'; '.join(said)}")
    waiting = [len({maker[x] for x in n.input if x in maker and x not in available}) for n in nodes]
    readers: dict[int, list[int]] = {}
    for i, n in enumerate(nodes):
        for j in {maker[x] for x in n.input if x in maker and x not in available}:
            readers.setdefault(j, []).append(i)
    order = [i for i, w in enumerate(waiting) if w == 0]
    for i in order:
        for j in readers.get(i, ()):
            waiting[j] -= 1
            if waiting[j] == 0:
                order.append(j)
    if len(order) < len(nodes):
        stuck = [label(n) for n, w in zip(nodes, waiting, strict=True) if w][:5]
        raise InputError(f"{path}: a cycle: {', '.join(stuck)} read their own results; a network without loops was expected")
    if order != sorted(order):
        del graph.node[:]
        graph.node.extend(nodes[i] for i in order)


def label(node: NodeProto) -> str:
    """A node in a message: its operator and its name, or its first result's."""
    return f"{clean(node.op_type)} {clean(node.name or next((o for o in node.output if o), '?'))!r}"


def attributes(path: Path, node: NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values: int, float, str, tuples of them, or an array. Graphs and functions stay protobuf objects."""
    values: dict[str, Any] = {}
    for a in node.attribute:
        if a.type == AttributeProto.TENSOR:
            values[a.name] = to_array(path, a.t)
        elif a.type == AttributeProto.STRING:
            values[a.name] = a.s.decode("utf-8", "replace")
        elif a.type in (AttributeProto.INT, AttributeProto.FLOAT):
            values[a.name] = a.i if a.type == AttributeProto.INT else a.f
        elif a.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            values[a.name] = tuple(a.ints if a.type == AttributeProto.INTS else a.floats)
        elif a.type == AttributeProto.STRINGS:
            values[a.name] = tuple(s.decode("utf-8", "replace") for s in a.strings)
        else:
            values[a.name] = a
    return values
