"""Bench of fsq_adder: exact sum, half-to-even rounding, saturation, two inputs that come at different times."""

from __future__ import annotations

import itertools
from typing import Any

import cocotb

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pack, reset_two_operands, stall_two_operands

P = bench_parameters()
LANES, A_BITS, A_SIGNED, B_BITS, B_SIGNED = (P[n] for n in ("LANES", "A_BITS", "A_SIGNED", "B_BITS", "B_SIGNED"))
ALIGN_A, ALIGN_B, SHIFT, OUT_BITS, OUT_SIGNED = (P[n] for n in ("ALIGN_A", "ALIGN_B", "SHIFT", "OUT_BITS", "OUT_SIGNED"))


def _limits(bits: int, signed: int) -> tuple[int, int]:
    low = -(1 << (bits - 1)) if signed else 0
    return low, low + (1 << bits) - 1


def add(a: int, b: int) -> int:
    """The definition, in whole numbers: exact quotient and remainder, ties to the even quotient, then the limits."""
    total = (a << ALIGN_A) + (b << ALIGN_B)
    if SHIFT > 0:
        quotient, rest = divmod(total, 1 << SHIFT)
        half = 1 << (SHIFT - 1)
        total = quotient + (1 if rest > half or (rest == half and quotient % 2) else 0)
    else:
        total <<= -SHIFT
    low, high = _limits(OUT_BITS, OUT_SIGNED)
    return min(max(total, low), high)


def _pairs(bench: Bench, beats: int) -> list[tuple[int, int]]:
    """Corners first, then random values."""
    corners_a, corners_b = ([lo, lo + 1, 0, 1, hi - 1, hi] for lo, hi in (_limits(A_BITS, A_SIGNED), _limits(B_BITS, B_SIGNED)))
    pairs = list(itertools.product(corners_a, corners_b))
    while len(pairs) < beats * LANES:
        pairs.append((bench.rng.randint(*_limits(A_BITS, A_SIGNED)), bench.rng.randint(*_limits(B_BITS, B_SIGNED))))
    return pairs[: beats * LANES]


def _queue(bench: Bench, beats: int) -> None:
    pairs = _pairs(bench, beats)
    groups = [pairs[i : i + LANES] for i in range(0, len(pairs), LANES)]
    bench.send([pack([a for a, _ in g], A_BITS) for g in groups], "s_axis_a")
    bench.send([pack([b for _, b in g], B_BITS) for g in groups], "s_axis_b")
    bench.outputs["m_axis"].expect([pack([add(a, b) for a, b in g], OUT_BITS) for g in groups])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """Many values, one beat a cycle."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await bench.reset()
    beats = 600
    _queue(bench, beats)
    await bench.finish(4 * beats)
    out = bench.outputs["m_axis"]
    latency = out.cycles[0] - bench.accepted["s_axis_a"][0]
    measured(dut, "latency", latency)
    assert latency == 2
    assert out.cycles[-1] - out.cycles[0] == beats - 1


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Each input and the output paused in its own way."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await stall_two_operands(bench, lambda: _queue(bench, 80), 6000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """Reset drops what is under way."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await reset_two_operands(bench, lambda: _queue(bench, 80), 50, 3000)
