"""What a device family builds logic of, and the vector of resources that all cost functions return. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.hardware.devices import Device


@dataclass(frozen=True)
class Resources:
    """Blocks of a device: multipliers, 18 Kb memory blocks, UltraRAM blocks, LUTs (logic and memory), flip-flops."""

    dsp: int = 0
    bram18: int = 0
    uram: int = 0
    lut: int = 0
    ff: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.dsp + other.dsp, self.bram18 + other.bram18, self.uram + other.uram, self.lut + other.lut, self.ff + other.ff)

    def times(self, number: int) -> Resources:
        """So many of it."""
        return Resources(self.dsp * number, self.bram18 * number, self.uram * number, self.lut * number, self.ff * number)


@dataclass(frozen=True)
class Fabric:
    """A family's logic. `name` as yosys calls it; `lut_inputs` 4 or 6; `shift_registers`: three flip-flops in a row become a LUT (SRL16E).

    `logic`: LUTs of random logic per LUT6 of it, measured (docs/resources.md); adders take a LUT a bit everywhere.
    """

    name: str
    lut_inputs: int
    shift_registers: bool
    logic: float
    multiplier_register: bool


FABRICS = {
    "xcup": Fabric("xcup", 6, True, 1.0, False),
    "xc7": Fabric("xc7", 6, True, 1.0, True),
    "ecp5": Fabric("ecp5", 4, False, 2.0, False),
}

_FAMILIES = {
    "zynq7000": "xc7", "artix7": "xc7", "kintex7": "xc7", "zynqmp": "xcup", "virtexuplus": "xcup", "ecp5": "ecp5", "nexus": "ecp5",
}  # fmt: skip


def fabric_of(device: Device | None) -> Fabric:
    """The fabric of a device; UltraScale+ where none is named."""
    return FABRICS[_FAMILIES[device.family] if device else "xcup"]


NAMES = {"dsp": "DSP blocks", "bram18": "18 Kb blocks", "uram": "URAM blocks", "lut": "LUTs", "ff": "flip-flops"}
"""What a message calls the fields of Resources."""
