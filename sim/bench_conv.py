"""Bench of fsq_conv_engine: bit-exact against the reference simulator, under stalls, back to back, and after a reset in mid-frame."""

from __future__ import annotations

import os
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout

from sim.conv_case import ConvCase, spec_from_environment
from sim.streams import PERIOD_NS, Bench, measured

SPEC = spec_from_environment()
CASE = ConvCase(SPEC)
STALLS = [tuple(pair.split("/")) for pair in os.environ.get("FSQ_STALLS", "none/none half/half").split()]
FRAMES = int(os.environ.get("FSQ_FRAMES", "4"))
BEATS_OUT = SPEC.out_size[0] * SPEC.out_size[1] * SPEC.oc_folds
LIMIT = 40 * SPEC.cycles + 5000


def _queue(bench: Bench, frames: int) -> None:
    for _ in range(frames):
        frame = CASE.frame()
        bench.outputs["m_axis"].expect(CASE.out_beats(frame))
        bench.send(CASE.in_beats(frame))


async def _finish(bench: Bench) -> None:
    # Rows below the last window may still be on their way in when the last output is out.
    await with_timeout(bench.sources["s_axis"].wait(), LIMIT * PERIOD_NS, "ns")
    await bench.finish(LIMIT)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Two frames under each pair of idle and back-pressure patterns."""
    bench = Bench(dut)
    for idle, pressure in STALLS:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 2)
        await _finish(bench)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """Cycles between frames without stalls, and the latency of the first frame."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, FRAMES)
    await _finish(bench)
    ends = bench.outputs["m_axis"].cycles[BEATS_OUT - 1 :: BEATS_OUT]
    interval = (ends[-1] - ends[0]) / (len(ends) - 1)
    measured(dut, "interval", interval)
    measured(dut, "ratio", interval / SPEC.cycles)
    measured(dut, "first_out", bench.outputs["m_axis"].cycles[0] - bench.accepted["s_axis"][0])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset drops the frame in work; the next one is clean."""
    bench = Bench(dut)
    for part in (0.2, 0.55, 0.9):
        await bench.reset()
        bench.stall("light", "light")
        _queue(bench, 2)
        for _ in range(int(part * SPEC.cycles) + 1):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 1)
    await _finish(bench)
