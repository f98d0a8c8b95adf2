"""Bench of fsq_max_pool against a plain window maximum: geometry, signs, frames back to back, throughput, stalls, reset."""

from __future__ import annotations

import os
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from sim.harness import bench_parameters
from sim.streams import Bench, measured, pixel_beats

P = bench_parameters()
C, LANES, BITS, SIGNED, IH, IW, K, S = (P[n] for n in ("CHANNELS", "LANES", "BITS", "SIGNED", "IH", "IW", "K", "S"))
TOP, LEFT, BOTTOM, RIGHT = (P[n] for n in ("PAD_TOP", "PAD_LEFT", "PAD_BOTTOM", "PAD_RIGHT"))
OH = (IH + TOP + BOTTOM - K) // S + 1
OW = (IW + LEFT + RIGHT - K) // S + 1
QMIN = -(1 << (BITS - 1)) if SIGNED else 0
BEATS = -(-C // LANES)


def pool(frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, IH, IW) -> (C, OH, OW)."""
    padded = np.full((C, IH + TOP + BOTTOM, IW + LEFT + RIGHT), QMIN, np.int64)
    padded[:, TOP : TOP + IH, LEFT : LEFT + IW] = frame
    windows = np.lib.stride_tricks.sliding_window_view(padded, (K, K), axis=(1, 2))
    return np.asarray(windows[:, ::S, ::S].max(axis=(3, 4)), dtype=np.int64)


def stream(frame: NDArray[np.int64]) -> list[int]:
    """Beats of a frame: rows, pixels, groups of lanes."""
    return [beat for row in frame.transpose(1, 2, 0) for pixel in row for beat in pixel_beats(pixel.tolist(), LANES, BITS)]


def _queue(bench: Bench, frames: int) -> None:
    generator = np.random.default_rng(bench.rng.getrandbits(32))
    for n in range(frames):
        values = generator.integers(QMIN, QMIN + (1 << BITS), (C, IH, IW))
        if n == 1:
            values[:] = QMIN  # a padded position that won would show
        bench.send(stream(values))
        bench.outputs["m_axis"].expect(stream(pool(values)))


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def back_to_back(dut: Any) -> None:
    """Three frames in a row without stalls; the cycles between two frames are measured."""
    bench = Bench(dut)
    await bench.reset()
    _queue(bench, 3)
    beats = IH * IW * BEATS
    await bench.finish(8 * beats + 1000)
    out = bench.outputs["m_axis"]
    per_frame = OH * OW * BEATS
    interval = out.cycles[2 * per_frame - 1] - out.cycles[per_frame - 1]
    measured(dut, "interval", interval)
    measured(dut, "beats", beats)
    measured(dut, "latency", out.cycles[-1] - bench.accepted["s_axis"][-1])
    if os.environ.get("FSQ_FULL_RATE", "1") == "1":
        assert interval == beats, f"{interval} cycles between frames of {beats} beats"


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def stalls(dut: Any) -> None:
    """Random and adversarial idle x back-pressure, frames back to back."""
    bench = Bench(dut)
    for idle, pressure in [("half", "half"), ("none", "heavy"), ("bursts", "once")]:
        await bench.reset()
        bench.stall(idle, pressure)
        _queue(bench, 2)
        await bench.finish(60 * IH * IW * BEATS + 2000)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def reset_in_mid_frame(dut: Any) -> None:
    """The frame after a reset is right wherever the reset fell."""
    bench = Bench(dut)
    total = IH * IW * BEATS
    for part in (3, 7):
        await bench.reset()
        _queue(bench, 1)
        for _ in range(part * total // 10 + 5):
            await RisingEdge(dut.clk)
    await bench.reset()
    _queue(bench, 2)
    await bench.finish(8 * total + 1000)
