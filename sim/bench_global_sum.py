"""Bench of fsq_global_sum: exact sums, sign extension, tlast, overlap of summing and sending, reset."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pack, pixel_beats

P = bench_parameters()
C, LANES, BITS, SIGNED, PIXELS, SUM_BITS, OUT_BITS = (P[n] for n in ("CHANNELS", "LANES", "BITS", "SIGNED", "PIXELS", "SUM_BITS", "OUT_BITS"))
QMIN = -(1 << (BITS - 1)) if SIGNED else 0
QMAX = QMIN + (1 << BITS) - 1
BEATS = -(-C // LANES)


def _queue(bench: Bench, frames: int) -> None:
    generator = np.random.default_rng(bench.rng.getrandbits(32))
    for n in range(frames):
        values = generator.integers(QMIN, QMAX + 1, (PIXELS, C))
        if n == 1:
            values[:, ::2], values[:, 1::2] = QMAX, QMIN  # the widest sums
        bench.send([beat for pixel in values.tolist() for beat in pixel_beats(pixel, LANES, BITS)])
        sums = [pack([s], OUT_BITS) for s in values.sum(axis=0).tolist()]
        bench.outputs["m_axis"].expect(sums, [False] * (C - 1) + [True])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """Four frames: the interval is what the slower of taking in and sending needs."""
    bench = Bench(dut, last=("m_axis",))
    await bench.reset()
    _queue(bench, 4)
    await bench.finish(6 * (PIXELS * BEATS + C) + 1000)
    out = bench.outputs["m_axis"]
    interval = out.cycles[4 * C - 1] - out.cycles[3 * C - 1]
    measured(dut, "interval", interval)
    measured(dut, "latency", out.cycles[3 * C] - bench.accepted["s_axis"][4 * PIXELS * BEATS - BEATS])
    assert interval <= max(PIXELS * BEATS, C), f"{interval} cycles between frames"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Random and adversarial idle x back-pressure."""
    bench = Bench(dut, last=("m_axis",))
    for idle, pressure in [("half", "half"), ("none", "heavy"), ("bursts", "late"), ("none", "once")]:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 3)
        await bench.finish(60 * (PIXELS * BEATS + C) + 2000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """Neither the half-summed frame nor a half-sent one leaves a trace."""
    bench = Bench(dut, last=("m_axis",))
    for part in (0.4, 1.1):
        await bench.reset()
        bench.stall("none", "half")
        _queue(bench, 2)
        for _ in range(int(part * PIXELS * BEATS) + 4):
            await RisingEdge(dut.clk)
    await bench.reset()
    bench.stall()
    _queue(bench, 2)
    await bench.finish(8 * (PIXELS * BEATS + C) + 1000)
