"""Two products in one multiplier: exhaustive over all 2^24 operand triples, in numpy and in the RTL; which widths pack; what synthesis makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.devices import MULTIPLIER_BITS
from fpga_squeeze.hardware.dsp_packing import MAX_OVERLAP_BITS, pack_shift, packed_products
from sim import harness
from sim.elaborate import read_commands, require_yosys, yosys

U8 = TensorFormat(8, 0, signed=False)
PORTS = {"DSP48E2": (27, 18), "DSP48E1": (25, 18), "MULT18X18": (18, 18)}
PAIR = [harness.LIB / f"fsq_{name}.sv" for name in ("mvu_pair", "adder_tree")]
EXHAUSTIVE = [harness.ROOT / "sim/exhaustive/pair_exhaustive.sv", *PAIR]


@pytest.mark.parametrize("packing", ["channels", "pixels"])
@pytest.mark.parametrize("ports", PORTS.values(), ids=PORTS)
def test_every_triple(ports: tuple[int, int], packing: str) -> None:
    """All 2^24 (hi, lo, shared): weights -128..127, activations 0..255; the operands fit the ports."""
    shift = pack_shift(8, U8, ports, packing, True)
    signed, unsigned = np.arange(-128, 128), np.arange(256)
    his, los, shareds = (signed, unsigned, unsigned) if packing == "channels" else (unsigned, unsigned, unsigned)
    lo, shared = (a.ravel() for a in np.meshgrid(los, shareds, indexing="ij"))
    for hi in his:
        wide = (int(hi) << shift) + lo
        assert -(1 << (ports[0] - 1)) <= wide.min() and wide.max() < 1 << (ports[0] - 1)
        high, low = packed_products(np.full_like(lo, hi), lo, shared, 16, shift)
        if packing == "channels":
            # lo is the weight lo - 128 in offset binary.
            assert (high == hi * shared).all() and (low - 128 * shared == (lo - 128) * shared).all()
        else:
            # shared is the weight shared - 128 in offset binary.
            assert (high - 128 * hi == hi * (shared - 128)).all() and (low - 128 * lo == lo * (shared - 128)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(("extreme", "random")), st.sampled_from(("channels", "pixels")))
def test_sums_in_the_packed_field(seed: int, kind: str, packing: str) -> None:
    """As many products as the gap has room for may be added before the fields are taken apart."""
    shift = pack_shift(8, U8, (27, 18), packing, False)
    count = 1 << (shift - 16)
    rng = np.random.default_rng(seed)
    extreme = kind == "extreme"
    weights = rng.choice([-128, 127], (2, count)) if extreme else rng.integers(-128, 128, (2, count))
    acts = rng.choice([0, 255], (2, count)) if extreme else rng.integers(0, 256, (2, count))
    if packing == "channels":
        packed = (((weights[1] << shift) + weights[0] + 128) * acts[0]).sum()
        got = packed >> shift, (packed & ((1 << shift) - 1)) - 128 * acts[0].sum()
        assert got == ((weights[1] * acts[0]).sum(), (weights[0] * acts[0]).sum())
    else:
        packed = (((acts[1] << shift) + acts[0]) * (weights[0] + 128)).sum()
        got = (packed >> shift) - 128 * acts[1].sum(), (packed & ((1 << shift) - 1)) - 128 * acts[0].sum()
        assert got == ((weights[0] * acts[1]).sum(), (weights[0] * acts[0]).sum())


@given(st.integers(2, 16), st.integers(2, 16), st.booleans(), st.sampled_from(sorted(MULTIPLIER_BITS)), st.sampled_from(("channels", "pixels")), st.booleans())
def test_what_does_not_fit_is_not_packed(weight_bits: int, act_bits: int, signed: bool, family: str, packing: str, overlap_allowed: bool) -> None:
    shift = pack_shift(weight_bits, TensorFormat(act_bits, 0, signed=signed), MULTIPLIER_BITS[family], packing, overlap_allowed)
    wide = MULTIPLIER_BITS[family][0]
    if signed or max(weight_bits, act_bits) > 8:
        assert shift == 0
    if shift:
        overlap = weight_bits + act_bits - shift
        assert overlap <= (MAX_OVERLAP_BITS if overlap_allowed else 0)
        assert shift + (weight_bits if packing == "channels" else act_bits + 1) == wide


def slow(mode: int, shift: int) -> object:
    """A case that only `make test-all` runs: the C++ test covers it too, and the RTL's other cases take the same ways."""
    return pytest.param(mode, shift, marks=pytest.mark.slow)


@pytest.mark.parametrize(("mode", "shift"), [(1, 19), slow(1, 17), (1, 10), (2, 18), slow(2, 16), slow(2, 9)])
def test_every_triple_in_the_rtl(mode: int, shift: int) -> None:
    """The RTL pair over all 2^24 triples on Verilator."""
    harness.require("verilator")
    result = harness.run_bench("pair_exhaustive", EXHAUSTIVE, "sim.bench_pair_exhaustive", {"MODE": mode, "SHIFT": shift}, "verilator", seed=1)
    assert result.measured("bad") == 0


def test_one_wrong_triple_of_all_is_noticed() -> None:
    harness.require("verilator")
    settings_of_it = {"MODE": 1, "SHIFT": 19, "FAULT": 1}
    result = harness.run_bench("pair_exhaustive", EXHAUSTIVE, "sim.bench_pair_exhaustive", settings_of_it, "verilator", seed=1)
    assert result.measured("bad") == 1


@pytest.mark.parametrize(
    ("command", "cell", "shift"),
    [
        ("synth_xilinx -family xcup -noiopad -noclkbuf -flatten", "DSP48E2", 19),
        ("synth_xilinx -family xc7 -noiopad -noclkbuf -flatten", "DSP48E1", 17),
        ("synth_ecp5", "MULT18X18D", 10),
    ],
)
def test_a_pair_takes_one_multiplier_a_lane(tmp_path: Path, command: str, cell: str, shift: int) -> None:
    require_yosys()
    values = {"LANES": 3, "MODE": 1, "WEIGHT_BITS": 8, "ACT_BITS": 8, "SHIFT": shift, "SUM_BITS": 20}
    _, log = yosys(read_commands(PAIR, "fsq_mvu_pair", values, tmp_path) + f"{command} -top fsq_mvu_pair\nstat\n")
    counts = [int(m) for m in re.findall(rf"^\s+(\d+)\s+{cell}\s*$", log, re.MULTILINE)]
    assert counts and counts[-1] == 3
