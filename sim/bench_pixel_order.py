"""Bench of fsq_pixel_order: order of pixels, short last groups, throughput, stalls, reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pack

PARAMETERS = bench_parameters()
WIDTH, FOLDS, P_PX, PIXELS = (PARAMETERS[n] for n in ("WIDTH", "OC_FOLDS", "P_PX", "PIXELS"))
GROUPS = -(-PIXELS // P_PX)


def _queue(bench: Bench, frames: int) -> None:
    """Send random groups, with rubbish in the places of a short group, and expect the pixels of a frame one by one."""
    for _ in range(frames):
        beats = [[bench.rng.getrandbits(WIDTH) for _ in range(FOLDS)] for _ in range(GROUPS * P_PX)]
        sent = [pack([beats[g * P_PX + p][f] for p in range(P_PX)], WIDTH) for g in range(GROUPS) for f in range(FOLDS)]
        bench.send(sent)
        bench.outputs["m_axis"].expect([word for pixel in beats[:PIXELS] for word in pixel])


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Random and adversarial idle x back-pressure."""
    bench = Bench(dut)
    for idle, pressure in [("none", "late"), ("half", "half"), ("heavy", "none"), ("none", "heavy"), ("bursts", "once")]:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 3)
        await bench.finish(100 * PIXELS * FOLDS + 2000)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """Output busy every cycle from the first beat on, over frames' ends too."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, 4)
    out = bench.outputs["m_axis"]
    await bench.finish(10 * PIXELS * FOLDS + 100)
    measured(dut, "latency", out.cycles[0] - bench.accepted["s_axis"][0])
    measured(dut, "bubbles", out.cycles[-1] - out.cycles[0] + 1 - len(out.cycles))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def an_engine_is_never_held_up(dut: Any) -> None:
    """Input beats that come evenly, P_PX cycles apart, are taken at once."""
    bench = Bench(dut)
    await bench.reset()

    def pauses() -> Any:
        while True:
            yield from [True] * (P_PX - 1) + [False]

    bench.sources["s_axis"].set_pause_generator(pauses())
    _queue(bench, 4)
    await bench.finish(10 * PIXELS * FOLDS + 100)
    taken = bench.accepted["s_axis"]
    measured(dut, "held_up", taken[-1] - taken[0] - (len(taken) - 1) * P_PX)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """Reset forgets the groups held and the place in the frame."""
    bench = Bench(dut)
    for cycles in (3, PIXELS * FOLDS // 2, PIXELS * FOLDS):
        await bench.reset()
        _queue(bench, 2)
        for _ in range(cycles):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 2)
    await bench.finish(10 * PIXELS * FOLDS + 100)
