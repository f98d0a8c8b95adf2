"""Bench of sim/exhaustive/pair_exhaustive.sv: waits until every triple was checked."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from sim.streams import measured


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def every_triple(dut: Any) -> None:
    """2^19 cycles and a few for the pipeline."""
    dut.rst.value = 1
    Clock(dut.clk, 2, "ns").start()
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 4)
    assert not int(dut.done.value)
    await ClockCycles(dut.clk, (1 << 19) + 16)
    assert int(dut.done.value)
    measured(dut, "bad", int(dut.bad.value))
