"""Bench of fsq_fifo and fsq_skid: order, loss, stability, throughput, occupancy, reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import STALLS, Bench, measured

PARAMETERS = bench_parameters()
WIDTH = PARAMETERS["WIDTH"]
DEPTH = PARAMETERS.get("DEPTH", 2)


def _words(bench: Bench, count: int) -> list[int]:
    return [bench.rng.getrandbits(WIDTH) for _ in range(count)]


async def _transfer(bench: Bench, count: int, idle: str, pressure: str) -> None:
    bench.stall(idle, pressure)
    words = _words(bench, count)
    bench.outputs["m_axis"].expect(words)
    bench.send(words)
    await bench.finish(20 * count + 2000)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Every idle pattern against every back-pressure pattern of a chosen few."""
    bench = Bench(dut)
    for idle, pressure in [("none", "late"), ("half", "half"), ("heavy", "none"), ("none", "heavy"), ("bursts", "bursts"), ("once", "alternate")]:
        assert idle in STALLS
        await bench.reset()
        await _transfer(bench, 120, idle, pressure)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """One beat a cycle without stalls; the latency when empty is one cycle."""
    bench = Bench(dut)
    await bench.reset()
    count = 200
    words = _words(bench, count)
    out = bench.outputs["m_axis"]
    out.expect(words)
    bench.send(words)
    await bench.finish(2000)
    latency = out.cycles[0] - bench.accepted["s_axis"][0]
    measured(dut, "latency", latency)
    measured(dut, "span", out.cycles[-1] - out.cycles[0] + 1)
    assert out.cycles[-1] - out.cycles[0] == count - 1, "bubbles without any stall"
    assert latency == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def full_then_streaming(dut: Any) -> None:
    """A consumer that starts late finds exactly DEPTH beats held, then gets one a cycle."""
    bench = Bench(dut)
    await bench.reset()
    count = 3 * DEPTH + 50
    words = _words(bench, count)
    out = bench.outputs["m_axis"]
    out.expect(words)
    out.sink.pause = True
    bench.send(words)
    for _ in range(DEPTH + 20):
        await RisingEdge(dut.clk)
    if "DEPTH" in PARAMETERS:
        assert int(dut.occupancy.value) == DEPTH
        assert int(dut.high_water.value) == DEPTH
    assert int(dut.s_axis_tready.value) == 0
    out.sink.pause = False
    await bench.finish(2000 + 4 * count)
    assert out.cycles[-1] - out.cycles[0] == count - 1, "bubbles after having been full"
    if "DEPTH" in PARAMETERS:
        assert int(dut.occupancy.value) == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """Reset drops what is held; the next transfer is clean."""
    bench = Bench(dut)
    for _ in range(3):
        await bench.reset()
        bench.stall("light", "heavy")
        words = _words(bench, 60)
        bench.outputs["m_axis"].expect(words)
        bench.send(words)
        for _ in range(37):
            await RisingEdge(dut.clk)
    await bench.reset()
    await _transfer(bench, 60, "light", "half")


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def a_wrong_beat_is_noticed(dut: Any) -> None:
    """The checker can fail: one flipped bit in what is expected must stop the bench."""
    bench = Bench(dut)
    await bench.reset()
    words = _words(bench, 20)
    bench.send(words)
    out = bench.outputs["m_axis"]
    for _ in range(40):
        await RisingEdge(dut.clk)
        if len(out.expected) < len(words):
            out.expect([words[len(out.expected)]])
    await bench.finish(100)
    out.expected[7] = (out.expected[7][0] ^ 1, False)
    try:
        await bench.finish(100)
    except AssertionError:
        return
    raise RuntimeError("a flipped bit went unnoticed")
