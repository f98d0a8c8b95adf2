"""Multipliers -> DSP blocks. Pure functions."""

from __future__ import annotations

from math import ceil

from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import Engine, FoldPlan

DEFAULT_MULTIPLIER_BITS = (25, 18)
"""DSP48E1, the smallest AMD multiplier in use, stands in where no device is named."""


def engine_dsp(engine: Engine, device: Device | None = None) -> int:
    """DSP blocks of an engine: one a multiplier as long as both operands, as signed numbers, fit the hardware multiplier;
    two 8-bit weights are not packed into one.
    """
    weight_bits = engine.weight_bits
    act_bits = engine.in_fmt.bits + (0 if engine.in_fmt.signed else 1)
    wide, narrow = device.multiplier_bits if device else DEFAULT_MULTIPLIER_BITS
    a, b = max(weight_bits, act_bits), min(weight_bits, act_bits)
    return engine.fold.multipliers * ceil(a / wide) * ceil(b / narrow)


def plan_dsp(plan: FoldPlan, device: Device | None = None) -> int:
    """DSP blocks of all engines."""
    return sum(engine_dsp(e, device) for s in plan.stages for e in s.engines)
