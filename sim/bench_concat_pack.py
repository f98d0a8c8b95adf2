"""Bench of fsq_concat_pack: two operands of any numbers of channels, packed without a gap, that come at different times."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pack, pixel_beats, reset_two_operands, stall_two_operands

P = bench_parameters()
LANES, BITS, A_CHANNELS, B_CHANNELS, A_FIRST = (P[n] for n in ("LANES", "BITS", "A_CHANNELS", "B_CHANNELS", "A_FIRST"))
BEATS = -(-(A_CHANNELS + B_CHANNELS) // LANES)


def _beats(bench: Bench, channels: list[int]) -> list[int]:
    """A pixel's beats; the lanes behind the last channel hold noise, which must not come out."""
    noise = [bench.rng.randrange(1 << BITS) for _ in range(-len(channels) % LANES)]
    padded = [*channels, *noise]
    return [pack(padded[i : i + LANES], BITS) for i in range(0, len(padded), LANES)]


def _queue(bench: Bench, pixels: int) -> None:
    a, b = ([[bench.rng.randrange(1 << BITS) for _ in range(n)] for _ in range(pixels)] for n in (A_CHANNELS, B_CHANNELS))
    bench.send([beat for pixel in a for beat in _beats(bench, pixel)], "s_axis_a")
    bench.send([beat for pixel in b for beat in _beats(bench, pixel)], "s_axis_b")
    joined = [x + y if A_FIRST else y + x for x, y in zip(a, b, strict=True)]
    bench.outputs["m_axis"].expect([beat for pixel in joined for beat in pixel_beats(pixel, LANES, BITS)])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def throughput(dut: Any) -> None:
    """One beat out a cycle, in the cycle in which its operands are there."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await bench.reset()
    pixels = 60
    _queue(bench, pixels)
    await bench.finish(4 * pixels * BEATS)
    out = bench.outputs["m_axis"]
    latency = out.cycles[0] - bench.accepted["s_axis_a" if A_FIRST or BEATS == 1 else "s_axis_b"][0]
    measured(dut, "latency", latency)
    assert out.cycles[-1] - out.cycles[0] == pixels * BEATS - 1


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Each operand and the output paused in its own way."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await stall_two_operands(bench, lambda: _queue(bench, 40), 9000)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def nothing_of_a_pixel_leaves_before_a_begins(dut: Any) -> None:
    """The second operand alone gives no beat, whichever leaves first."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await bench.reset()
    bench.sources["s_axis_a"].pause = True
    _queue(bench, 2)
    for _ in range(40):
        await RisingEdge(dut.clk)
    assert not bench.outputs["m_axis"].cycles and not bench.accepted["s_axis_b"]
    bench.sources["s_axis_a"].pause = False
    await bench.finish(200 + 20 * BEATS)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """Reset drops the pixel under way."""
    bench = Bench(dut, inputs=("s_axis_a", "s_axis_b"))
    await reset_two_operands(bench, lambda: _queue(bench, 40), 53, 6000)
