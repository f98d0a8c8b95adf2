"""How one logical memory (depth words of width bits) is built from the memory primitives of a device family. Pure functions, no device data.

The block shapes are those of the vendors' data sheets: AMD UG573/UG473 (RAMB18/RAMB36, URAM288), UG574/UG474 (LUT RAM), Lattice FPGA-TN-02204
(ECP5 EBR and distributed RAM).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

BRAM18_BITS = 18_432
URAM_BITS = 294_912
URAM_SHAPE = (4096, 72)

BRAM18_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""(depth, width) of a RAMB18 in simple-dual-port or read-only use; a RAMB36 is two of them side by side or stacked, so counting halves loses nothing.
An ECP5 EBR has the same shapes."""

LUTRAM_BITS = 4096
"""A memory of at most this many bits goes to LUTs, as does one no deeper than a LUT holds (64 words in a LUT6, 16 in a LUT4): a block RAM would be
nearly empty, while a larger memory costs more LUTs (about 2 a 64 bits) than the 150 that a block is worth on mid-size parts."""


@dataclass(frozen=True)
class Packing:
    """Primitives of one memory: 18 Kb blocks, URAMs and LUTs used as memory."""

    bram18: int = 0
    uram: int = 0
    lutram_luts: int = 0


@cache
def bram18_count(width_bits: int, depth: int) -> int:
    """18 Kb blocks of a `depth` x `width_bits` memory: full columns of one shape, the rest of the width in the shape that suits it best.

    >>> bram18_count(2048, 1024)  # 57 RAMB36, as yosys maps it
    114
    >>> bram18_count(36, 512), bram18_count(37, 512), bram18_count(8, 2048), bram18_count(1, 16385)
    (1, 2, 1, 2)
    """
    best = min(ceil(width_bits / w) * ceil(depth / d) for d, w in BRAM18_SHAPES)
    for d, w in BRAM18_SHAPES:
        columns, rest = divmod(width_bits, w)
        if columns and rest:
            best = min(best, columns * ceil(depth / d) + min(ceil(rest / rw) * ceil(depth / rd) for rd, rw in BRAM18_SHAPES))
    return best


def uram_count(width_bits: int, depth: int) -> int:
    """URAM288 blocks (fixed 4096 x 72) of a `depth` x `width_bits` memory.

    >>> uram_count(72, 4096), uram_count(73, 4097)
    (1, 4)
    """
    return ceil(depth / URAM_SHAPE[0]) * ceil(width_bits / URAM_SHAPE[1])


def lutram_count(width_bits: int, depth: int, *, rom: bool, lut_inputs: int = 6) -> int:
    """LUTs of a `depth` x `width_bits` memory.

    ROM: ceil(depth / 2^inputs) LUTs a bit (the multiplexers of deeper ones are the slice's own).
    RAM, simple dual port, LUT6: 8 LUTs give 14 bits x 32 words (RAM32M16) or 7 bits x 64 words (RAM64M8), deeper ones stack.
    RAM, LUT4 (ECP5, CrossLink-NX): 6 LUTs give 4 bits x 16 words (DPR16X4).

    >>> lutram_count(8, 64, rom=True), lutram_count(14, 32, rom=False), lutram_count(8, 64, rom=False), lutram_count(4, 17, rom=False, lut_inputs=4)
    (8, 8, 16, 12)
    """
    if rom:
        return width_bits * ceil(depth / (1 << lut_inputs))
    if lut_inputs == 4:
        return 6 * ceil(width_bits / 4) * ceil(depth / 16)
    if depth <= 32:
        return 8 * ceil(width_bits / 14)
    return 8 * ceil(width_bits / 7) * ceil(depth / 64)


def pack(width_bits: int, depth: int, *, rom: bool, uram_available: bool = False, lut_inputs: int = 6, storage: str = "auto") -> Packing:
    """Primitives of one memory. `storage` "lut", "bram" or "uram" is taken as given; "auto": LUTs when shallow or tiny, else URAM (RAM only, and only
    where it is fuller than half), else block RAM.

    A URAM has no initial contents, so a ROM never goes there. A LUT4 holds 16 words, so shallow means 16 there.

    >>> pack(2048, 1024, rom=True)
    Packing(bram18=114, uram=0, lutram_luts=0)
    >>> pack(64, 32, rom=False)
    Packing(bram18=0, uram=0, lutram_luts=40)
    >>> pack(144, 1024, rom=False, storage="uram")
    Packing(bram18=0, uram=2, lutram_luts=0)
    """
    if width_bits == 0 or depth == 0:
        return Packing()
    bits = width_bits * depth
    if storage == "uram":
        return Packing(uram=uram_count(width_bits, depth))
    if storage == "lut" or (storage == "auto" and (depth <= 1 << lut_inputs or bits <= LUTRAM_BITS)):
        return Packing(lutram_luts=lutram_count(width_bits, depth, rom=rom, lut_inputs=lut_inputs))
    if storage == "auto" and uram_available and not rom:
        blocks = uram_count(width_bits, depth)
        if 2 * bits >= blocks * URAM_BITS:
            return Packing(uram=blocks)
    return Packing(bram18=bram18_count(width_bits, depth))
