"""Resources of weight memories and of what decodes them: fsq_weight_store, fsq_sparse_group, fsq_codebook. Structural, as cost_mvu.py; constants of control
logic are measured (docs/weight-storage.md). Pure functions.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from fpga_squeeze.hardware.cost_parameters import parameter_memory_resources
from fpga_squeeze.hardware.cost_stream import CACHE, bits_for, choose, logic, memory_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.engine import Engine, WeightCoding
from fpga_squeeze.hardware.fabric import Resources, fabric_of

COLUMN_ROWS = 32
"""Values that a column of fsq_sparse_group holds: the depth of a LUT RAM."""

GROUP_CONTROL = 10
"""LUTs of fsq_sparse_group besides its memories, multiplexers, counters and counts (measured)."""


def weight_memory_resources(e: Engine, device: Device | None) -> Resources:
    """The weight memory of an engine with all that decodes it."""
    c = e.coding
    if c is None:
        return parameter_memory_resources(e.weight_word_bits, e.weight_depth, e.weight_storage, e.loaded, True, device)
    lanes = e.fold.weight_lanes
    total = Resources()
    if c.sparse:
        total = total + parameter_memory_resources(c.groups * c.group, e.weight_depth, e.weight_storage, False, True, device)
        total = total + _group(c.group, c.value_bits, c.read, c.columns, c.words, e.weight_storage, device).times(c.groups) + Resources(ff=2)
    else:
        total = total + parameter_memory_resources(lanes * c.value_bits, e.weight_depth, e.weight_storage, False, True, device)
    return total + _table(c.codebook, c.value_bits, e.weight_bits, device).times(lanes) if c.codebook else total


def decoder_resources(e: Engine, device: Device | None) -> Resources:
    """What decodes the weights of an engine, its memories not counted."""
    c = e.coding
    if c is None:
        return Resources()
    total = _table(c.codebook, c.value_bits, e.weight_bits, device).times(e.fold.weight_lanes) if c.codebook else Resources()
    return total + _decoder(c.group, c.value_bits, c.read, c.columns, c.words, device).times(c.groups) if c.sparse else total


def _group(group: int, bits: int, read: int, columns: int, words: int, storage: str, device: Device | None) -> Resources:
    """fsq_sparse_group: the memory of values and the decoder."""
    return parameter_memory_resources(read * bits, words, storage, False, True, device) + _decoder(group, bits, read, columns, words, device)


@lru_cache(maxsize=CACHE)
def _decoder(group: int, bits: int, read: int, columns: int, words: int, device: Device | None) -> Resources:
    """Columns in LUT RAM, a multiplexer a lane, counters, the counts of values before each lane."""
    fabric = fabric_of(device)
    fifos = memory_resources(bits, COLUMN_ROWS, device, storage="lut").times(columns)
    address, column = bits_for(words), bits_for(columns)
    wraps = 2.5 * group if columns & (columns - 1) else 0.0
    control = GROUP_CONTROL + address + (address / 3 if words & (words - 1) else 0) + 3.75 * (group + columns) + wraps
    count = group.bit_length()
    before = sum(i.bit_length() for i in range(1, group))
    registers = 5 * columns + address + (columns * COLUMN_ROWS).bit_length() + 3 + bits_for(columns // read) + 5 + 1 + 2 * count
    registers += 2 * group + before + column + group * column
    return fifos + Resources(lut=group * bits * choose(columns, fabric) + logic(control, fabric), ff=ceil(registers) + group * bits)


@lru_cache(maxsize=CACHE)
def _table(codebook: tuple[int, ...], index_bits: int, weight_bits: int, device: Device | None) -> Resources:
    """fsq_codebook, one lane: a LUT for each bit that is neither constant, nor a bit of the index, nor equal to another; with LUTs of four inputs a tree."""
    entries = range(len(codebook))
    kinds = {tuple(value >> b & 1 for value in codebook) for b in range(weight_bits)}
    kinds -= {tuple(0 for _ in entries), tuple(1 for _ in entries)}
    wires = {tuple(i >> b & 1 for i in entries) for b in range(index_bits)}
    a_bit = 1 if fabric_of(device).lut_inputs == 6 or index_bits <= 4 else 3 << index_bits - 5
    return Resources(lut=len(kinds - wires) * a_bit, ff=len(kinds))


def table_luts(c: WeightCoding, weight_bits: int, device: Device | None) -> int:
    """LUTs of one lane's table."""
    return _table(c.codebook, c.value_bits, weight_bits, device).lut


def act_delay(c: WeightCoding | None, bits: int, device: Device | None) -> tuple[int, int]:
    """(LUT, FF) of the registers in which `bits` bits of activations wait for their weights: two, and as many as decoding takes; three are shift registers."""
    stages = 2 + (c.latency if c else 0)
    if fabric_of(device).shift_registers and stages >= 3:
        return bits, 0
    return 0, stages * bits
