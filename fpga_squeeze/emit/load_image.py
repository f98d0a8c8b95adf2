"""The image that fills a machine's loaded memories over its load port: layout, shape digest and bytes. docs/loading.md describes the format."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from fpga_squeeze.emit.weights import pack_bias_rows, pack_rows, pack_shift_rows, row_bytes
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import signed_bits
from fpga_squeeze.hardware.plan import Engine, FoldPlan
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

MAGIC = b"FSQ1"
COLUMN_BYTES = 9
"""Bytes of a column of a loaded memory: fsq_parameter_memory is written 72 bits at a time."""

LOAD_IDS = 3
"""Memories of an engine on the load bus: weights, biases, shifts."""

Packer = Callable[[Engine, QConv], list[int]]


@dataclass(frozen=True)
class LoadMemory:
    """A memory on the load bus: its number, rows, the bits of a row, and what fills it."""

    engine: Engine
    number: int
    rows: int
    bits: int
    pack: Packer

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the image."""
        return -(-self.bits // 8)

    @property
    def entry(self) -> int:
        """The 48 bits that fsq_loader's TABLE has for it: {number, last row, last column, bytes of the last column}."""
        last_column = (self.row_bytes - 1) // COLUMN_BYTES
        return self.number << 36 | (self.rows - 1) << 16 | last_column << 4 | self.row_bytes - COLUMN_BYTES * last_column


def load_memories(plan: FoldPlan) -> tuple[LoadMemory, ...]:
    """The loaded memories in the order of the image: by number, three times the engine's place in the stream plus 0, 1, 2. Empty without a load port."""
    found = []
    for place, e in enumerate(e for stage in plan.stages for e in stage.engines):
        if e.loaded:
            number = LOAD_IDS * place
            found += [
                LoadMemory(e, number, e.weight_depth, e.weight_word_bits, pack_rows),
                LoadMemory(e, number + 1, e.oc_folds, e.fold.p_oc * e.bias_bits, pack_bias_rows),
                LoadMemory(e, number + 2, e.oc_folds, e.fold.p_oc * e.shift_bits, pack_shift_rows),
            ]
    return tuple(found)


def payload_bytes(plan: FoldPlan) -> int:
    """Bytes between header and CRC."""
    return sum(m.rows * m.row_bytes for m in load_memories(plan))


def shape_digest(qgraph: QuantGraph, plan: FoldPlan) -> bytes:
    """8 bytes that two machines share when an image of one is right for the other.

    Over every engine's sizes, folds and number widths; and, where an engine's weights are in the bitstream, over these, because an image
    replaces only the others.
    """
    state = hashlib.sha256()
    for e in (e for stage in plan.stages for e in stage.engines):
        f = e.fold
        sizes: list[object] = [e.in_shape, e.out_shape, e.kernel, e.stride, e.padding, e.pad_value, f.p_oc, f.p_ic, f.p_k, f.p_px]
        widths = [e.weight_bits, e.bias_bits, e.acc_bits, e.shift_min, e.shift_max, e.in_fmt.bits, e.in_fmt.signed, e.out_fmt.bits, e.out_fmt.signed]
        state.update(json.dumps([e.loaded, *sizes, *widths]).encode() + b"\n")
        if not e.loaded:
            op = _convolution(qgraph, e)
            state.update(op.weight.astype("<i8").tobytes() + op.bias.astype("<i8").tobytes() + op.shift.astype("<i8").tobytes())
    return state.digest()[:8]


def header(qgraph: QuantGraph, plan: FoldPlan) -> bytes:
    """The 16 bytes that every image of this machine begins with: magic, shape digest, payload length."""
    return MAGIC + shape_digest(qgraph, plan) + payload_bytes(plan).to_bytes(4, "little")


def load_image(qgraph: QuantGraph, plan: FoldPlan, machine: QuantGraph | None = None) -> bytes:
    """The image of `qgraph`'s weights for the machine that was planned for and emitted with the network `machine` (`qgraph` itself when None).

    Raises InputError when the plan loads nothing, or a number does not fit the machine.
    """
    memories = load_memories(plan)
    if not memories:
        raise InputError("the machine has no load port: its weights are in the bitstream; export with --weights loaded")
    body = bytearray(header(machine or qgraph, plan))
    for m in memories:
        body += row_bytes(m.pack(m.engine, _convolution(qgraph, m.engine)), m.bits).tobytes()
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")


def check_other_model(machine: QuantGraph, plan: FoldPlan, other: QuantGraph) -> None:
    """Raise InputError, naming the layer, unless the machine planned for `machine` computes `other` exactly once its image is loaded.

    The hardware sees bits, signs and shifts, not where the binary point of a tensor is: the other model may have scales of its own.
    """
    names, others = [n.name for n in machine.nodes], [n.name for n in other.nodes]
    if names != others:
        odd = next((b for a, b in zip(names, others, strict=False) if a != b), None) or (set(names) ^ set(others)).pop()
        raise InputError(f"layer {odd}: the machine has another network there; a model of its own architecture was expected")
    for mine in machine.nodes:
        new = other[mine.name]
        formats = tuple((n.fmt.bits, n.fmt.signed) for n in (mine, new))
        if (mine.inputs, mine.shape) != (new.inputs, new.shape) or type(mine.op) is not type(new.op):
            raise InputError(f"layer {mine.name}: the machine has it with shape {mine.shape}, the model with {new.shape}; the same was expected")
        if formats[0] != formats[1]:
            raise InputError(f"layer {mine.name}: the machine has {_format(*formats[0])} bits, the model {_format(*formats[1])}; the same was expected")
        if not isinstance(mine.op, QConv) and vars(mine.op) != vars(new.op):
            raise InputError(f"layer {mine.name}: the machine has {mine.op}, the model {new.op}; the same was expected")
    for stage in plan.stages:
        for engine in stage.engines:
            _check_engine(engine, _convolution(machine, engine), _convolution(other, engine))


def _check_engine(e: Engine, mine: QConv, new: QConv) -> None:
    geometry = tuple((op.weight.shape, op.weight_bits, op.stride, op.padding, op.pad_value) for op in (mine, new))
    if geometry[0] != geometry[1]:
        raise InputError(f"layer {e.node}: the machine has (weights, bits, stride, padding, pad value) {geometry[0]}, the model {geometry[1]}")
    if not e.loaded:
        if any((a != b).any() for a, b in ((mine.weight, new.weight), (mine.bias, new.bias), (mine.shift, new.shift))):
            raise InputError(f"layer {e.node}: its weights are in the bitstream and the model has others; export the machine with --weights loaded")
        return
    low, high = int(new.shift.min()), int(new.shift.max())
    if low < e.shift_min or high > e.shift_max:
        raise InputError(f"layer {e.node}: the model needs shifts {low} to {high}, the machine has {e.shift_min} to {e.shift_max}; export a machine for it")
    bias_bits = signed_bits(int(new.bias.min()), int(new.bias.max()))
    if bias_bits > e.bias_bits or new.acc_bits > e.acc_bits:
        needs, has = f"biases of {bias_bits} and sums of {new.acc_bits} bits", f"{e.bias_bits} and {e.acc_bits}"
        raise InputError(f"layer {e.node}: the model needs {needs}, the machine has {has}; export a machine for it")


def _format(bits: int, signed: bool) -> str:
    return f"{bits} {'signed' if signed else 'unsigned'}"


def _convolution(qgraph: QuantGraph, engine: Engine) -> QConv:
    op = qgraph[engine.node].op
    if not isinstance(op, QConv):
        raise InputError(f"layer {engine.node}: the plan has a convolution engine for it, the network {type(op).__name__}; plan it again")
    return op
