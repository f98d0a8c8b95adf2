"""What a package holds of a network: for every convolution engine, in stream order, how its memories are laid out and the integers in them."""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.load_image import load_memories, payload_bytes, shape_digest
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64, TensorFormat, signed_bits
from fpga_squeeze.hardware.plan import Engine, EngineFold, FoldPlan
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

MAX_CHANNELS = 65536
MAX_KERNEL = 64
MAX_WEIGHT_BITS = 16
MAX_BIAS_BITS = 56
MAX_SHIFT_BITS = 16
MAX_LAYERS = 1024
MAX_NAME_BYTES = 127
MAX_WEIGHTS = 1 << 23
"""Weights of a whole network: 7 times SqueezeNet's."""
MAX_IMAGE_BYTES = 1 << 26

IMAGE_HEAD_BYTES = 16
IMAGE_CRC_BYTES = 4
_GEOMETRY = struct.Struct("<BIIBBBBhHII")


def good_name(name: bytes) -> bool:
    """True for a layer's name as a package may hold it: nothing in it that a terminal or a file name would take for something else."""
    return re.fullmatch(rb"[0-9A-Za-z._-]{1,%d}" % MAX_NAME_BYTES, name) is not None


@dataclass(frozen=True)
class Geometry:
    """Sizes, number widths and folds of one engine. Weights are (oc, ic, kernel, kernel) of `weight_bits` bits, signed.

    `loaded`: its memories are in the load image; else its weights are in the bitstream, the package holds them for the host alone, and folds and widths of
    biases and shifts are the same for every machine (IN_BITSTREAM).
    """

    name: str
    oc: int
    ic: int
    kernel: int
    weight_bits: int
    bias_bits: int
    shift_bits: int
    shift_min: int
    p_oc: int
    p_ic: int
    p_k: int
    loaded: bool

    @property
    def weights(self) -> int:
        """Weights of the layer."""
        return self.oc * self.ic * self.kernel**2

    @property
    def fits(self) -> bool:
        """True when every number is within what a package can say; the C decoder checks the same."""
        return (
            1 <= self.oc <= MAX_CHANNELS and 1 <= self.ic <= MAX_CHANNELS and 1 <= self.kernel <= MAX_KERNEL
            and 2 <= self.weight_bits <= MAX_WEIGHT_BITS and 1 <= self.bias_bits <= MAX_BIAS_BITS and self.shift_bits <= MAX_SHIFT_BITS
            and 1 <= self.p_oc <= self.oc and 1 <= self.p_ic <= self.ic and self.p_k in (1, self.kernel, self.kernel**2)
            and self.weights <= MAX_WEIGHTS and self.image_bytes <= MAX_IMAGE_BYTES
        )  # fmt: skip

    @property
    def memory_bytes(self) -> tuple[int, int, int]:
        """Bytes of the weight, bias and shift memories in the load image; rows are whole bytes."""
        folds = -(-self.oc // self.p_oc)
        depth = folds * -(-self.ic // self.p_ic) * (self.kernel**2 // self.p_k)
        return (
            depth * -(-self.p_oc * self.p_ic * self.p_k * self.weight_bits // 8),
            folds * -(-self.p_oc * self.bias_bits // 8),
            folds * -(-self.p_oc * self.shift_bits // 8),
        )

    @property
    def image_bytes(self) -> int:
        """Bytes of the three memories."""
        return sum(self.memory_bytes)

    def pack(self) -> bytes:
        """Bytes 3 to 27 of a record: what the layout digest is made of, beside the name."""
        return _GEOMETRY.pack(
            self.loaded, self.oc, self.ic, self.kernel, self.weight_bits, self.bias_bits, self.shift_bits, self.shift_min, self.p_k, self.p_oc, self.p_ic
        )  # fmt: skip

    @staticmethod
    def unpack(content: bytes, name: str) -> Geometry | None:
        """The inverse of `pack`; None when a number is not one that a package may hold."""
        flags, oc, ic, kernel, weight_bits, bias_bits, shift_bits, shift_min, p_k, p_oc, p_ic = _GEOMETRY.unpack(content)
        found = Geometry(name, oc, ic, kernel, weight_bits, bias_bits, shift_bits, shift_min, p_oc, p_ic, p_k, flags == 1)
        return found if flags <= 1 and found.fits else None

    def engine(self) -> Engine:
        """An engine with this weight memory, on a map of one pixel: emit/weights.py packs for it as for the machine's own."""
        fmt = TensorFormat(8, 0, signed=False)
        shift_max = self.shift_min + (1 << self.shift_bits) - 1
        return Engine(
            self.name, (self.ic, 1, 1), (self.oc, 1, 1), self.kernel, 1, (0, 0, 0, 0), (0,) * self.ic, EngineFold(self.p_oc, self.p_ic, self.p_k), fmt, fmt,
            self.weight_bits, self.bias_bits, 64, self.shift_min, shift_max, loaded=self.loaded,
        )  # fmt: skip


GEOMETRY_BYTES = _GEOMETRY.size
IN_BITSTREAM = {"bias_bits": MAX_BIAS_BITS, "shift_bits": 8, "shift_min": -128, "p_oc": 1, "p_ic": 1, "p_k": 1}
"""Of an engine that is not loaded: nothing is laid out for it, and its biases and shifts may be any."""


@dataclass(frozen=True, eq=False)
class Values:
    """The integers of one layer: weight int64 (oc, ic, k, k), bias int64 (oc,), shift int64 (oc,)."""

    weight: Int64
    bias: Int64
    shift: Int64

    def equals(self, other: Values) -> bool:
        """True when every integer is the same."""
        return all(np.array_equal(a, b) for a, b in ((self.weight, other.weight), (self.bias, other.bias), (self.shift, other.shift)))

    def fit(self, geometry: Geometry) -> bool:
        """True when every integer is within its width."""
        limits = ((self.weight, geometry.weight_bits), (self.bias, geometry.bias_bits))
        signed = all(-(1 << (bits - 1)) <= int(a.min()) and int(a.max()) < 1 << (bits - 1) for a, bits in limits)
        return signed and geometry.shift_min <= int(self.shift.min()) and int(self.shift.max()) < geometry.shift_min + (1 << geometry.shift_bits)

    def raw_bits(self, geometry: Geometry) -> int:
        """Bits of all integers at a fixed width each: the weights' own, the smallest that holds the biases and the shifts' range."""
        bias_bits = signed_bits(int(self.bias.min()), int(self.bias.max()))
        shift_bits = (int(self.shift.max()) - int(self.shift.min())).bit_length()
        return self.weight.size * geometry.weight_bits + self.bias.size * (bias_bits + shift_bits)

    def convolution(self, geometry: Geometry) -> QConv:
        """As a convolution that emit/weights.py packs."""
        weight: NDArray[np.int32] = self.weight.astype(np.int32)
        return QConv(weight, geometry.weight_bits, self.shift, self.bias, self.shift, 1, (0, 0, 0, 0), (0,) * geometry.ic, 64)


@dataclass(frozen=True, eq=False)
class Network:
    """All layers in stream order. `shape_digest`: of the machine's load image, 8 zero bytes when it has no load port."""

    geometry: tuple[Geometry, ...]
    values: tuple[Values, ...]
    shape_digest: bytes

    @property
    def has_port(self) -> bool:
        """True when a load image can be made."""
        return any(g.loaded for g in self.geometry)

    @property
    def image_bytes(self) -> int:
        """Bytes of the load image, 0 without a load port."""
        return IMAGE_HEAD_BYTES + sum(g.image_bytes for g in self.geometry if g.loaded) + IMAGE_CRC_BYTES if self.has_port else 0

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer's memories begin in the load image; 0 for one that is not loaded."""
        at, found = IMAGE_HEAD_BYTES, []
        for g in self.geometry:
            found.append(at if g.loaded else 0)
            at += g.image_bytes if g.loaded else 0
        return tuple(found)

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(g.weights for g in self.geometry)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all weights, biases and shifts at a fixed width each, without padding."""
        return -(-sum(v.raw_bits(g) for g, v in zip(self.geometry, self.values, strict=True)) // 8)

    def layout_digest(self) -> bytes:
        """SHA-256 over every layer's name and geometry."""
        state = hashlib.sha256(struct.pack("<H", len(self.geometry)))
        for g in self.geometry:
            name = g.name.encode()
            state.update(bytes([len(name)]) + name + g.pack())
        return state.digest()

    def content_digest(self) -> bytes:
        """SHA-256 over the layout digest and every integer: weights int32, biases int64, shifts int32, little endian, layer by layer."""
        state = hashlib.sha256(self.layout_digest())
        for v in self.values:
            state.update(v.weight.astype("<i4").tobytes() + v.bias.astype("<i8").tobytes() + v.shift.astype("<i4").tobytes())
        return state.digest()


def _geometry(e: Engine) -> Geometry:
    sizes = {"name": e.node, "oc": e.out_shape[0], "ic": e.in_shape[0], "kernel": e.kernel, "weight_bits": e.weight_bits, "loaded": e.loaded}
    own = {"bias_bits": e.bias_bits, "shift_bits": e.shift_bits, "shift_min": e.shift_min, "p_oc": e.fold.p_oc, "p_ic": e.fold.p_ic, "p_k": e.fold.p_k}
    return Geometry(**sizes, **(own if e.loaded else IN_BITSTREAM))  # type: ignore[arg-type]


def network_of(qgraph: QuantGraph, plan: FoldPlan, machine: QuantGraph | None = None) -> Network:
    """The integers of `qgraph` for the machine planned for and emitted with `machine` (`qgraph` itself when None), which must be able to compute it.

    Raises InputError, naming the layer, for a network beyond what a package holds.
    """
    geometry, values = [], []
    for e in (e for stage in plan.stages for e in stage.engines):
        op = qgraph[e.node].op
        if not isinstance(op, QConv):
            raise InputError(f"layer {e.node}: the plan has a convolution engine for it, the network {type(op).__name__}; plan it again")
        g, v = _geometry(e), Values(op.weight.astype(np.int64), op.bias.astype(np.int64), op.shift.astype(np.int64))
        if not g.fits or not good_name(e.node.encode()) or abs(g.shift_min) >= 1 << 15 or not v.fit(g):
            raise InputError(f"layer {e.node}: larger than a package can hold (docs/over-the-air.md has the limits)")
        geometry.append(g)
        values.append(v)
    network = Network(tuple(geometry), tuple(values), shape_digest(machine or qgraph, plan) if load_memories(plan) else bytes(8))
    if len(geometry) > MAX_LAYERS or network.weights > MAX_WEIGHTS or payload_bytes(plan) > MAX_IMAGE_BYTES:
        raise InputError(f"{len(geometry)} layers with {network.weights} weights: a package holds at most {MAX_LAYERS} layers and {MAX_WEIGHTS} weights")
    return network
