"""A minimal bench for the harness's own tests: clocks a module and measures its output q."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from sim.streams import measured


@cocotb.test(timeout_time=100, timeout_unit="us")
async def reads(dut: Any) -> None:
    """The first word, after two clock edges."""
    dut.rst.value = 0
    Clock(dut.clk, 2, "ns").start()
    await ClockCycles(dut.clk, 4)
    measured(dut, "q", int(dut.q.value))
