"""Small ONNX models written node by node, as frameworks other than torch write them, or as nobody should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper


class Net:
    """Collects nodes; every method that adds one gives its result's name. Weights are seeded."""

    def __init__(self, shape: tuple[int | str, ...] = (1, 3, 8, 8), opset: int = 17, seed: int = 0, elem_type: int = TensorProto.FLOAT) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", elem_type, shape)]
        self.opset = opset
        self.dtype = np.float16 if elem_type == TensorProto.FLOAT16 else np.float32
        self._rng = np.random.default_rng(seed)

    def const(self, values: Any, name: str | None = None) -> str:
        """An initializer: floats take the net's type."""
        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, name: str | None = None) -> str:
        """A random initializer, scaled so that values stay around one."""
        fan = max(1, int(np.prod(shape[1:])))
        return self.const(self._rng.normal(size=shape) / np.sqrt(fan), name)

    def node(self, op: str, *inputs: str, name: str | None = None, **attrs: Any) -> str:
        """Any operator with one result."""
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attrs))
        return f"{name}_out"

    def conv(self, x: str, oc: int, ic: int, k: int = 3, name: str | None = None, **attrs: Any) -> str:
        """A convolution with a bias."""
        return self.node("Conv", x, self.random(oc, ic, k, k), self.random(oc), name=name, **attrs)

    def head(self, x: str, channels: int, classes: int = 5) -> str:
        """A 1x1 classifier, ReLU and the global mean."""
        y = self.node("Relu", self.conv(x, classes, channels, 1, name="classifier"), name="last_relu")
        return self.node("GlobalAveragePool", y, name="gap")

    def model(self, *outputs: str) -> ModelProto:
        """The ModelProto; types of the outputs are left open."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT16 if self.dtype == np.float16 else TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path, *outputs: str) -> Path:
        """Write the file."""
        path.write_bytes(self.model(*outputs).SerializeToString())
        return path


def plain(**options: Any) -> Net:
    """conv, ReLU, pool so far; channels 4, map 4x4, result `pool_out`."""
    net = Net(**options)
    net.node("MaxPool", net.node("Relu", net.conv("x", 4, 3, name="first", pads=[1] * 4), name="relu"), name="pool", kernel_shape=[2, 2], strides=[2, 2])
    return net
