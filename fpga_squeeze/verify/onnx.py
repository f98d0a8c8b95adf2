"""The exported ONNX files against the golden simulator: every stage tensor and the class sums, by ONNX Runtime and, for QONNX, by qonnx's executor.

ONNX Runtime runs with every graph optimisation off: fused kernels compute other integers (docs/onnx.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fpga_squeeze.emit.onnx import FILES
from fpga_squeeze.emit.writer import read_manifest
from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.verify.result import CheckRow, compare

if TYPE_CHECKING:
    from fpga_squeeze.pipeline import Progress

BATCH = 4
LARGEST = float(1 << 62)
Pixels = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[Any]]
Runner = Callable[[Pixels], Tensors]
"""uint8 frames (N, C, H, W) -> the tensors by name, as the file carries them."""


def check_onnx(out: Path, qgraph: QuantGraph, stages: tuple[tuple[str, str], ...], pixels: Pixels, progress: Progress) -> tuple[CheckRow, ...]:
    """A row a stage with implementation "onnx", and "qonnx" when that dialect was exported.

    Args:
        stages: (stage name, QuantGraph node whose tensor leaves it), the last one the class sums. `pixels`: the golden frames.
    Raises:
        InputError: a file is missing, damaged or not this network's. ToolMissingError: no qonnx. CheckFailedError: the runtime breaks off.
    """
    files = (read_manifest(out) or {}).get("files")
    rows = check_file(out / FILES["qdq"], "onnx", qgraph, stages, pixels, progress)
    if isinstance(files, dict) and FILES["qonnx"] in files:
        rows += check_file(out / FILES["qonnx"], "qonnx", qgraph, stages, pixels, progress)
    return rows


def check_file(
    path: Path, implementation: str, qgraph: QuantGraph, stages: tuple[tuple[str, str], ...], pixels: Pixels, progress: Progress
) -> tuple[CheckRow, ...]:
    """The rows of one file; `implementation` "onnx" or "qonnx". Errors as `check_onnx`."""
    model = read_model(path)
    tensors = tuple(dict.fromkeys(tensor for _, tensor in stages))
    _check_fits(path, model, qgraph, tensors)
    run = _onnxruntime(path, model, tensors) if implementation == "onnx" else _qonnx(path, model, tensors)
    simulator = FastSimulator(qgraph)
    rows: dict[str, CheckRow] = {}
    for start in range(0, len(pixels), BATCH):
        progress(f"{implementation} inference", start, len(pixels))
        frames = pixels[start : start + BATCH]
        golden, got = simulator.trace(frames), run(frames)
        for stage, tensor in stages:
            expected = golden[tensor]
            scale = qgraph[tensor].fmt.scale if implementation == "qonnx" and tensor != qgraph.output else 1.0
            name = model.graph.output[0].name if tensor == qgraph.output else tensor
            row = compare(stage, implementation, expected, as_integers(got[name], scale, expected))
            rows[stage] = _merged(rows[stage], row, start) if stage in rows else row
    return tuple(rows[stage] for stage, _ in stages)


def read_model(path: Path) -> onnx.ModelProto:
    """Load an exported file. Raises InputError when it is missing, damaged, or names data outside itself."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); export again") from error
    except Exception as error:  # protobuf's DecodeError lives in a module that is not ours to import
        raise InputError(f"{path}: no ONNX model ({_line(error)}); export again") from error
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise InputError(f"{path}: weights inside the file were expected, it names external data; export again")
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise InputError(f"{path}: one input and one output were expected, got {len(model.graph.input)} and {len(model.graph.output)}; export again")
    return model


def as_integers(values: NDArray[Any], scale: float, expected: NDArray[np.integer]) -> NDArray[np.int64]:
    """Values that a file carries as integers in `expected`'s shape; float values are divided by `scale`.

    A value between two integers is never equal: it becomes the neighbour that was not expected.

    >>> as_integers(np.array([0.5, 0.25, 1.0]), 0.5, np.array([1, 0, 3])).tolist()
    [1, 1, 2]
    """
    shaped = values.reshape(expected.shape) if values.size == expected.size else values
    if shaped.dtype.kind in "iu":
        return shaped.astype(np.int64)
    steps = np.clip(np.nan_to_num(shaped.astype(np.float64) / scale, nan=-LARGEST), -LARGEST, LARGEST)
    low = np.floor(steps).astype(np.int64)
    if shaped.shape != expected.shape:
        return low
    return np.asarray(np.where((steps != low) & (low == expected), low + 1, low), dtype=np.int64)


def _check_fits(path: Path, model: onnx.ModelProto, qgraph: QuantGraph, tensors: tuple[str, ...]) -> None:
    source = model.graph.input[0]
    shape = tuple(d.dim_value for d in source.type.tensor_type.shape.dim)[1:]
    if source.name != qgraph.input.name or shape != qgraph.input.shape:
        raise InputError(f"{path}: its input is {source.name} {shape}, {qgraph.input.name} {qgraph.input.shape} was expected; export again")
    made = {name for n in model.graph.node for name in n.output}
    missing = [t for t in tensors if t not in made]
    if missing:
        raise InputError(f"{path}: no tensor {missing[0]!r}, which is a stage of this machine; export again")


def _onnxruntime(path: Path, model: onnx.ModelProto, tensors: tuple[str, ...]) -> Runner:
    """A session that also gives the stage tensors: they become outputs of the model in memory."""
    import onnxruntime

    names = [model.graph.output[0].name, *(t for t in tensors if t != model.graph.output[0].name)]
    known = {v.name: v for v in model.graph.value_info}
    model.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in names[1:])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised, in one line
    source = model.graph.input[0].name

    def guarded(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise CheckFailedError(f"{path}: ONNX Runtime {onnxruntime.__version__} breaks off: {_line(error)}") from error

    session = guarded(lambda: onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]))
    return lambda frames: dict(zip(names, guarded(lambda: session.run(names, {source: frames})), strict=True))


def _qonnx(path: Path, model: onnx.ModelProto, tensors: tuple[str, ...]) -> Runner:
    """qonnx's own executor, node by node, a frame at a time."""
    try:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
    except ImportError as error:
        raise ToolMissingError("verifying QONNX needs qonnx, which is not installed: pip install 'fpga-squeeze[qonnx]'") from error
    names = (model.graph.output[0].name, *tensors)
    source = model.graph.input[0].name

    def run(frames: Pixels) -> Tensors:
        results = []
        for frame in frames:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    context = execute_onnx(wrapper, {source: frame[np.newaxis].astype(np.float32)}, return_full_exec_context=True)
            except Exception as error:  # whatever the executor or the node's kernel raises
                raise CheckFailedError(f"{path}: qonnx breaks off: {_line(error)}") from error
            results.append({name: context[name] for name in names})
        return {name: np.concatenate([r[name] for r in results]) for name in names}

    wrapper = ModelWrapper(model)
    return run


def _merged(before: CheckRow, row: CheckRow, start: int) -> CheckRow:
    first = before.first_difference
    if first is None and row.first_difference is not None:
        first = replace(row.first_difference, frame=row.first_difference.frame + start)
    return CheckRow(before.stage, before.implementation, before.compared + row.compared, before.mismatches + row.mismatches, first)


def _line(error: Exception) -> str:
    """The first line of an error's text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
