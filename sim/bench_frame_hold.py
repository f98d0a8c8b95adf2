"""Bench of fsq_frame_hold: frames never stop in their middle, no beat that was offered is withdrawn, and idle means that every frame has left."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def random_frames(dut: Any) -> None:
    """Frames of random lengths, a machine that takes beats and ends frames at random, stops wanted at random."""
    rng = random.Random(random.getrandbits(32))
    for name in ("want", "offered", "taken", "last", "left"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, 2, "ns").start()
    for _ in range(3):
        await FallingEdge(dut.clk)
    assert int(dut.held.value) == 1 and int(dut.idle.value) == 1
    dut.rst.value = 0
    left_to_send, work, offering, before, busy = 0, 0, False, False, {"want": 0.5, "offer": 0.5, "ready": 0.5, "leave": 0.2}
    held_cycles = idle_cycles = frames = inside_cycles = 0
    wanted = False
    for cycle in range(20_000):
        if cycle % 500 == 0:
            busy = {k: rng.choice((0.05, 0.3, 0.9)) for k in busy}
        held = bool(int(dut.held.value))
        # What was true of the cycle before decides what may be true now.
        assert not (held and before), f"cycle {cycle}: a beat that was offered to the machine is held back"
        assert not (held and left_to_send), f"cycle {cycle}: held with {left_to_send} beats of a frame to come"
        assert int(dut.idle.value) == (held and work == 0), f"cycle {cycle}: idle with {work} frames in work"
        assert not (held and not wanted and cycle > 1), f"cycle {cycle}: held and not wanted"
        held_cycles += held
        idle_cycles += int(dut.idle.value)
        wanted = rng.random() < busy["want"] if rng.random() < 0.05 else wanted
        offering = offering or rng.random() < busy["offer"]
        passing = offering and not held
        taken = passing and rng.random() < busy["ready"]
        length = left_to_send or rng.choice((1, 1, 2, 7))
        left = work > 0 and rng.random() < busy["leave"] and not (work == 1 and left_to_send)
        dut.want.value, dut.offered.value, dut.taken.value = int(wanted), int(offering), int(taken)
        dut.last.value, dut.left.value = int(length == 1), int(left)
        if taken:
            work += left_to_send == 0
            left_to_send, offering = length - 1, False
            frames += length == 1
        work -= left
        inside_cycles += left_to_send > 0
        before = passing and not taken
        await FallingEdge(dut.clk)
    assert min(held_cycles, idle_cycles, frames, inside_cycles) > 100, "the run showed nothing"
    dut.want.value, dut.offered.value, dut.taken.value, dut.left.value = 0, 0, 0, 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    assert int(dut.held.value) == 1 and int(dut.idle.value) == 1
