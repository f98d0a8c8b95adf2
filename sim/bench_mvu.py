"""Bench of fsq_mvu: dot products, accumulation from the bias, requantization and saturation against the reference; credits under stalls."""

from __future__ import annotations

import os
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.conv_case import ConvCase, spec_from_environment
from sim.streams import STALLS, Bench, measured

CASE = ConvCase(spec_from_environment())
SPEC = CASE.spec
FOLDS = SPEC.ic_folds * SPEC.k_folds
PIXELS = SPEC.out_size[0] * SPEC.out_size[1]
PATTERNS = [tuple(pair.split("/")) for pair in os.environ.get("FSQ_STALLS", "half/half none/heavy bursts/none none/late").split()]
LIMIT = 40 * SPEC.cycles + 5000


def _queue(bench: Bench, frames: int) -> None:
    for _ in range(frames):
        frame = CASE.frame()
        bench.outputs["m_axis"].expect(CASE.group_out_beats(frame))
        bench.send(CASE.group_beats(frame))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Each pair of idle and back-pressure patterns."""
    bench = Bench(dut)
    for idle, pressure in PATTERNS:
        assert idle in STALLS
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 2)
        await bench.finish(LIMIT)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """One input beat a cycle without stalls; latency from the last beat of a sum to its output."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, 3)
    await bench.finish(LIMIT)
    taken = bench.accepted["s_axis"]
    measured(dut, "bubbles", taken[-1] - taken[0] + 1 - len(taken))
    measured(dut, "latency", bench.outputs["m_axis"].cycles[0] - taken[FOLDS - 1])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """A reset drops the sum in work and gives every credit back."""
    bench = Bench(dut)
    for cycles in (5, 23, 41):
        await bench.reset()
        bench.stall("none", "heavy")
        _queue(bench, 1)
        for _ in range(cycles):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 2)
    await bench.finish(LIMIT)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def a_wrong_bit_is_noticed(dut: Any) -> None:
    """The checker can fail: one flipped bit in the golden answer stops the bench."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, 1)
    out = bench.outputs["m_axis"]
    for _ in range(LIMIT):
        await RisingEdge(dut.clk)
        if len(out.received) == len(out.expected):
            break
    await bench.finish(100)
    middle = len(out.expected) // 2
    out.expected[middle] = (out.expected[middle][0] ^ 1, False)
    try:
        await bench.finish(100)
    except AssertionError:
        return
    raise RuntimeError("a flipped bit went unnoticed")
