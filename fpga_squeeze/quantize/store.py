"""Graphs as files: readable JSON for the structure, .npz for the arrays. The same graph always gives the same bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool, Node, Op, verify
from fpga_squeeze.quantize.legality import verify_quantized
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QOp, QuantGraph

VERSION = 1
QUANTIZED_FILES = ("graph.json", "weights.npz")
FLOAT_FILES = ("float.json", "float.npz")
_QUANTIZED_OPS: dict[str, type[QOp]] = {t.__name__: t for t in (QInput, QConv, QMaxPool, QConcat, QAdd, QGlobalSum)}
_FLOAT_OPS: dict[str, type[Op]] = {t.__name__: t for t in (Input, Conv, MaxPool, Concat, Add, GlobalAveragePool)}
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
Arrays = dict[str, NDArray[Any]]


def to_files(qgraph: QuantGraph) -> dict[str, bytes]:
    """The quantized graph as {"graph.json", "weights.npz"}."""
    arrays: Arrays = {}
    rows = [
        {**_node_row(n.name, n.op, n.inputs, n.shape, arrays), "fmt": {"bits": n.fmt.bits, "frac": n.fmt.frac, "signed": n.fmt.signed}}
        for n in qgraph.nodes
    ]
    return _pack(QUANTIZED_FILES, {"nodes": rows, "output": qgraph.output}, arrays)


def from_files(folder: Path) -> QuantGraph:
    """Read what `to_files` wrote. Raises InputError naming the file when it is missing, damaged or not legal."""

    def node(row: dict[str, Any], arrays: Arrays) -> QNode:
        op = _operator(row, arrays, _QUANTIZED_OPS)
        fmt = TensorFormat(int(row["fmt"]["bits"]), int(row["fmt"]["frac"]), bool(row["fmt"]["signed"]))
        return QNode(str(row["name"]), op, tuple(row["inputs"]), _shape(row), fmt)

    nodes, output = _unpack(folder, QUANTIZED_FILES, node)
    qgraph = QuantGraph(nodes, output)
    verify_quantized(qgraph)
    return qgraph


def float_to_files(graph: Graph) -> dict[str, bytes]:
    """A lowered float graph as {"float.json", "float.npz"}; float64, nothing lost."""
    arrays: Arrays = {}
    rows = [_node_row(n.name, n.op, n.inputs, n.shape, arrays) for n in graph.nodes]
    return _pack(FLOAT_FILES, {"nodes": rows, "output": graph.output}, arrays)


def float_from_files(folder: Path) -> Graph:
    """Read what `float_to_files` wrote. Raises InputError naming the file when it is missing, damaged or not legal."""

    def node(row: dict[str, Any], arrays: Arrays) -> Node:
        return Node(str(row["name"]), _operator(row, arrays, _FLOAT_OPS), tuple(row["inputs"]), _shape(row))

    nodes, output = _unpack(folder, FLOAT_FILES, node)
    graph = Graph(nodes, output)
    verify(graph)
    return graph


def npz_bytes(arrays: Arrays) -> bytes:
    """An uncompressed .npz with fixed dates and sorted names: numpy.load reads it, and equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE), content.getvalue())
    return buffer.getvalue()


def _pack(names: tuple[str, str], body: dict[str, object], arrays: Arrays) -> dict[str, bytes]:
    text = json.dumps({"version": VERSION, **body}, indent=1, sort_keys=True) + "\n"
    return {names[0]: text.encode(), names[1]: npz_bytes(arrays)}


def _node_row(name: str, op: object, inputs: tuple[str, ...], shape: tuple[int, int, int], arrays: Arrays) -> dict[str, object]:
    scalars: dict[str, object] = {}
    for f in fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if isinstance(value, np.ndarray):
            arrays[f"{name}.{f.name}"] = value.astype(np.int32 if f.name == "weight" and value.dtype.kind == "i" else value.dtype)
        elif value is not None:
            scalars[f.name] = list(value) if isinstance(value, tuple) else value
    return {"name": name, "op": type(op).__name__, "inputs": list(inputs), "shape": list(shape), "fields": scalars}


def _operator(row: dict[str, Any], arrays: Arrays, known: dict[str, Any]) -> Any:
    """Rebuild an operator from its scalar fields and its arrays; an unknown kind or field is refused."""
    if row["op"] not in known:
        raise InputError(f"layer {row['name']}: operator {row['op']!r} is unknown; expected one of {', '.join(known)}")
    kind = known[row["op"]]
    names = {f.name for f in fields(kind)}
    unknown = sorted(set(row["fields"]) - names)
    if unknown:
        raise InputError(f"layer {row['name']}: {row['op']} has no field {unknown[0]!r}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row["fields"].items()}
    values.update({key: arrays[f"{row['name']}.{key}"] for key in sorted(names) if f"{row['name']}.{key}" in arrays})
    return kind(**values)


def _shape(row: dict[str, Any]) -> tuple[int, int, int]:
    c, h, w = (int(v) for v in row["shape"])
    return c, h, w


def _unpack(folder: Path, names: tuple[str, str], node: Callable[[dict[str, Any], Arrays], Any]) -> tuple[tuple[Any, ...], str]:
    where = folder / names[0]
    try:
        body = json.loads(where.read_text(encoding="utf-8"))
        if body["version"] != VERSION:
            raise InputError(f"{where}: format version {VERSION} was expected, got {body['version']}; export again")
        where = folder / names[1]
        with np.load(where, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        where = folder / names[0]
        return tuple(node(row, arrays) for row in body["nodes"]), str(body["output"])
    except FileNotFoundError as error:
        raise InputError(f"{where}: not found; expected the files of an export") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where}: damaged or not written by an export ({type(error).__name__}: {error}); export again") from error
