"""Weight memories: every layout against its definition, field by field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.emit.weights import pack_bias_rows, pack_fields, pack_rows, pack_shift_rows, row_bytes
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat, signed_bits
from fpga_squeeze.hardware.plan import Engine, EngineFold
from fpga_squeeze.quantize.qgraph import QConv


def field(row: int, lane: int, bits: int, *, signed: bool) -> int:
    value = (row >> (lane * bits)) & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def case(oc: int, ic: int, k: int, fold: tuple[int, int, int], bits: int, seed: int) -> tuple[Engine, QConv]:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (oc, ic, k, k)).astype(np.int32)
    bias = rng.integers(-5000, 5000, oc)
    shift = rng.integers(-2, 9, oc)
    op = QConv(weight, bits, np.zeros(oc, np.int64), bias, shift, 1, (0, 0, 0, 0), (0,) * ic, 40)
    fmt = TensorFormat(8, 0, signed=False)
    engine = Engine(
        "conv", (ic, k, k), (oc, 1, 1), k, 1, (0, 0, 0, 0), (0,) * ic, EngineFold(*fold), fmt, fmt, bits,
        signed_bits(int(bias.min()), int(bias.max())), 40, int(shift.min()), int(shift.max()),
    )  # fmt: skip
    return engine, op


@given(
    st.integers(1, 7), st.integers(1, 6), st.sampled_from([1, 2, 3]), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(2, 16),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_follow_the_engine_layout(oc: int, ic: int, k: int, p_oc: int, p_ic: int, tap: int, bits: int, seed: int) -> None:
    p_k = (1, k, k * k)[tap]
    engine, op = case(oc, ic, k, (p_oc, p_ic, p_k), bits, seed)
    rows = pack_rows(engine, op)
    assert len(rows) == engine.weight_depth
    seen = 0
    for o in range(engine.oc_folds * p_oc):
        for i in range(engine.ic_folds * p_ic):
            for kh in range(k):
                for kw in range(k):
                    t = kh * k + kw
                    k_fold, lane_tap = (kw, kh) if p_k == k and k > 1 else (t // p_k, t % p_k)
                    address = (o // p_oc * engine.k_folds + k_fold) * engine.ic_folds + i // p_ic
                    lane = ((o % p_oc) * p_k + lane_tap) * p_ic + i % p_ic
                    expected = int(op.weight[o, i, kh, kw]) if o < oc and i < ic else 0
                    assert field(rows[address], lane, bits, signed=True) == expected
                    seen += 1
    assert seen == engine.weight_depth * engine.fold.multipliers


def test_bias_and_shift_rows() -> None:
    engine, op = case(5, 2, 1, (2, 1, 1), 8, 3)
    bias, shift = pack_bias_rows(engine, op), pack_shift_rows(engine, op)
    assert len(bias) == len(shift) == 3
    for o in range(6):
        expected = (int(op.bias[o]), int(op.shift[o]) - engine.shift_min) if o < 5 else (0, 0)
        assert field(bias[o // 2], o % 2, engine.bias_bits, signed=True) == expected[0]
        assert field(shift[o // 2], o % 2, engine.shift_bits, signed=False) == expected[1]


def test_shared_shift_takes_no_bits() -> None:
    engine, op = case(4, 1, 1, (2, 1, 1), 8, 3)
    shared = QConv(op.weight, 8, op.weight_frac, op.bias, np.full(4, 7), 1, op.padding, op.pad_value, 40)
    flat = Engine(**{**engine.__dict__, "shift_min": 7, "shift_max": 7})
    assert pack_shift_rows(flat, shared) == [0, 0]
    assert row_bytes(pack_shift_rows(flat, shared), 0).tolist() == [[0], [0]]


def test_row_bytes_are_little_endian() -> None:
    assert row_bytes([0x010203, 0xFF], 17).tolist() == [[3, 2, 1], [255, 0, 0]]


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"values -9 to 3 do not fit fields of 4 bits"):
        pack_fields(np.array([[-9, 3]]), 4, "example")
    engine, op = case(4, 2, 1, (2, 1, 1), 8, 3)
    with pytest.raises(InputError, match="plan it again"):
        pack_rows(engine, QConv(op.weight[:3], 8, op.weight_frac, op.bias, op.shift, 1, op.padding, op.pad_value, 40))
    with pytest.raises(InputError, match="leave the plan's range"):
        pack_shift_rows(engine, QConv(op.weight, 8, op.weight_frac, op.bias, op.shift + 20, 1, op.padding, op.pad_value, 40))
