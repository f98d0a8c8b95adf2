"""Bench of fsq_line_buffer (windows and centre taps) and fsq_pixel_buffer: order, padding, throughput, stalls on either output, reset."""

from __future__ import annotations

import os
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout

from sim.conv_case import ConvCase, Int64, spec_from_environment
from sim.harness import bench_parameters
from sim.streams import PERIOD_NS, Bench, measured, pack

CASE = ConvCase(spec_from_environment())
SPEC = CASE.spec
PARAMETERS = bench_parameters()
TAP = bool(PARAMETERS.get("TAP", 0))
P_PX = PARAMETERS.get("P_PX", 1)  # of a pixel buffer
STEP, FIRST = PARAMETERS.get("PX_STEP", 1), PARAMETERS.get("PX_FIRST", 0)
OUTPUTS = ("m_axis", "m_tap") if TAP else ("m_axis",)
STALLS = [tuple(pair.split("/")) for pair in os.environ.get("FSQ_STALLS", "half/half none/heavy bursts/bursts").split()]
BEATS = len(CASE.visited(max(STEP, P_PX), FIRST)) * SPEC.oc_folds * SPEC.ic_folds * SPEC.k_folds
CYCLES = max(BEATS, SPEC.size[0] * SPEC.size[1] * SPEC.ic_folds)
LIMIT = 40 * SPEC.cycles + 5000


def _windows(frame: Int64) -> list[int]:
    """What comes out: a line buffer's share of the windows; groups of P_PX pixels of a pixel buffer, the last pixel of a short one repeated."""
    if P_PX == 1:
        return CASE.window_golden(frame, STEP, FIRST)
    pixels = [CASE.window_golden(frame, P_PX, p) for p in range(P_PX)]
    whole = SPEC.out_size[0] * SPEC.out_size[1] % P_PX or P_PX
    beats = SPEC.oc_folds * SPEC.ic_folds
    for p in range(whole, P_PX):
        pixels[p][-beats:] = pixels[whole - 1][-beats:]
    return [pack(words, SPEC.fold[1] * SPEC.act_bits) for words in zip(*pixels, strict=True)]


def _queue(bench: Bench, frames: int) -> None:
    for _ in range(frames):
        frame = CASE.frame()
        bench.outputs["m_axis"].expect(_windows(frame))
        if TAP:
            bench.outputs["m_tap"].expect(CASE.tap_golden(frame, STEP, FIRST))
        bench.send(CASE.in_beats(frame))


async def _finish(bench: Bench) -> None:
    await with_timeout(bench.sources["s_axis"].wait(), LIMIT * PERIOD_NS, "ns")
    await bench.finish(LIMIT)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Three frames under each pair of patterns; with a centre tap the two outputs stall independently."""
    bench = Bench(dut, outputs=OUTPUTS)
    for idle, pressure in STALLS:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 3)
        await _finish(bench)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """Cycles between frames without stalls; a window leaves three cycles after its last pixel came."""
    bench = Bench(dut, outputs=OUTPUTS)
    await bench.reset()
    _queue(bench, 5)
    await _finish(bench)
    ends = bench.outputs["m_axis"].cycles[BEATS - 1 :: BEATS]
    interval = (ends[-1] - ends[1]) / (len(ends) - 2)
    measured(dut, "interval", interval)
    measured(dut, "ratio", interval / CYCLES)
    rows = min(SPEC.kernel - SPEC.pads[0], SPEC.size[0]) - 1
    cols = min(FIRST * SPEC.stride + SPEC.kernel - SPEC.pads[1], SPEC.size[1])
    needed = ((P_PX - 1) * SPEC.ic_folds + 1 if SPEC.pixel_buffered else (rows * SPEC.size[1] + cols) * SPEC.ic_folds) - 1
    measured(dut, "latency", bench.outputs["m_axis"].cycles[0] - bench.accepted["s_axis"][needed])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset drops the rows held; the next frame is clean."""
    bench = Bench(dut, outputs=OUTPUTS)
    for part in (0.2, 0.5, 0.9):
        await bench.reset()
        bench.stall("light", "light")
        _queue(bench, 2)
        for _ in range(int(part * SPEC.cycles) + 1):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 2)
    await _finish(bench)
