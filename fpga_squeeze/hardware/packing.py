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

LUT_RULE = {6: (64, 4096), 4: (16, 512)}
"""LUT inputs -> (words, bits): a memory of at most so many words, or so many bits, goes to LUTs, the rule of templates/rtl/lib/fsq_memory.sv. A block would
be nearly empty, while a larger memory costs more LUTs (about 2 a 64 bits) than the 150 that a block is worth on mid-size parts."""

LUTRAM_BITS = LUT_RULE[6][1]


@dataclass(frozen=True)
class Packing:
    """Primitives of one memory: 18 Kb blocks, URAMs and LUTs used as memory."""

    bram18: int = 0
    uram: int = 0
    lutram_luts: int = 0


BLOCK_COST, SELECT_COST = 129.0, 0.5
"""What yosys weighs when it shapes a block memory: an 18 Kb block, and a bit of the multiplexer behind slices."""


@cache
def bram18_shape(width_bits: int, depth: int, rom: bool = True) -> tuple[int, int]:
    """(18 Kb blocks, slices) of a `depth` x `width_bits` memory: cut into slices as deep as a block of one shape, which lie side by side and share blocks;
    the high address bits choose a slice of what is read. A slice of a RAM takes whole units of nine bits, what a block can write on its own.

    >>> bram18_shape(24, 11264), bram18_shape(24, 8192), bram18_shape(64, 512), bram18_shape(64, 10368)
    ((15, 11), (11, 4), (2, 1), (40, 11))
    >>> bram18_shape(24, 3000, rom=False), bram18_shape(8, 9216), bram18_shape(8, 9216, rom=False)[0]
    ((5, 3), (4, 9), 5)
    """
    found = []
    for d, w in BRAM18_SHAPES:
        slices, bits = ceil(depth / d), width_bits if rom else ceil(width_bits / min(w, 9)) * min(w, 9)
        blocks = ceil(slices * bits / w)
        found.append((blocks * BLOCK_COST + SELECT_COST * width_bits * (slices - 1), blocks, slices))
    return min(found)[1:]


def bram18_count(width_bits: int, depth: int, rom: bool = True) -> int:
    """18 Kb blocks of a `depth` x `width_bits` memory.

    >>> bram18_count(2048, 1024)  # 57 RAMB36, as yosys maps it
    114
    >>> bram18_count(36, 512), bram18_count(37, 512), bram18_count(8, 2048), bram18_count(1, 16385)
    (1, 2, 1, 1)
    """
    return bram18_shape(width_bits, depth, rom)[0]


def uram_count(width_bits: int, depth: int) -> int:
    """URAM288 blocks (fixed 4096 x 72) of a `depth` x `width_bits` memory.

    >>> uram_count(72, 4096), uram_count(73, 4097)
    (1, 4)
    """
    return ceil(depth / URAM_SHAPE[0]) * ceil(width_bits / URAM_SHAPE[1])


def in_luts(width_bits: int, depth: int, lut_inputs: int = 6) -> bool:
    """The RTL puts such a memory into LUTs where nothing else is asked for.

    >>> in_luts(512, 64), in_luts(8, 512), in_luts(9, 512), in_luts(64, 16, 4), in_luts(64, 17, 4)
    (True, True, False, True, False)
    """
    words, bits = LUT_RULE[lut_inputs]
    return depth <= words or width_bits * depth <= bits


def lutram_count(width_bits: int, depth: int, *, rom: bool, lut_inputs: int = 6, series7: bool = False) -> int:
    """LUTs of a `depth` x `width_bits` memory, without what chooses between the words of stacked ones (`lutram_select`).

    ROM: ceil(depth / 2^inputs) LUTs a bit.
    RAM, simple dual port, LUT6: 8 LUTs give 14 bits x 32 words (RAM32M16) or 7 bits x 64 words (RAM64M8), deeper ones stack; in the 7 series half as many
    give 6 x 32 (RAM32M) or 3 x 64 (RAM64M).
    RAM, LUT4 (ECP5, CrossLink-NX): 6 LUTs give 4 bits x 16 words (DPR16X4).

    >>> lutram_count(8, 64, rom=True), lutram_count(14, 32, rom=False), lutram_count(8, 64, rom=False), lutram_count(4, 17, rom=False, lut_inputs=4)
    (8, 8, 16, 12)
    >>> lutram_count(32, 76, rom=False), lutram_count(16, 100, rom=False), lutram_count(12, 32, rom=False, series7=True)
    (72, 48, 8)
    """
    if rom:
        return width_bits * ceil(depth / (1 << lut_inputs))
    if lut_inputs == 4:
        return 6 * ceil(width_bits / 4) * ceil(depth / 16)
    luts, narrow, wide = (4, 3, 6) if series7 else (8, 7, 14)
    return min(luts * ceil(width_bits / wide) * ceil(depth / 32), luts * ceil(width_bits / narrow) * ceil(depth / 64))


def lutram_select(width_bits: int, depth: int, *, lut_inputs: int = 6, series7: bool = False) -> int:
    """LUTs of a LUT RAM's read multiplexer and write decoder: none for a single stack.

    >>> lutram_select(8, 32), lutram_select(16, 256), lutram_select(8, 512)
    (0, 20, 32)
    """
    stacks = _stacks(width_bits, depth, lut_inputs, series7)
    if stacks == 1:
        return 0
    return width_bits * (stacks - 1 if lut_inputs == 4 else ceil((stacks - 1) / 3)) + stacks


def _stacks(width_bits: int, depth: int, lut_inputs: int, series7: bool) -> int:
    if lut_inputs == 4:
        return ceil(depth / 16)
    luts, narrow, wide = (4, 3, 6) if series7 else (8, 7, 14)
    shallow = luts * ceil(width_bits / wide) * ceil(depth / 32)
    return ceil(depth / 32) if shallow < luts * ceil(width_bits / narrow) * ceil(depth / 64) else ceil(depth / 64)


def pack(
    width_bits: int, depth: int, *, rom: bool, uram_available: bool = False, lut_inputs: int = 6, storage: str = "auto", series7: bool = False
) -> Packing:
    """Primitives of one memory. `storage` "lut", "bram" or "uram" is taken as given; "auto": LUTs by `in_luts`, else URAM (RAM only, and
    only where it is fuller than half), else block RAM. A URAM has no initial contents, so a ROM never goes there.

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
    if storage == "lut" or (storage == "auto" and in_luts(width_bits, depth, lut_inputs)):
        return Packing(lutram_luts=lutram_count(width_bits, depth, rom=rom, lut_inputs=lut_inputs, series7=series7))
    if storage == "auto" and uram_available and not rom:
        blocks = uram_count(width_bits, depth)
        if 2 * bits >= blocks * URAM_BITS:
            return Packing(uram=blocks)
    return Packing(bram18=bram18_count(width_bits, depth, rom))
