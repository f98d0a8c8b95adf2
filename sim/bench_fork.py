"""Bench of fsq_fork: each consumer gets every beat once, in its own time."""

from __future__ import annotations

from typing import Any

import cocotb

from sim.harness import bench_parameters
from sim.streams import STALLS, Bench

WIDTH = bench_parameters()["WIDTH"]
OUTPUTS = ("m_axis_a", "m_axis_b")


async def _transfer(dut: Any, bench: Bench, a: str, b: str, count: int) -> None:
    await bench.reset()
    for name, pattern in zip(OUTPUTS, (a, b), strict=True):
        bench.outputs[name].sink.set_pause_generator(STALLS[pattern](bench.rng))
    words = [bench.rng.getrandbits(WIDTH) for _ in range(count)]
    for name in OUTPUTS:
        bench.outputs[name].expect(words)
    bench.send(words)
    await bench.finish(20 * count + 1000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Consumers that pause at different times."""
    bench = Bench(dut, outputs=OUTPUTS)
    for a, b in [("none", "half"), ("half", "half"), ("late", "none"), ("once", "alternate"), ("bursts", "heavy")]:
        await _transfer(dut, bench, a, b, 100)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """One beat a cycle to both."""
    bench = Bench(dut, outputs=OUTPUTS)
    await _transfer(dut, bench, "none", "none", 200)
    for name in OUTPUTS:
        cycles = bench.outputs[name].cycles
        assert cycles[-1] - cycles[0] == 199
