"""Resources of fsq_parameter_memory: memories of weights, biases and shifts. Pure functions."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from fpga_squeeze.hardware.cost_stream import CACHE, bits_for, block_select, logic, memory_resources, packed
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fabric import Resources, fabric_of

SMALL_ROM_WORDS = 8
"""fsq_parameter_memory: a LUT ROM of so few words has few different columns, and equal ones are merged."""

LOAD_COLUMN = 72
"""Bits a loaded memory is written at a time."""


@lru_cache(maxsize=CACHE)
def small_rom_columns(bits: int, depth: int) -> float:
    """Different columns, constants left out, that `bits` random columns of `depth` words have on average.

    >>> small_rom_columns(64, 1), round(small_rom_columns(256, 4)), round(small_rom_columns(256, 8))
    (0.0, 14, 161)
    """
    kinds = 1 << depth
    return (kinds - 2) * (1.0 - (1.0 - 1.0 / kinds) ** bits)


@lru_cache(maxsize=CACHE)
def parameter_memory_resources(
    width: int, depth: int, storage: str, loaded: bool, output_register: bool, device: Device | None, different: int | None = None
) -> Resources:
    """fsq_parameter_memory. `different`: bits of a word that are no copies of others (sign bits of small biases are), None: all."""
    fabric = fabric_of(device)
    if loaded:
        full, rest = divmod(width, LOAD_COLUMN)
        chosen = storage
        if storage == "auto":
            chosen = "lut" if packed(width, depth, False, "auto", fabric.lut_inputs, False).lutram_luts else "bram"
        columns = memory_resources(LOAD_COLUMN, depth, device, storage=chosen).times(full)
        columns = columns + (memory_resources(rest, depth, device, storage=chosen) if rest else Resources())
        number = full + bool(rest)
        bus = 1 + bits_for(depth) + min(width, LOAD_COLUMN) + bits_for(number)
        return columns + Resources(lut=logic(4 + 1.5 * number, fabric), ff=bus + (width if output_register else 0))
    p = packed(width, depth, True, storage, fabric.lut_inputs, False)
    registers = 2 if output_register else 1
    if not p.lutram_luts:
        registered = Resources(bram18=p.bram18, ff=width * (registers - 1))
        return registered + (block_select(width, depth, True, fabric) if p.bram18 else Resources(uram=p.uram))
    if depth <= SMALL_ROM_WORDS:
        kinds = small_rom_columns(width if different is None else different, depth)
        return Resources(lut=ceil(min(kinds, 2.0 ** (depth - 1))), ff=ceil(kinds * registers))
    lut = float(p.lutram_luts)
    if fabric.lut_inputs == 6 and depth > 256:
        lut *= 1.45
    return Resources(lut=ceil(lut), ff=width * registers)
