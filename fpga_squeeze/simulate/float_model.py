"""The float network: any Graph, before or after the passes, run by torch in float32. What accuracy and SQNR are measured against."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, BatchNorm, Concat, Conv, GlobalAveragePool, Graph, Identity, Input, MaxPool, Node, Relu
from fpga_squeeze.simulate.tensor_ops import is_symmetric, max_pool, pad_channels


class FloatModel:
    """Runs a Graph on torch tensors (N, C, H, W) float32.

    A lowered graph takes raw pixels 0..255 in RGB order; an unfused one takes the normalized tensor.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parameters = {n.name: node_parameters(n) for n in graph.nodes}
        self._last_reader = {name: n.name for n in graph.nodes for name in n.inputs}
        self._readers = {n.name: len(graph.consumers(n.name)) for n in graph.nodes}

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """The result, flat: (N, C, H, W) -> (N, classes). Intermediate tensors are freed as soon as nothing reads them."""
        return self._execute(x, keep=False)[self.graph.output].flatten(1)

    def trace(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The tensor (N, C, H, W) of every node by name."""
        return self._execute(x, keep=True)

    def _execute(self, x: torch.Tensor, keep: bool) -> dict[str, torch.Tensor]:
        if tuple(x.shape[1:]) != self.graph.input.shape:
            raise InputError(f"the model takes images of shape {self.graph.input.shape}, got {tuple(x.shape[1:])}")
        values: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            for n in self.graph.nodes:
                arguments = tuple(values[i] for i in n.inputs)
                # The image belongs to the caller; every other tensor that only this node reads may be overwritten.
                owned = not keep and len(n.inputs) == 1 and n.inputs[0] != self.graph.input.name and self._readers[n.inputs[0]] == 1
                values[n.name] = x if isinstance(n.op, Input) else apply_node(n, arguments, self._parameters[n.name], owned)
                if not keep:
                    for name in set(n.inputs):
                        if self._last_reader[name] == n.name and name != self.graph.output:
                            del values[name]
        return values


def apply_node(node: Node, inputs: tuple[torch.Tensor, ...], parameters: tuple[torch.Tensor, ...], in_place: bool = False) -> torch.Tensor:
    """One float operator, (N, C, H, W) -> (N, C', H', W'). `in_place` lets Relu overwrite its input."""
    op, x = node.op, inputs[0]
    if isinstance(op, Conv):
        return _conv(op, x, parameters)
    if isinstance(op, BatchNorm):
        scale, offset = parameters
        return x * scale.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)
    if isinstance(op, Relu):
        return _rectified(x, op.cap, in_place)
    if isinstance(op, MaxPool):
        return max_pool(x, op.kernel, op.stride, op.padding)
    if isinstance(op, Concat):
        return torch.cat(inputs, 1)
    if isinstance(op, Add):
        total = inputs[0] + inputs[1]
        return _rectified(total, op.cap, True) if op.relu else total
    if isinstance(op, GlobalAveragePool):
        return x.mean((2, 3), keepdim=True)
    if isinstance(op, Identity):
        return x
    raise InputError(f"layer {node.name}: the float model has no operator {type(op).__name__}")


def _conv(op: Conv, x: torch.Tensor, parameters: tuple[torch.Tensor, ...]) -> torch.Tensor:
    weight, bias = parameters
    if op.pad_value is not None and any(op.padding):
        x, padding = pad_channels(x, op.padding, torch.tensor(op.pad_value)), (0, 0)
    elif is_symmetric(op.padding):
        padding = op.padding[:2]
    else:
        x, padding = pad_channels(x, op.padding, 0.0), (0, 0)
    y = F.conv2d(x, weight, bias, stride=op.stride, padding=padding)
    return _rectified(y, op.cap, True) if op.relu else y


def _rectified(x: torch.Tensor, cap: float | None, in_place: bool) -> torch.Tensor:
    if cap is None:
        return F.relu(x, inplace=in_place)
    return F.hardtanh(x, 0.0, cap, inplace=in_place)


def node_parameters(node: Node) -> tuple[torch.Tensor, ...]:
    """Float32 parameters of one operator as `apply_node` takes them: weight and bias, scale and offset, or nothing."""
    if isinstance(node.op, Conv):
        arrays = (node.op.weight, node.op.bias)
    elif isinstance(node.op, BatchNorm):
        arrays = (node.op.scale, node.op.offset)
    else:
        return ()
    return tuple(torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays)
