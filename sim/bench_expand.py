"""Bench of fsq_expand: both engines bit-exact against the reference simulator, concatenated, under stalls, back to back, after a reset."""

from __future__ import annotations

import os
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout

from sim.conv_case import ConvCase, spec_from_environment
from sim.harness import bench_parameters
from sim.streams import PERIOD_NS, Bench, measured

E1 = ConvCase(spec_from_environment("FSQ_E1"))
E3 = ConvCase(spec_from_environment("FSQ_E3"))
LANES = bench_parameters()["OUT_LANES"]
STALLS = [tuple(pair.split("/")) for pair in os.environ.get("FSQ_STALLS", "half/half none/heavy").split()]
FRAMES = int(os.environ.get("FSQ_FRAMES", "4"))
PIXELS = E3.spec.size[0] * E3.spec.size[1]
BEATS_A_PIXEL = E1.spec.channels[1] // LANES + -(-E3.spec.channels[1] // LANES)
CYCLES = max(E1.spec.cycles, E3.spec.cycles, PIXELS * BEATS_A_PIXEL)
LIMIT = 40 * CYCLES + 5000


def _queue(bench: Bench, frames: int) -> None:
    for _ in range(frames):
        frame = E3.frame()
        both = np.concatenate([E1.golden(frame), E3.golden(frame)])
        bench.outputs["m_axis"].expect(E3.beats(both, LANES, E3.spec.out_bits))
        bench.send(E3.in_beats(frame))


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
    """Cycles between frames without stalls, the first output's latency and how full the FIFOs get."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, FRAMES)
    await _finish(bench)
    beats = PIXELS * BEATS_A_PIXEL
    ends = bench.outputs["m_axis"].cycles[beats - 1 :: beats]
    interval = (ends[-1] - ends[0]) / (len(ends) - 1)
    measured(dut, "interval", interval)
    measured(dut, "ratio", interval / CYCLES)
    measured(dut, "first_out", bench.outputs["m_axis"].cycles[0] - bench.accepted["s_axis"][0])
    for name in ("centre", "e1", "e3"):
        measured(dut, f"{name}_high_water", int(getattr(dut, f"{name}_high_water").value))


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset drops the frame in work; the next one is clean."""
    bench = Bench(dut)
    for part in (0.3, 0.8):
        await bench.reset()
        bench.stall("light", "light")
        _queue(bench, 2)
        for _ in range(int(part * CYCLES) + 1):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 1)
    await _finish(bench)
