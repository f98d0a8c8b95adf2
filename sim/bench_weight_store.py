"""Bench of fsq_weight_store: words asked for in order with and without pauses, each compared when it is due."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from sim.streams import measured

# {"words": [...], "bits": of a word, "latency": cycles from asking to the word, "rounds": times through all words}
CASE = json.loads(os.environ["FSQ_STORE"])
READY_LIMIT = 3000


async def _reset(dut: Any) -> int:
    """Reset, then wait until words may be asked for; returns the cycles that took."""
    dut.rst.value, dut.valid.value, dut.addr.value = 1, 0, 0
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    for cycle in range(READY_LIMIT):
        await FallingEdge(dut.clk)
        if int(dut.ready.value):
            return cycle
    raise AssertionError(f"not ready after {READY_LIMIT} cycles")


async def _read(dut: Any, number: int, pause: Any) -> None:
    """Ask for `number` words; `pause()` says whether a cycle goes by without asking."""
    due: list[int | None] = [None] * (CASE["latency"] - 1)
    asked = compared = 0
    while compared < number:
        ask = asked < number and not pause()
        place = asked % len(CASE["words"])
        dut.valid.value, dut.addr.value = int(ask), place
        due.append(place if ask else None)
        asked += ask
        await FallingEdge(dut.clk)
        now = due.pop(0)
        if now is not None:
            got, expected = int(dut.word.value), CASE["words"][now]
            assert got == expected, f"word {now}: {got:#x} came, {expected:#x} was expected"
            compared += 1
    dut.valid.value = 0
    assert compared == number > 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def without_a_pause(dut: Any) -> None:
    """A word a cycle through all rounds; the columns are never empty (the module checks that)."""
    Clock(dut.clk, 2, "ns").start()
    measured(dut, "ready", await _reset(dut))
    await _read(dut, CASE["rounds"] * len(CASE["words"]), lambda: False)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def with_pauses(dut: Any) -> None:
    """Single pauses, long ones, and a reset in the middle of a round, after which it begins again."""
    Clock(dut.clk, 2, "ns").start()
    rng = random.Random(CASE["words"][0])
    for share in (0.5, 0.05):
        await _reset(dut)
        await _read(dut, CASE["rounds"] * len(CASE["words"]), lambda s=share: rng.random() < s)
    await _reset(dut)
    await _read(dut, len(CASE["words"]) // 2 + 1, lambda: False)
    await _reset(dut)
    quiet = iter([True] * 200)
    await _read(dut, len(CASE["words"]) + 3, lambda: next(quiet, False))
