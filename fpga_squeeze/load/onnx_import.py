"""ONNX -> float Graph: walks the nodes in running order, folds constants, builds feature maps, reports all that is unsupported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.canvas import Canvas
from fpga_squeeze.load.features import BlockedNode, Feature, UnsupportedNode, clean
from fpga_squeeze.load.onnx_const import FUNCTIONS, evaluate
from fpga_squeeze.load.onnx_file import OnnxFile, attributes, label, read_onnx
from fpga_squeeze.load.onnx_ops import CLASS_SUMS, HANDLERS, Blocked, Call, Value, check_attributes
from fpga_squeeze.load.qdq import PIXELS, QdqRecord, constant_format, resolve, weight_format
from fpga_squeeze.load.source import F32, Imported, SourceModel, Tap, refuse
from fpga_squeeze.prescribed import Prescribed

MAX_INPUT_SIZE = 4096
_IMAGE_TYPES: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64, TensorProto.UINT8: np.uint8,
}  # fmt: skip


def load_onnx(path: Path, input_size: int | None) -> Imported:
    """Read an ONNX file. `input_size` stands for a height and width that the file leaves open.

    Raises InputError: damaged or oversized files, external data outside the folder, an input that is no image, and every operator that
    cannot be built, all in one line.
    """
    return _Importer(read_onnx(path), input_size).run()


class _Importer:
    def __init__(self, file: OnnxFile, input_size: int | None) -> None:
        self._file = file
        self._canvas = Canvas()
        self._values: dict[str, Value] = {**file.tensors, "": None}
        self._origin: dict[str, str] = {name: name for name in file.tensors}
        self._refusals: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._taps: list[Tap] = []
        self._record = QdqRecord()
        self._dequantized: set[str] = set()
        self._input, self._dtype = self._image(input_size)

    def run(self) -> Imported:
        graph = self._file.model.graph
        for node in graph.node:
            self._node(node)
        if self._refusals:
            raise refuse(self._file.path, len(graph.node), self._refusals)
        output = self._output()
        try:
            built = self._canvas.finish(output)
        except UnsupportedNode as reason:
            raise InputError(f"{self._file.path}: {reason}") from reason
        if output.tail not in (None, CLASS_SUMS):
            self._notes.append(f"{output.tail} at the end is left out: it does not change the ranking of the classes")
        taps = tuple(t for t in self._taps if t.feature.node in built.by_name)
        prescribed, names = self._prescribed(built)
        if prescribed is not None:
            self._notes.append("already quantized: the file's own integers and power-of-two scales are taken as they are")
            taps = tuple(replace(t, feature=replace(t.feature, node=names[t.feature.node])) for t in taps if self._is_rounded(t, built))
        raw = prescribed is not None or self._dtype == np.uint8
        tolerance = 1e-4 if self._dtype != np.float16 else 2e-2
        image = self._values[self._input]
        assert isinstance(image, Feature)
        runner = OnnxRunner(self._file.model, self._input, self._dtype)
        image = replace(image, quantized=None)
        source = SourceModel(f"ONNX Runtime {runner.version}", image, taps, runner.evaluate, tolerance, raw)
        return Imported(built, source, tuple(self._notes), prescribed)

    def _prescribed(self, graph: Graph) -> tuple[Prescribed | None, dict[str, str]]:
        if not self._record.activations:
            return None, {}
        try:
            return resolve(graph, self._record)
        except UnsupportedNode as reason:
            raise InputError(f"{self._file.path}: {reason}") from reason

    def _is_rounded(self, tap: Tap, graph: Graph) -> bool:
        """Whether the tensor holds what the machine holds there: after a DequantizeLinear, or the exact mean."""
        return tap.tensor in self._dequantized or tap.feature.node == graph.output

    def _image(self, input_size: int | None) -> tuple[str, type[np.generic]]:
        """The one input: its name and type; adds the image to the canvas."""
        path, graph = self._file.path, self._file.model.graph
        inputs = [i for i in graph.input if i.name not in self._file.tensors]
        if len(inputs) != 1:
            raise InputError(f"{path}: {len(inputs)} inputs ({', '.join(clean(i.name) for i in inputs[:8])}); one image was expected")
        name, kind = inputs[0].name, inputs[0].type.tensor_type
        if kind.elem_type not in _IMAGE_TYPES:
            raise InputError(f"{path}: the input {clean(name)!r} holds {_type_name(kind.elem_type)}, floating-point numbers or uint8 pixels were expected")
        dims = [int(d.dim_value) if d.HasField("dim_value") else None for d in kind.shape.dim]
        if len(dims) != 4:
            raise InputError(f"{path}: the input {clean(name)!r} has {len(dims)} dimensions, an image of four (batch, channels, height, width) was expected")
        shape, layout = self._input_shape(clean(name), dims, input_size)
        try:
            image = self._canvas.input(shape, layout)
        except UnsupportedNode as reason:
            raise InputError(f"{path}: the input {clean(name)!r}: {reason}") from reason
        self._values[name] = image if kind.elem_type != TensorProto.UINT8 else replace(image, quantized=PIXELS)
        return name, _IMAGE_TYPES[kind.elem_type]

    def _input_shape(self, name: str, dims: list[int | None], input_size: int | None) -> tuple[tuple[int, int, int], str]:
        where = f"{self._file.path}: the input {name!r} of shape {'x'.join('?' if d is None else str(d) for d in dims)}"
        if dims[0] is None:
            self._notes.append("batch 1 for the open batch dimension of the input")
        elif dims[0] != 1:
            raise InputError(f"{where}: a batch of {dims[0]}; export the model with batch 1 or with an open batch dimension")
        if dims[1] in (1, 3):
            layout, channels, size = "NCHW", dims[1], dims[2:]
        elif dims[3] in (1, 3):
            layout, channels, size = "NHWC", dims[3], dims[1:3]
            self._notes.append("the input is channels-last (NHWC)")
        else:
            raise InputError(f"{where}: 1 or 3 channels were expected, as the second or the last dimension")
        if None in size and input_size is None:
            raise InputError(f"{where}: height and width are open; give --input-size")
        height, width = (input_size if s is None else s for s in size)
        assert channels is not None and height is not None and width is not None
        if height != width or not 1 <= height <= MAX_INPUT_SIZE:
            raise InputError(f"{where}: square images of at most {MAX_INPUT_SIZE} pixels a side are supported")
        if input_size is not None and height != input_size:
            raise InputError(f"{where}: the model takes {height}x{width} pixels but --input-size says {input_size}")
        return (channels, height, width), layout

    def _node(self, node: NodeProto) -> None:
        try:
            result = self._result(node)
        except UnsupportedNode as reason:
            self._refusals.append((label(node), str(reason)))
            result = Blocked()
        except BlockedNode:
            result = Blocked()
        for i, name in enumerate(node.output):
            if name:
                self._values[name] = result if i == 0 else Blocked()
        if not isinstance(result, Feature) or result.quantized is not None or any(result.pads):
            return
        if result.tail is None:
            self._taps.append(Tap(node.output[0], result))
        elif node.op_type == "ReduceSum":
            summed = self._values[node.input[0]]
            assert isinstance(summed, Feature) and summed.quantized is not None
            self._taps.append(Tap(node.output[0], result, summed.quantized.scale / (summed.shape[1] * summed.shape[2])))

    def _result(self, node: NodeProto) -> Value:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedNode(f"an operator of the domain {clean(node.domain)!r}; only standard ONNX operators are supported")
        graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        if any(a.type in graphs for a in node.attribute):
            raise UnsupportedNode("control flow with a graph inside; export the network without it")
        known = node.op_type in HANDLERS or node.op_type in FUNCTIONS
        if not known:
            raise UnsupportedNode("no such operator in the machine or the importer")
        inputs = tuple(self._values[name] for name in node.input)
        extra = [o for o in node.output[1:] if o and self._is_read(o)]
        if extra:
            raise UnsupportedNode(f"its second result {clean(extra[0])!r} is used; only first results are supported")
        attrs = attributes(self._file.path, node)
        if node.op_type == "Shape" and isinstance(inputs[0], Feature):
            return np.array(inputs[0].dims[attrs.get("start", 0) : attrs.get("end")], dtype=np.int64)
        if not any(isinstance(v, Feature | Blocked) for v in inputs):
            if node.input:
                self._origin[node.output[0]] = self._origin.get(node.input[0], node.output[0])
            if node.op_type == "DequantizeLinear":
                values, scale, zero = (*inputs, None)[:3]
                self._record.constants[node.output[0]] = constant_format(attrs, values, scale, zero)  # type: ignore[arg-type]
            return evaluate(node.op_type, attrs, list(inputs))  # type: ignore[arg-type]
        if node.op_type not in HANDLERS:
            if any(isinstance(v, Blocked) for v in inputs):
                raise BlockedNode
            raise UnsupportedNode("not supported on what the image becomes, only on constants")
        handler, allowed = HANDLERS[node.op_type]
        check_attributes(attrs, allowed)
        try:
            result = handler(Call(self._canvas, self._layer_name(node), attrs, inputs, self._file.opset, self._record))
            self._note_formats(node, attrs, result)
            return result
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise UnsupportedNode(f"attributes or inputs of the wrong kind ({type(error).__name__})") from error

    def _note_formats(self, node: NodeProto, attrs: dict[str, Any], result: Feature) -> None:
        """Quantized weights belong to the convolution that was just built."""
        if node.op_type == "DequantizeLinear":
            self._dequantized.add(node.output[0])
        constant = self._record.constants.get(node.input[1]) if len(node.input) > 1 else None
        if constant is None or node.op_type not in ("Conv", "Gemm", "MatMul"):
            return
        if self._canvas.is_mean(result.node):
            raise UnsupportedNode("a linear layer behind the mean of a quantized network; the machine rounds before the mean, so make it a 1x1 convolution")
        weight = self._values[node.input[1]]
        assert isinstance(weight, np.ndarray)
        channel_axis = 0 if node.op_type == "Conv" or attrs.get("transB", 0) else weight.ndim - 1
        self._record.weights[result.node] = weight_format(constant, weight.shape, channel_axis)

    def _is_read(self, tensor: str) -> bool:
        graph = self._file.model.graph
        return any(tensor in n.input for n in graph.node) or any(o.name == tensor for o in graph.output)

    def _layer_name(self, node: NodeProto) -> str:
        """The module path that the weights' name gives away, else the node's own name, else its result's."""
        if len(node.input) > 1 and node.op_type in ("Conv", "Gemm", "MatMul"):
            stem = self._origin.get(node.input[1], "")
            if stem.endswith((".weight", "/kernel", "_weight", "/weight")):
                return stem[: -len("weight") - 1] or stem
        return node.name or node.output[0]

    def _output(self) -> Feature:
        outputs = [o.name for o in self._file.model.graph.output]
        if len(outputs) != 1:
            raise InputError(f"{self._file.path}: {len(outputs)} outputs ({', '.join(clean(o) for o in outputs[:8])}); one, the class scores, was expected")
        value = self._values[outputs[0]]
        if not isinstance(value, Feature):
            raise InputError(f"{self._file.path}: the output {clean(outputs[0])!r} does not depend on the image")
        return value


class OnnxRunner:
    """Runs the file's own nodes in ONNX Runtime, its optimizations off."""

    def __init__(self, model: ModelProto, name: str, dtype: type[np.generic]) -> None:
        import onnxruntime

        self.version = onnxruntime.__version__
        self._model = model
        self._name = name
        self._dtype = dtype

    def evaluate(self, image: F32, wanted: Sequence[str]) -> dict[str, F32]:
        """Values of the tensors `wanted`. Raises InputError when the runtime refuses the model."""
        import onnxruntime

        model = ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=w) for w in wanted)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            values: list[NDArray[Any]] = session.run(list(wanted), {self._name: image.astype(self._dtype)})
        except Exception as error:  # the runtime's own exception types share no base class
            reason = clean(str(error).replace("\n", " "), 200)
            raise InputError(f"ONNX Runtime {self.version} does not run the model, so the import cannot be checked ({reason})") from error
        return {w: np.asarray(v, dtype=np.float32) for w, v in zip(wanted, values, strict=True)}


def _type_name(elem_type: int) -> str:
    return str(TensorProto.DataType.Name(elem_type)).lower() if elem_type in TensorProto.DataType.values() else f"type {elem_type}"

