"""fsq_mvu: every number format, fold and shift against the reference simulator, in both simulators."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest

from sim import harness
from sim.conv_case import ConvCase, ConvSpec

MODULES = (
    "mvu", "mvu_dot", "mvu_pair", "adder_tree", "parameter_memory", "lut_rom", "memory", "requantize", "fifo",
    "weight_store", "sparse_group", "codebook",
)  # fmt: skip
SOURCES = [harness.LIB / f"fsq_{name}.sv" for name in MODULES]
NONE = (0, 0, 0, 0)

CASES = {
    "8x8 bits, folds on both sides": ConvSpec((4, 4), (6, 5), 1, 1, NONE, (2, 2, 1)),
    "no fold at all": ConvSpec((6, 5), (7, 3), 1, 1, NONE, (3, 7, 1)),
    "one multiplier": ConvSpec((3, 3), (3, 2), 1, 1, NONE, (1, 1, 1)),
    "taps and channels": ConvSpec((4, 4), (3, 4), 3, 1, (1, 1, 1, 1), (2, 3, 9)),
    "one shift for all": ConvSpec((4, 4), (4, 4), 1, 1, NONE, (2, 2, 1), shift=(9, 9)),
    "no shift, saturating": ConvSpec((4, 4), (4, 4), 1, 1, NONE, (2, 2, 1), weight_bits=2, act_bits=4, shift=(0, 0)),
    "left shifts": ConvSpec((4, 4), (2, 4), 1, 1, NONE, (2, 2, 1), weight_bits=2, act_bits=4, out_bits=16, shift=(-4, -1)),
    "left and right shifts": ConvSpec((4, 4), (2, 6), 1, 1, NONE, (3, 1, 1), weight_bits=4, act_bits=4, out_bits=12, out_signed=True, shift=(-2, 3)),
    "shifts beyond the accumulator": ConvSpec((4, 4), (2, 4), 1, 1, NONE, (2, 2, 1), weight_bits=2, act_bits=4, out_signed=True, shift=(1, 40)),
    "signed in and out": ConvSpec((4, 4), (5, 4), 1, 1, NONE, (2, 2, 1), act_signed=True, out_signed=True, out_bits=6),
    "16x16 bits": ConvSpec((4, 4), (5, 4), 1, 1, NONE, (2, 5, 1), weight_bits=16, act_bits=16, act_signed=True, out_bits=16, out_signed=True),
}


def _run(spec: ConvSpec, simulator: str) -> harness.BenchResult:
    case = ConvCase(spec)
    return harness.run_bench(
        "fsq_mvu", SOURCES, "sim.bench_mvu", case.mvu_parameters(), simulator,
        seed=spec.seed, env={"FSQ_CASE": spec.to_json()}, data=case.files(),
    )  # fmt: skip


def _levels(terms: int) -> int:
    return (terms - 1).bit_length()


def _latency(lanes: int, product_bits: int = 0, shift: int = 0) -> int:
    """8 cycles and the adder tree; packed (shift > 0) as the headers of fsq_mvu and fsq_mvu_pair state."""
    if not shift:
        return 8 + _levels(lanes)
    group = min(max(0, shift - product_bits), _levels(lanes))
    return 9 + group + _levels(ceil(lanes / (1 << group))) + (2 if shift < product_bits else 0)


@pytest.mark.parametrize("name", CASES)
def test_bit_exact(name: str) -> None:
    harness.require("icarus")
    spec = CASES[name]
    result = _run(spec, "icarus")
    assert result.tests == 4
    assert result.measured("bubbles") == 0
    assert result.measured("latency") == _latency(spec.fold[1] * spec.fold[2])


PACKED = {
    "DSP48E2, 8 products in a field": (ConvSpec((4, 4), (18, 6), 1, 1, NONE, (4, 9, 1)), 19),
    "an odd channel": (ConvSpec((4, 4), (6, 9), 1, 1, NONE, (5, 3, 1)), 19),
    "one channel only": (ConvSpec((4, 4), (6, 3), 1, 1, NONE, (1, 3, 1)), 19),
    "DSP48E1, 2 products": (ConvSpec((4, 4), (10, 6), 1, 1, NONE, (2, 5, 1)), 17),
    "no room for a sum": (ConvSpec((4, 4), (6, 4), 1, 1, NONE, (4, 3, 1)), 16),
    "18 x 18, fields overlap": (ConvSpec((4, 4), (10, 6), 1, 1, NONE, (6, 5, 1)), 10),
    "18 x 18, one lane": (ConvSpec((4, 4), (3, 4), 1, 1, NONE, (2, 1, 1)), 10),
    "narrow numbers": (ConvSpec((4, 4), (6, 4), 3, 1, (1, 1, 1, 1), (2, 2, 9), weight_bits=4, act_bits=5), 23),
    "no fold": (ConvSpec((4, 4), (8, 4), 1, 1, NONE, (4, 8, 1)), 19),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_channels_are_bit_exact(name: str) -> None:
    harness.require("icarus")
    spec, shift = PACKED[name]
    result = _run(replace(spec, pack=1, pack_shift=shift), "icarus")
    assert result.tests == 4
    assert result.measured("bubbles") == 0
    assert result.measured("latency") == _latency(spec.fold[1] * spec.fold[2], spec.weight_bits + spec.act_bits, shift)


PIXELS = {
    "two pixels, a weight shared": ConvSpec((4, 4), (6, 4), 1, 1, NONE, (2, 3, 1), p_px=2),
    "three pixels": ConvSpec((3, 5), (4, 3), 3, 1, (1, 1, 1, 1), (3, 2, 3), p_px=3, act_signed=True),
    "two pixels packed": ConvSpec((4, 4), (9, 4), 1, 1, NONE, (3, 9, 1), p_px=2, pack=2, pack_shift=18),
    "three pixels, one alone": ConvSpec((3, 5), (4, 4), 1, 1, NONE, (2, 4, 1), p_px=3, pack=2, pack_shift=18),
    "pixels on 18 x 18": ConvSpec((4, 4), (6, 4), 1, 1, NONE, (2, 3, 1), p_px=4, pack=2, pack_shift=9),
    "two pixels, channels packed": ConvSpec((4, 4), (6, 5), 1, 1, NONE, (3, 3, 1), p_px=2, pack=1, pack_shift=19),
}


@pytest.mark.parametrize("name", PIXELS)
def test_several_pixels_are_bit_exact(name: str) -> None:
    harness.require("icarus")
    spec = PIXELS[name]
    result = _run(spec, "icarus")
    assert result.tests == 4
    assert result.measured("bubbles") == 0


def test_a_missing_weight_file_is_an_error() -> None:
    harness.require("icarus")
    spec = CASES["one multiplier"]
    case = ConvCase(spec)
    files = {name: text for name, text in case.files().items() if name != "weights.hex"}
    with pytest.raises(harness.SimulationError):
        harness.run_bench("fsq_mvu", SOURCES, "sim.bench_mvu", case.mvu_parameters(), "icarus", seed=1, env={"FSQ_CASE": spec.to_json()}, data=files)


@pytest.mark.parametrize("name", ["weights.hex", "bias.hex", "shift.hex"])
def test_one_flipped_bit_in_a_memory_is_noticed(name: str) -> None:
    harness.require("icarus")
    spec = ConvSpec((4, 4), (6, 4), 1, 1, NONE, (2, 2, 1))
    case = ConvCase(spec)
    files = case.files()
    first, rest = files[name].split("\n", 1)
    # The highest bit of lane 0's weight; a bias bit that outweighs the rounding; the lowest bit of a shift.
    bit = {"weights.hex": spec.weight_bits - 1, "bias.hex": case.bias_bits - 1, "shift.hex": 0}[name]
    files[name] = f"{int(first, 16) ^ (1 << bit):x}\n{rest}"
    with pytest.raises(harness.SimulationError, match="was expected"):
        harness.run_bench("fsq_mvu", SOURCES, "sim.bench_mvu", case.mvu_parameters(), "icarus", seed=1, env={"FSQ_CASE": spec.to_json()}, data=files)


def test_on_verilator() -> None:
    harness.require("verilator")
    assert _run(CASES["left and right shifts"], "verilator").measured("bubbles") == 0
