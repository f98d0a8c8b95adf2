"""Bench of fsq_frame_check: right frames pass silently, a misplaced or missing tlast is reported at its beat and stays reported."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench

P = bench_parameters()
WIDTH, BEATS = P["WIDTH"], P["BEATS"]


def _words(bench: Bench, count: int) -> list[int]:
    return [bench.rng.getrandbits(WIDTH) for _ in range(count)]


async def _run(dut: Any, bench: Bench, lengths: list[int]) -> int:
    """Send frames of the given lengths (each ends with tlast); returns how often error_pulse was high."""
    await bench.reset()
    bench.stall("light", "half")
    pulses = 0

    async def count() -> None:
        nonlocal pulses
        while True:
            await RisingEdge(dut.clk)
            pulses += int(str(dut.error_pulse.value) == "1")

    counter = cocotb.start_soon(count())
    position = 0
    for length in lengths:
        words = _words(bench, length)
        bench.send(words)
        last = [(position + i) % BEATS == BEATS - 1 for i in range(length)]
        bench.outputs["m_axis"].expect(words, last)
        position += length
    await bench.finish(20 * sum(lengths) + 500)
    counter.cancel()
    return pulses


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def right_frames(dut: Any) -> None:
    """No report; reset between."""
    bench = Bench(dut, last=("m_axis",))
    assert await _run(dut, bench, [BEATS] * 4) == 0
    assert int(dut.error.value) == 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def early(dut: Any) -> None:
    """tlast one beat early: that beat and the real end are both wrong; every beat still passes."""
    bench = Bench(dut, last=("m_axis",))
    pulses = await _run(dut, bench, [BEATS, BEATS - 1, BEATS + 1, BEATS])
    assert pulses == 2
    assert int(dut.error.value) == 1
    assert int(dut.error_beat.value) == BEATS - 2
    assert await _run(dut, bench, [BEATS, BEATS]) == 0
    assert int(dut.error.value) == 0, "reset must clear the error"


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def missing(dut: Any) -> None:
    """Two frames sent as one: the missing tlast is reported at the frame's last beat."""
    bench = Bench(dut, last=("m_axis",))
    assert await _run(dut, bench, [2 * BEATS, BEATS]) == 1
    assert int(dut.error.value) == 1
    assert int(dut.error_beat.value) == BEATS - 1
