"""Cells of a netlist -> resources."""

from __future__ import annotations

from collections.abc import Mapping

from fpga_squeeze.errors import CheckFailedError
from fpga_squeeze.hardware.cost import Resources

_LUT = {
    **{f"LUT{n}": 1 for n in range(1, 7)}, "INV": 1,
    # LUT RAM by the LUTs it takes: UltraScale+ (RAM32M16 fills a slice of 8 LUTs), 7 series (RAM32M and RAM64M half a slice of 4).
    "RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4, "RAM64M": 4, "RAM32X16DR8": 8, "RAM64X8SW": 8, "RAM32X1S": 1, "RAM64X1S": 1, "RAM32X1D": 2, "RAM64X1D": 2,
    "RAM128X1S": 2, "RAM128X1D": 4, "RAM256X1S": 4, "RAM256X1D": 8, "RAM512X1S": 8, "RAM32X2S": 2,
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1, "ROM32X1": 1, "ROM64X1": 1, "ROM128X1": 2, "ROM256X1": 4,
    # ECP5: a carry cell is two LUTs, a 16 x 4 memory two LUTs of data and four of its slice's logic.
    "CCU2C": 2, "TRELLIS_DPR16X4": 6,
}  # fmt: skip
_FF = {name: 1 for name in ("FDRE", "FDSE", "FDCE", "FDPE", "FDRE_1", "FDSE_1", "LDCE", "LDPE", "TRELLIS_FF")}
_DSP = {"DSP48E1": 1, "DSP48E2": 1, "DSP58": 1, "MULT18X18D": 1, "MULT9X9D": 1}
_BRAM18 = {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2, "FIFO18E2": 1, "FIFO36E2": 2, "DP16KD": 1, "PDPW16KD": 1}
_URAM = {"URAM288": 1, "URAM288_BASE": 1}
_FREE = {
    # Part of a slice that counts by its LUTs, constants, buffers, and marks of the synthesiser's own.
    "CARRY4", "CARRY8", "MUXF5", "MUXF6", "MUXF7", "MUXF8", "MUXF9", "PFUMX", "L6MUX21", "GND", "VCC", "VLO", "VHI", "IBUF", "OBUF", "BUFG",
    "TRELLIS_IO", "ALU54B", "$scopeinfo", "$print", "$check",
}  # fmt: skip


def count_cells(cells: Mapping[str, int]) -> Resources:
    """Resources of {cell type: number}. Raises CheckFailedError for a cell that no table knows: a logic cell that was not mapped counts nothing silently.

    >>> count_cells({"LUT3": 4, "CARRY4": 1, "FDRE": 8, "RAMB36E2": 2, "RAM32M16": 1})
    Resources(dsp=0, bram18=4, uram=0, lut=12, ff=8)
    """
    odd = sorted(name for name in cells if not any(name in table for table in (_LUT, _FF, _DSP, _BRAM18, _URAM, _FREE)))
    if odd:
        raise CheckFailedError(f"synthesis left cells of type {odd[0]}, which no device has; this is a fault of the design or of the tool's version")

    def total(table: Mapping[str, int]) -> int:
        return sum(table[name] * number for name, number in cells.items() if name in table)

    return Resources(total(_DSP), total(_BRAM18), total(_URAM), total(_LUT), total(_FF))
