"""Weight, bias and shift memories as rows of packed fields, in the layout that hardware/plan.py's Engine defines. HLS and RTL both use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.plan import Engine
from fpga_squeeze.hardware.weight_lanes import weight_lanes as weight_lanes
from fpga_squeeze.hardware.weight_storage import bitmap_lanes, index_lanes, value_words
from fpga_squeeze.quantize.qgraph import QConv

_BLOCK_BITS = 1 << 22
"""Bits that are spread out at once: each takes 8 bytes while its row is packed."""


def channel_lanes(engine: Engine, values: Int64) -> Int64:
    """One value an output channel, (OC,) -> int64 (oc_folds, p_oc); zero where the fold is padded."""
    padded = np.zeros(engine.oc_folds * engine.fold.p_oc, dtype=np.int64)
    padded[: values.size] = values
    return padded.reshape(engine.oc_folds, engine.fold.p_oc)


def pack_fields(lanes: Int64, bits: int, what: str) -> list[int]:
    """Rows of two's complement fields, lane 0 lowest: int64 (rows, lanes) -> one non-negative integer a row.

    Raises InputError when a value fits neither a signed nor an unsigned field of `bits` bits.

    >>> [hex(r) for r in pack_fields(np.array([[1, -1, 3]]), 4, "example")]
    ['0x3f1']
    """
    data = _packed_bytes(lanes, bits, what)
    return [int.from_bytes(row.tobytes(), "little") for row in data]


def _packed_bytes(lanes: Int64, bits: int, what: str) -> NDArray[np.uint8]:
    if lanes.size and (int(lanes.min()) < -(1 << bits >> 1) or int(lanes.max()) >= 1 << bits):
        raise InputError(f"{what}: values {int(lanes.min())} to {int(lanes.max())} do not fit fields of {bits} bits")
    rows = lanes.shape[0]
    if bits == 0:
        return np.zeros((rows, 0), dtype=np.uint8)
    block = max(1, _BLOCK_BITS // max(1, lanes.shape[1] * bits))
    packed = []
    for at in range(0, rows, block):
        field = (lanes[at : at + block, :, None] >> np.arange(bits, dtype=np.int64)) & 1
        packed.append(np.packbits(field.reshape(len(field), -1).astype(np.uint8), axis=1, bitorder="little"))
    return np.concatenate(packed) if packed else np.zeros((0, -(-lanes.shape[1] * bits // 8)), dtype=np.uint8)


def pack_rows(engine: Engine, qconv: QConv) -> list[int]:
    """Rows of a weight memory that holds the weights as they are, `weight_depth` integers of `weight_word_bits` bits."""
    return pack_fields(weight_lanes(engine, qconv), engine.weight_bits, f"weights of {engine.node}")


@dataclass(frozen=True)
class StoredRows:
    """A memory of weights as it is stored: `kind` weights, indices, bitmap or values; for values one memory a group, all with rows of `bits` bits."""

    kind: str
    bits: int
    memories: tuple[list[int], ...]


def stored_rows(engine: Engine, qconv: QConv) -> tuple[StoredRows, ...]:
    """The memories of an engine's weights: one as they are; indices of a codebook; or bitmap and values."""
    coding = engine.coding
    if coding is None:
        return (StoredRows("weights", engine.weight_word_bits, (pack_rows(engine, qconv),)),)
    lanes, what = weight_lanes(engine, qconv), f"weights of {engine.node}"
    if not coding.sparse:
        indices = pack_fields(index_lanes(coding, lanes), coding.value_bits, what)
        return (StoredRows("indices", lanes.shape[1] * coding.value_bits, (indices,)),)
    bitmap = bitmap_lanes(coding, lanes)
    values = tuple(pack_fields(group, coding.value_bits, what) for group in value_words(coding, lanes, bitmap))
    return (StoredRows("bitmap", bitmap.shape[1], (pack_fields(bitmap, 1, what),)), StoredRows("values", coding.read * coding.value_bits, values))


def pack_bias_rows(engine: Engine, qconv: QConv) -> list[int]:
    """Rows of the bias memory: `oc_folds` integers of p_oc * bias_bits bits, signed fields."""
    return pack_fields(channel_lanes(engine, qconv.bias), engine.bias_bits, f"biases of {engine.node}")


def pack_shift_rows(engine: Engine, qconv: QConv) -> list[int]:
    """Rows of the shift memory: `oc_folds` integers of p_oc * shift_bits bits, unsigned fields shift - shift_min (padded lanes zero)."""
    low, high = int(qconv.shift.min()), int(qconv.shift.max())
    if low < engine.shift_min or high > engine.shift_max:
        raise InputError(f"layer {engine.node}: shifts {low} to {high} leave the plan's range {engine.shift_min} to {engine.shift_max}; plan it again")
    return pack_fields(channel_lanes(engine, qconv.shift - engine.shift_min), engine.shift_bits, f"shifts of {engine.node}")


def row_bytes(rows: list[int], bits: int) -> NDArray[np.uint8]:
    """Rows of `bits` bits as little-endian bytes, uint8 (rows, max(1, ceil(bits / 8))).

    >>> row_bytes([0x3F1], 12).tolist()
    [[241, 3]]
    """
    width = max(1, -(-bits // 8))
    return np.frombuffer(b"".join(row.to_bytes(width, "little") for row in rows), dtype=np.uint8).reshape(len(rows), width)
