"""Quantized graph: the machine's arithmetic, complete. Everything to the right (simulators, folding, emitters) reads only this.

Integer tensors; a node's `fmt` says what an integer means. Shapes are (channels, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import Int64, TensorFormat
from fpga_squeeze.ir import Padding, Shape

Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class QInput:
    """uint8 pixels, frac 0, channels in RGB order."""


@dataclass(frozen=True, eq=False)
class QConv:
    """y = requantize(bias + sum(weight * x), shift).

    weight int32 (OC, IC, K, K) within `weight_bits` signed; weight_frac int64 (OC,); bias int64 (OC,) at f_acc = weight_frac + f_in;
    shift int64 (OC,) = f_acc - f_out. `pad_value` int per input channel. `acc_bits` holds every partial sum from the bias, proven from
    the weights. Rectification is the output format being unsigned.
    """

    weight: Int32
    weight_bits: int
    weight_frac: Int64
    bias: Int64
    shift: Int64
    stride: int
    padding: Padding
    pad_value: tuple[int, ...]
    acc_bits: int

    @property
    def kernel(self) -> int:
        """Kernel height and width."""
        return int(self.weight.shape[2])


@dataclass(frozen=True)
class QMaxPool:
    """Max over K x K windows; padded positions never win."""

    kernel: int
    stride: int
    padding: Padding


@dataclass(frozen=True)
class QConcat:
    """Channel concatenation; every input has the node's own format."""


@dataclass(frozen=True)
class QAdd:
    """requantize((a << align[0]) + (b << align[1]), shift): both aligned to the finer frac, added exactly."""

    align: tuple[int, int]
    shift: int


@dataclass(frozen=True)
class QGlobalSum:
    """Exact sum over the map per channel; frac is the input's."""


QOp = QInput | QConv | QMaxPool | QConcat | QAdd | QGlobalSum


@dataclass(frozen=True, eq=False)
class QNode:
    """One quantized operator with its output shape and format."""

    name: str
    op: QOp
    inputs: tuple[str, ...]
    shape: Shape
    fmt: TensorFormat


@dataclass(frozen=True, eq=False)
class QuantGraph:
    """Nodes in topological order; the first is QInput and the last, `output`, gives the class sums."""

    nodes: tuple[QNode, ...]
    output: str
    by_name: dict[str, QNode] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {n.name: n for n in self.nodes})

    def __getitem__(self, name: str) -> QNode:
        return self.by_name[name]

    @property
    def input(self) -> QNode:
        """The QInput node."""
        return self.nodes[0]

    def consumers(self, name: str) -> tuple[QNode, ...]:
        """Nodes that read `name`."""
        return tuple(n for n in self.nodes if name in n.inputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates a frame over all convolutions."""
        return sum(n.shape[1] * n.shape[2] * n.op.weight.size for n in self.nodes if isinstance(n.op, QConv))
