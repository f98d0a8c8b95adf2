"""An ONNX graph under construction: every tensor with its type and shape, every name used once, the same graph as the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fpga_squeeze import __version__
from fpga_squeeze.emit.writer import TOOL

FLOAT = int(TensorProto.FLOAT)
DOUBLE = int(TensorProto.DOUBLE)
INT64 = int(TensorProto.INT64)
UINT8 = int(TensorProto.UINT8)
QONNX_DOMAIN = "qonnx.custom_op.general"
Dims = tuple[int | str, ...]


class OnnxBuilder:
    """Collects nodes and initialisers in order.

    Args:
        opset: of the standard operators. `batch`: first dimension of every activation, a number or a name.
        reserved: names that only `output=` or `declare_input` may give, those of the quantized graph's tensors.
    """

    def __init__(self, opset: int, batch: int | str, reserved: frozenset[str]) -> None:
        self.opset = opset
        self.batch = batch
        self._reserved = reserved
        self._tensors: dict[str, tuple[int, Dims]] = {}
        self._node_names: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._shared: dict[tuple[str, bytes], str] = {}
        self._input: tuple[str, str] | None = None
        self._annotations: list[onnx.TensorAnnotation] = []

    def declare_input(self, name: str, dtype: int, shape: tuple[int, int, int], doc: str, finn_datatype: str | None = None) -> None:
        """The graph's only input, (batch, *shape). `finn_datatype` annotates the integers that a float tensor carries (QONNX)."""
        self._tensors[name] = (dtype, (self.batch, *shape))
        self._input = (name, doc)
        if finn_datatype:
            entry = onnx.StringStringEntryProto(key="finn_datatype", value=finn_datatype)
            self._annotations.append(onnx.TensorAnnotation(tensor_name=name, quant_parameter_tensor_names=[entry]))

    def node(
        self, op: str, inputs: tuple[str, ...], name: str, dtype: int, shape: Dims, *, output: str | None = None, doc: str = "",
        domain: str = "", **attributes: Any,
    ) -> str:  # fmt: skip
        """Add a node `name` and return the name of its output: `output`, or else one made from `name`."""
        tensor = output if output is not None else self._fresh(name, set(self._tensors) | self._reserved)
        node_name = self._fresh(name, self._node_names)
        proto = helper.make_node(op, list(inputs), [tensor], name=node_name, doc_string=doc or None, domain=domain or None, **attributes)
        self._nodes.append(proto)
        self._node_names.add(node_name)
        self._tensors[tensor] = (dtype, shape)
        return tensor

    def initializer(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant of its own and return its name."""
        unique = self._fresh(name, set(self._tensors) | self._reserved)
        values = np.asarray(values)
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), unique))
        self._tensors[unique] = (int(self._initializers[-1].data_type), tuple(values.shape))
        return unique

    def shared(self, name: str, values: NDArray[Any]) -> str:
        """A constant that every caller with the same name and content gets."""
        values = np.asarray(values)
        key = (f"{name}:{values.dtype}:{values.shape}", values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.initializer(name, values)
        return self._shared[key]

    def shape(self, tensor: str) -> Dims:
        """Dimensions of a tensor."""
        return self._tensors[tensor][1]

    def build(self, name: str, doc: str, output: str, output_doc: str, metadata: dict[str, str]) -> bytes:
        """The model with `output` as its only output, as bytes. `metadata`: string properties of the model."""
        assert self._input is not None
        source, source_doc = self._input
        constants = {t.name for t in self._initializers}
        inner = [n for n in self._tensors if n not in constants and n not in (source, output)]
        graph = helper.make_graph(
            self._nodes,
            name,
            [self._value(source, source_doc)],
            [self._value(output, output_doc)],
            self._initializers,
            doc_string=doc,
            value_info=[self._value(n) for n in inner],
        )
        graph.quantization_annotation.extend(self._annotations)
        opsets = [helper.make_opsetid("", self.opset)]
        if any(n.domain == QONNX_DOMAIN for n in self._nodes):
            opsets.append(helper.make_opsetid(QONNX_DOMAIN, 1))
        model = helper.make_model(graph, opset_imports=opsets, producer_name=TOOL, producer_version=__version__, doc_string=doc)
        # The oldest file format that has the opset, so that older readers open it: the library's own default moves with its version.
        model.ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)])
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _value(self, tensor: str, doc: str = "") -> onnx.ValueInfoProto:
        dtype, shape = self._tensors[tensor]
        return helper.make_tensor_value_info(tensor, dtype, list(shape), doc)

    @staticmethod
    def _fresh(name: str, taken: set[str] | frozenset[str]) -> str:
        while name in taken:
            name += "_"
        return name
