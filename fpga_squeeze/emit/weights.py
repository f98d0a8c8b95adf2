"""Weight, bias and shift memories as rows of packed fields, in the layout that hardware/plan.py's Engine defines. HLS and RTL both use them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.plan import Engine
from fpga_squeeze.quantize.qgraph import QConv

_BLOCK_BITS = 1 << 22
"""Bits that are spread out at once: each takes 8 bytes while its row is packed."""


def weight_lanes(engine: Engine, qconv: QConv) -> Int64:
    """Weights in memory order: int64 (weight_depth, p_oc * p_k * p_ic), lane ((o * p_k) + t) * p_ic + i; zero where a fold is padded."""
    e, f = engine, engine.fold
    oc, ic, k, _ = qconv.weight.shape
    if (oc, ic, k) != (e.out_shape[0], e.in_shape[0], e.kernel):
        raise InputError(f"layer {e.node}: the plan has weights {(e.out_shape[0], e.in_shape[0], e.kernel)}, the network {(oc, ic, k)}; plan it again")
    padded = np.zeros((e.oc_folds * f.p_oc, e.ic_folds * f.p_ic, k, k), dtype=np.int64)
    padded[:oc, :ic] = qconv.weight
    if f.p_k not in (1, k, k * k):
        raise InputError(f"layer {e.node}: p_k = {f.p_k} does not fold a {k}x{k} kernel; 1, {k} or {k * k} was expected")
    # A fold of K taps is one kernel column, so the columns come first; single taps and whole kernels count row-major.
    by_column = f.p_k == k and k > 1
    taps = (padded.transpose(0, 1, 3, 2) if by_column else padded).reshape(e.oc_folds, f.p_oc, e.ic_folds, f.p_ic, e.k_folds, f.p_k)
    return taps.transpose(0, 4, 2, 1, 5, 3).reshape(e.weight_depth, f.weight_lanes)


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
    """Rows of the weight memory, `weight_depth` integers of `weight_word_bits` bits."""
    return pack_fields(weight_lanes(engine, qconv), engine.weight_bits, f"weights of {engine.node}")


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
