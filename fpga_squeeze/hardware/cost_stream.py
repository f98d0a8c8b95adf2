"""Resources of what moves beats: memories, FIFOs, width converters, input buffers, pools, sums. Each formula is the structure of the module of the same
name in templates/rtl/lib: registers by their width, adders and multiplexers by their bits; constants of control logic are measured (docs/resources.md).
Pure functions.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fabric import Fabric, Resources, fabric_of
from fpga_squeeze.hardware.packing import Packing, bram18_shape, lutram_select, pack

CACHE = 1 << 16


def bits_for(values: int) -> int:
    """Bits of a counter over `values` values, 0 for one.

    >>> bits_for(1), bits_for(8), bits_for(9)
    (0, 3, 4)
    """
    return max(0, values - 1).bit_length()


def logic(luts: float, fabric: Fabric) -> int:
    """LUTs of random logic that takes `luts` LUTs of six inputs."""
    return ceil(luts * fabric.logic)


def choose(ways: int, fabric: Fabric) -> int:
    """LUTs of a bit of a multiplexer: 4:1 in a LUT6, 2:1 in a LUT4.

    >>> from fpga_squeeze.hardware.fabric import FABRICS
    >>> [choose(n, FABRICS["xcup"]) for n in (1, 2, 4, 5, 9)], choose(4, FABRICS["ecp5"])
    ([0, 1, 1, 2, 3], 2)
    """
    return ceil((ways - 1) / 3) if fabric.lut_inputs == 6 else ceil((ways - 1) * 2 / 3)


@lru_cache(maxsize=CACHE)
def packed(width_bits: int, depth: int, rom: bool, storage: str, lut_inputs: int, series7: bool) -> Packing:
    """`pack`, remembered."""
    return pack(width_bits, depth, rom=rom, storage=storage, lut_inputs=lut_inputs, series7=series7)


def block_select(width_bits: int, depth: int, rom: bool, fabric: Fabric) -> Resources:
    """What chooses the slice of a deep block memory that was read, and remembers its address.

    >>> from fpga_squeeze.hardware.fabric import FABRICS
    >>> block_select(24, 11264, True, FABRICS["xcup"])
    Resources(dsp=0, bram18=0, uram=0, lut=107, ff=4)
    """
    slices = bram18_shape(width_bits, depth, rom)[1]
    if slices == 1:
        return Resources()
    return Resources(lut=width_bits * choose(slices, fabric) + (slices if slices > 4 else 0), ff=bits_for(slices))


@lru_cache(maxsize=CACHE)
def memory_resources(width_bits: int, depth: int, device: Device | None, *, storage: str = "auto") -> Resources:
    """fsq_memory: a block holds its own read register; a LUT RAM has one of flip-flops, and a multiplexer where it is stacked."""
    fabric = fabric_of(device)
    series7 = fabric.name == "xc7"
    p = packed(width_bits, depth, False, storage, fabric.lut_inputs, series7)
    if not p.lutram_luts:
        return Resources(bram18=p.bram18, uram=p.uram) + (block_select(width_bits, depth, False, fabric) if p.bram18 else Resources())
    return Resources(lut=p.lutram_luts + lutram_select(width_bits, depth, lut_inputs=fabric.lut_inputs, series7=series7), ff=width_bits)


@lru_cache(maxsize=CACHE)
def fifo_resources(width_bits: int, depth: int, device: Device | None = None) -> Resources:
    """fsq_fifo: the output register is one of its beats; the others are registers up to 3 beats, else a LUT RAM or a block memory that is read ahead."""
    fabric = fabric_of(device)
    if depth == 1:
        return Resources(lut=3, ff=width_bits + 1)
    if depth <= 3:
        return Resources(lut=logic((1.0 if fabric.lut_inputs == 6 else depth - 1.3) * width_bits / fabric.logic + 8, fabric), ff=depth * width_bits + 6)
    count = bits_for(depth + 1)
    words = depth - 1
    memory = memory_resources(width_bits, words, device)
    if memory.bram18:
        return memory + Resources(lut=logic(width_bits + 5 * count + 24, fabric), ff=2 * width_bits + 4 * count + 2)
    return Resources(lut=memory.lut + logic(width_bits + 5 * count + 9, fabric), ff=width_bits + 5 * count - 1)


@lru_cache(maxsize=CACHE)
def converter_resources(channels: int, bits: int, in_lanes: int, out_lanes: int, device: Device | None = None) -> Resources:
    """fsq_width_converter: nothing between equal lanes or where a pixel is one beat on either side; a register where one side is a multiple of the
    other; else a row of units that both sides work on.
    """
    unit = gcd(in_lanes, out_lanes)
    units = ceil(channels / unit)
    in_units, out_units = in_lanes // unit, out_lanes // unit
    in_beats, out_beats = ceil(units / in_units), ceil(units / out_units)
    if in_lanes == out_lanes or in_beats == out_beats == 1:
        return Resources()
    fabric = fabric_of(device)
    if in_units == 1:
        return Resources(lut=logic(2 * out_units + 4, fabric), ff=out_lanes * bits + 1 + bits_for(in_beats) + bits_for(out_units))
    partial = bits_for(in_beats) if units % in_units else 0
    if out_units == 1:
        lut = (in_lanes - out_lanes) * bits + logic(3 + 3 * bits_for(in_units) + 2 * partial, fabric)
        return Resources(lut=lut, ff=in_lanes * bits + bits_for(in_units + 1) + partial)
    return _gearbox_resources(channels, bits, in_lanes, out_lanes, fabric)


def _gearbox_resources(channels: int, bits: int, in_lanes: int, out_lanes: int, fabric: Fabric) -> Resources:
    """fsq_width_converter where neither side divides the other: a row of units. A bit of it comes from as many places of an input beat as reach it, or from
    the row itself: kept, or moved by a whole or by a pixel's last output beat. LUTs for each such source are fitted to syntheses (tests/test_cost.py).
    """
    unit = gcd(in_lanes, out_lanes)
    units, in_units, out_units = ceil(channels / unit), in_lanes // unit, out_lanes // unit
    capacity = in_units + out_units + min(in_units, out_units)
    places = capacity - in_units + 1
    moves = {0, out_units, (units - 1) % out_units + 1}
    row = capacity * unit * bits
    kept = sum(capacity - m for m in moves) * unit * bits
    padding = -channels % in_lanes * bits
    partial = bits_for(ceil(units / in_units)) if units % in_units else 0
    luts = 0.63 * in_units * places * unit * bits + 0.55 * kept + padding + 10
    return Resources(lut=logic(luts, fabric), ff=row + out_lanes * bits + 6 + partial)


@lru_cache(maxsize=CACHE)
def skid_resources(width_bits: int) -> Resources:
    """fsq_skid: two registers and the choice between."""
    return Resources(lut=width_bits + 4, ff=2 * width_bits + 3)


@lru_cache(maxsize=CACHE)
def concat_resources(width_bits: int, beats: int, device: Device | None = None) -> Resources:
    """fsq_concat: a 2:1 multiplexer and a counter."""
    return Resources(lut=logic(width_bits / fabric_of(device).logic + 6, fabric_of(device)), ff=1 + bits_for(beats))


@lru_cache(maxsize=CACHE)
def pixel_buffer_resources(width_bits: int, ic_folds: int, oc_folds: int, p_px: int, pixels: int, device: Device | None = None) -> Resources:
    """fsq_pixel_buffer: two groups in ping-pong, a memory for each pixel."""
    words, short = bits_for(ic_folds), pixels % p_px
    group = bits_for(p_px) + (bits_for(ceil(pixels / p_px)) if short else 0)
    control = Resources(
        lut=logic(10 + 2.5 * words + 3 * bits_for(p_px) + (8 if short else 0), fabric_of(device)), ff=5 + 2 * words + bits_for(oc_folds) + group
    )
    return memory_resources(width_bits, 2 * ic_folds, device).times(p_px) + control


@lru_cache(maxsize=CACHE)
def pixel_order_resources(width_bits: int, oc_folds: int, p_px: int, pixels: int, device: Device | None = None) -> Resources:
    """fsq_pixel_order: two groups in ping-pong, all pixels of a group in one word, then the choice of the pixel."""
    if p_px == 1:
        return Resources()
    fabric = fabric_of(device)
    short = pixels % p_px
    group = bits_for(ceil(pixels / p_px)) if short else 0
    control = 19 + (9 if short else 0)
    out = width_bits * choose(p_px, fabric)
    return memory_resources(p_px * width_bits, 2 * oc_folds, device) + Resources(
        lut=out + logic(control, fabric), ff=2 * bits_for(oc_folds) + 2 * bits_for(p_px) + 5 + group
    )


@lru_cache(maxsize=CACHE)
def line_buffer_resources(
    word_bits: int, banks: int, depth: int, row_taps: int, column_taps: int, rows: int, out_w: int, ic_folds: int, tap: bool, p_px: int,
    device: Device | None = None,
) -> Resources:  # fmt: skip
    """fsq_line_buffer, one copy: banks, the choice of a row bank and of a column bank for each tap, the output register, the read sequencer."""
    fabric = fabric_of(device)
    out = row_taps * column_taps * word_bits
    lut, ff = 0.0, 0.0
    if row_taps > 1:
        lut += out * choose(rows, fabric)
    if column_taps > 1:
        lut += out * choose(column_taps, fabric)
    size = max(1, out_w).bit_length()
    control = 158 + 12 * size + 3 * bits_for(ic_folds) + (12 if tap else 0) + (10 if p_px > 1 else 0) + (30 if column_taps > 1 else 0)
    ff = out + 50 + 15 * size + 3 * bits_for(ic_folds) + (2 if tap else 0)
    return memory_resources(word_bits, depth, device).times(banks) + Resources(lut=ceil(lut) + logic(control, fabric), ff=ceil(ff))


@lru_cache(maxsize=CACHE)
def window_max_resources(
    width_bits: int, length: int, inner: int, kernel: int, stride: int, padded: bool, device: Device | None = None
) -> Resources:
    """fsq_window_max: a comparator and multiplexers a bit of every open window, positions as counters."""
    fabric = fabric_of(device)
    slots = max(1, ceil((kernel - 1) / stride))
    word = slots * width_bits
    memory = Resources(ff=word)
    if inner > 1:
        memory = memory_resources(word, inner, device, storage="lut" if fabric.lut_inputs == 4 else "auto")
    position = bits_for(length + 9)
    lut = 3.1 * word + (width_bits if slots > 1 else 0) + 12 + 2.3 * bits_for(inner) + (9 if padded else 0) + 8 * (slots - 1)
    return memory + Resources(lut=logic(lut, fabric), ff=width_bits + (2 + slots) * position + 2 + bits_for(inner) + bits_for(slots))


@lru_cache(maxsize=CACHE)
def global_sum_resources(channels: int, lanes: int, sum_bits: int, pixels: int, device: Device | None = None) -> Resources:
    """fsq_global_sum: sums in one memory, finished ones in a FIFO, sent class by class."""
    fabric = fabric_of(device)
    beats = ceil(channels / lanes)
    word = lanes * sum_bits
    sums = memory_resources(word, beats, device) if beats > 1 else Resources(ff=word)
    control = 8 + bits_for(beats) * 3 + bits_for(pixels) + bits_for(channels)
    total = sums + fifo_resources(word, beats + 1, device) + converter_resources(channels, sum_bits, lanes, 1, device)
    return total + Resources(lut=word + logic(control, fabric), ff=bits_for(beats) + bits_for(pixels) + bits_for(channels))
