"""Bench of fsq_topk and fsq_argmax: order, ties to the lower class, tlast, frames back to back, reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pack

P = bench_parameters()
CLASSES, SUM_BITS = P["CLASSES"], P["SUM_BITS"]
K = P.get("K", 1)


def _queue(bench: Bench, frames: int, spread: int) -> None:
    """`spread` small: many ties."""
    for n in range(frames):
        sums = [bench.rng.randint(-spread, spread) for _ in range(CLASSES)]
        if n == 0:
            sums[CLASSES // 2] = (1 << (SUM_BITS - 1)) - 1
            sums[0] = -(1 << (SUM_BITS - 1))
        best = sorted(range(CLASSES), key=lambda c: (-sums[c], c))[:K]
        bench.send([pack([s], SUM_BITS) for s in sums])
        bench.outputs["m_axis"].expect([c << SUM_BITS | pack([sums[c]], SUM_BITS) for c in best], [False] * (K - 1) + [True])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def ties_and_stalls(dut: Any) -> None:
    """Few distinct sums, so that ties decide; every pause pattern of a chosen few."""
    bench = Bench(dut, last=("m_axis",))
    for idle, pressure, spread in [("none", "none", 3), ("half", "half", 1), ("none", "heavy", 100), ("bursts", "late", 0), ("heavy", "none", 2)]:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 4, spread)
        await bench.finish(100 * CLASSES + 2000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """A sum a cycle over several frames."""
    bench = Bench(dut, last=("m_axis",))
    await bench.reset()
    _queue(bench, 5, 1000)
    await bench.finish(10 * CLASSES + 500)
    taken = bench.accepted["s_axis"]
    measured(dut, "latency", bench.outputs["m_axis"].cycles[0] - taken[CLASSES - 1])
    assert taken[-1] - taken[0] == 5 * CLASSES - 1


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """The large sums of an interrupted frame are forgotten."""
    bench = Bench(dut, last=("m_axis",))
    await bench.reset()
    bench.send([pack([5000 + i], SUM_BITS) for i in range(CLASSES - 1)])
    for _ in range(CLASSES + 6):
        await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 2, 50)
    await bench.finish(10 * CLASSES + 500)
