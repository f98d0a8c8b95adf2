"""Proofs for all time and all inputs: FIFO, skid buffer and width converter keep order, lose nothing and hold data stable while stalled.

Each proof is repeated with planted bugs, which must be refuted: a counterexample, not only a failed induction.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from pathlib import Path

import pytest

from sim.elaborate import require_yosys
from sim.formal.prove import FOLDER, Proof, prove, prove_z3, require_z3
from sim.harness import LIB


@dataclass(frozen=True)
class Case:
    """A module, its property file and what the proof needs to know of the module's inside."""

    top: str
    source: str
    parameters: dict[str, int]
    defines: tuple[str, ...]
    probes: dict[str, str]

    def __str__(self) -> str:
        return f"{self.source[:-3]} {self.parameters}"


SKID = Case(
    "queue_properties", "fsq_skid.sv", {"WIDTH": 2, "DEPTH": 2}, ("FSQ_SKID",),
    {"probe_spare_valid_reg": "dut.spare_valid_reg", "probe_spare_data_reg": "dut.spare_data_reg"},
)  # fmt: skip


def padded(signal: str, bits: int, to: int) -> str:
    """A signal extended with zeros, as yosys writes it."""
    return signal if bits == to else f"{to - bits}'b{'0' * (to - bits)},{signal}"


def fifo(depth: int, style: int) -> Case:
    """fsq_fifo with its memory's words and pointers tied to the properties."""
    words, inside = depth - 1, "dut.gen_memory"
    if depth == 1:
        return Case("queue_properties", "fsq_fifo.sv", {"WIDTH": 2, "DEPTH": 1, "STYLE": style}, (), {})
    probes = {"probe_stored_reg": f"{inside}.stored_reg"}
    shifts = style == 0 and words <= 2
    block = "gen_shift" if shifts else "gen_block" if style == 2 else "gen_lutram"
    memory = "shift_reg" if shifts else "memory"
    probes["probe_words"] = ",".join(f"{inside}.{block}.{memory}[{n}]" for n in reversed(range(words)))
    if not shifts:
        to, bits = depth.bit_length(), max(1, (words - 1).bit_length())
        for pointer in ("write_reg", "read_reg"):
            probes[f"probe_{pointer}"] = padded(f"{inside}.{block}.{pointer}", bits, to)
        probes["probe_word"] = f"{inside}.word"
    defines = ("FSQ_SHIFT",) if shifts else ("FSQ_RING",)
    return Case("queue_properties", "fsq_fifo.sv", {"WIDTH": 2, "DEPTH": depth, "STYLE": style}, defines, probes)


def counter_bits(values: int) -> int:
    """Bits of a counter over `values` values, one at least."""
    return max(1, (values - 1).bit_length())


def converter(channels: int, in_lanes: int, out_lanes: int) -> Case:
    """fsq_width_converter with its registers tied to the properties; BITS = 1."""
    unit = gcd(in_lanes, out_lanes)
    in_beats, out_beats = -(-channels // in_lanes), -(-channels // out_lanes)
    probes = {"probe_in_beat_reg": padded("dut.in_beat_reg", counter_bits(in_beats), 8)}
    if in_lanes == out_lanes or in_beats == out_beats == 1:
        form = "FSQ_SAME"
    elif in_lanes == unit:
        form = "FSQ_WIDEN"
        probes["probe_slot_reg"] = padded("dut.gen_widen.slot_reg", counter_bits(out_lanes // unit), 8)
        probes["probe_out_data_reg"] = "dut.gen_widen.out_data_reg"
    elif out_lanes == unit:
        form = "FSQ_NARROW"
        probes["probe_left_reg"] = padded("dut.gen_narrow.left_reg", (in_lanes // unit).bit_length(), 8)
        probes["probe_data_reg"] = "dut.gen_narrow.data_reg"
    else:
        form = "FSQ_GEARBOX"
        capacity = (in_lanes + out_lanes + min(in_lanes, out_lanes)) // unit
        probes["probe_have_reg"] = padded("dut.gen_gearbox.have_reg", capacity.bit_length(), 8)
        probes["probe_out_beat_reg"] = padded("dut.gen_gearbox.out_beat_reg", counter_bits(out_beats), 8)
        probes["probe_row_reg"] = "dut.gen_gearbox.row_reg"
    parameters = {"CHANNELS": channels, "BITS": 1, "IN_LANES": in_lanes, "OUT_LANES": out_lanes, "UNIT": unit}
    return Case("converter_properties", "fsq_width_converter.sv", parameters, (form,), probes)


CASES = [
    SKID,
    *(fifo(depth, style) for depth, style in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (2, 1), (4, 1), (5, 1), (2, 2), (4, 2), (5, 2)]),
    *(converter(*c) for c in [(3, 3, 3), (3, 2, 1), (4, 4, 2), (6, 4, 2), (3, 1, 2), (4, 2, 4), (6, 2, 4), (5, 2, 3), (5, 3, 2), (4, 2, 3), (7, 3, 4)]),
]


def run(case: Case, source: Path) -> Proof:
    """The proof of `case` with the module's text from `source`."""
    return prove(case.top, [source, FOLDER / f"{case.top}.sv"], case.parameters, case.defines, case.probes)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_holds_for_all_time(case: Case) -> None:
    require_yosys()
    proof = run(case, LIB / case.source)
    assert proof.holds, proof.log[-3000:]


@pytest.mark.parametrize("case", [SKID, fifo(4, 0), fifo(4, 2), converter(6, 4, 2), converter(4, 2, 4), converter(5, 2, 3)], ids=str)
def test_holds_for_z3_too(case: Case) -> None:
    require_yosys()
    require_z3()
    sources = [LIB / case.source, FOLDER / f"{case.top}.sv"]
    assert prove_z3(case.top, sources, case.parameters, case.defines, case.probes).holds


MUTATIONS = [
    (SKID, "if (push) spare_data_reg <=", "if (push && !spare_valid_reg && m_axis_tready) spare_data_reg <=", "loses the spare beat"),
    (SKID, "ready_reg <= !spare_valid_next;", "ready_reg <= 1'b1;", "takes a beat too many"),
    (SKID, "if (advance) out_data_reg <=", "if (advance || push) out_data_reg <=", "changes data while stalled"),
    (fifo(4, 0), "ready_reg <= count_next != FULL;", "ready_reg <= 1'b1;", "overflows"),
    (fifo(4, 0), "wire bypass = refill && empty;", "wire bypass = refill;", "overtakes"),
    (fifo(4, 1), "assign word = memory[read_reg];", "assign word = memory[write_reg];", "reads the wrong word"),
    (fifo(4, 2), "forwarded_reg <= write && (write_reg == read_next);", "forwarded_reg <= 1'b0;", "misses the word just written"),
    (converter(6, 4, 2), "(left_reg == 1 && m_axis_tready)", "(left_reg == 1)", "drops the last unit"),
    (converter(4, 2, 4), "out_valid_reg <= push && complete;", "out_valid_reg <= push;", "sends half a beat"),
    (converter(5, 2, 3), "assign s_axis_tready = have_reg <= ROOM;", "assign s_axis_tready = have_reg <= ROOM + 1;", "overflows"),
    (converter(5, 2, 3), "if (pop || m_axis_tready) out_valid_reg <= pop;", "out_valid_reg <= pop;", "withdraws a beat"),
]


def planted(case: Case, old: str, new: str, folder: Path) -> Path:
    """A copy of the module with one change; runs of blanks are squeezed so that `old` need not know the layout."""
    squeezed = "\n".join(" ".join(line.split()) for line in (LIB / case.source).read_text().splitlines())
    assert squeezed.count(old) == 1, f"{old!r} must occur once in {case.source}"
    wrong = folder / case.source
    wrong.write_text(squeezed.replace(old, new))
    return wrong


@pytest.mark.parametrize(("case", "old", "new"), [m[:3] for m in MUTATIONS], ids=[f"{m[0].source[:-3]} {m[3]}" for m in MUTATIONS])
def test_a_planted_bug_is_refuted(case: Case, old: str, new: str, tmp_path: Path) -> None:
    require_yosys()
    assert not run(case, planted(case, old, new, tmp_path)).holds


@pytest.mark.parametrize(("case", "old", "new"), [MUTATIONS[0][:3], MUTATIONS[6][:3]], ids=["fsq_skid", "fsq_fifo"])
def test_z3_refutes_a_planted_bug_too(case: Case, old: str, new: str, tmp_path: Path) -> None:
    require_yosys()
    require_z3()
    sources = [planted(case, old, new, tmp_path), FOLDER / f"{case.top}.sv"]
    assert not prove_z3(case.top, sources, case.parameters, case.defines, case.probes, steps=10).holds
