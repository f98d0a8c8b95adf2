"""Bench of fsq_width_converter: regrouping, zero padding, throughput, stalls, reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pixel_beats

PARAMETERS = bench_parameters()
CHANNELS, BITS, IN_LANES, OUT_LANES = (PARAMETERS[n] for n in ("CHANNELS", "BITS", "IN_LANES", "OUT_LANES"))


def _queue(bench: Bench, pixels: int) -> int:
    """Send random pixels and expect them regrouped; returns the beats of the side that has more."""
    sent: list[int] = []
    expected: list[int] = []
    for _ in range(pixels):
        pixel = [bench.rng.getrandbits(BITS) for _ in range(CHANNELS)]
        sent += pixel_beats(pixel, IN_LANES, BITS)
        expected += pixel_beats(pixel, OUT_LANES, BITS)
    bench.send(sent)
    bench.outputs["m_axis"].expect(expected)
    return max(len(sent), len(expected))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Random and adversarial idle x back-pressure."""
    bench = Bench(dut)
    for idle, pressure in [("none", "late"), ("half", "half"), ("heavy", "none"), ("none", "heavy"), ("bursts", "once")]:
        await bench.reset()
        bench.stall(idle, pressure)
        beats = _queue(bench, 1 + 60 // CHANNELS)
        await bench.finish(20 * beats + 2000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """The side with more beats moves one a cycle, without a bubble between pixels."""
    bench = Bench(dut)
    await bench.reset()
    beats = _queue(bench, 4 + 200 // CHANNELS)
    out = bench.outputs["m_axis"]
    await bench.finish(4 * beats + 100)
    taken = bench.accepted["s_axis"]
    measured(dut, "latency", out.cycles[0] - taken[0])
    many = taken if len(taken) >= len(out.cycles) else out.cycles
    measured(dut, "bubbles", many[-1] - many[0] + 1 - len(many))
    assert many[-1] - many[0] + 1 == len(many), "the busier side was not busy every cycle"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """Reset forgets a half-done pixel."""
    bench = Bench(dut)
    for extra in range(4):
        await bench.reset()
        bench.stall("light", "half")
        _queue(bench, 1 + 60 // CHANNELS)
        for _ in range(20 + extra):
            await RisingEdge(dut.clk)
    await bench.reset()
    bench.stall("light", "light")
    beats = _queue(bench, 1 + 60 // CHANNELS)
    await bench.finish(20 * beats + 1000)
