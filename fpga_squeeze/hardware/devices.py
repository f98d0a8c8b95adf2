"""The parts and boards that --device knows, from devices.toml."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fpga_squeeze.errors import InputError

BRAM18_BITS, URAM_BITS = 18_432, 294_912
"""Of a block, parity bits included."""
LATTICE = ("ecp5", "nexus")
"""Families whose LUT has four inputs; all others have LUT6."""

MULTIPLIER_BITS = {
    "zynq7000": (25, 18), "artix7": (25, 18), "kintex7": (25, 18), "zynqmp": (27, 18), "virtexuplus": (27, 18), "ecp5": (18, 18), "nexus": (18, 18),
}  # fmt: skip
"""Signed operand widths of one hardware multiplier: DSP48E1, DSP48E2, MULT18X18."""


@dataclass(frozen=True)
class Device:
    """One part. `bram18`: 18 Kb blocks (half a BRAM36, or one EBR); `lutram_luts`: LUTs that can be RAM; `part`: the vendor tool's name of it."""

    name: str
    family: str
    part: str
    boards: tuple[str, ...]
    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int
    lutram_luts: int
    max_clock_mhz: int

    @property
    def lut_inputs(self) -> int:
        """Inputs of the LUT, 4 or 6: how many words a LUT holds as memory."""
        return 4 if self.family in LATTICE else 6

    @property
    def series7(self) -> bool:
        """A 7 series part, whose LUT RAM comes in slices of four LUTs."""
        return self.family in ("zynq7000", "artix7", "kintex7")

    @property
    def bram36(self) -> float:
        """Blocks as the vendor counts them: BRAM36 (AMD), EBR (Lattice)."""
        return float(self.bram18) if self.family in LATTICE else self.bram18 / 2

    @property
    def multiplier_bits(self) -> tuple[int, int]:
        """Signed operand widths of one hardware multiplier, the wider first."""
        return MULTIPLIER_BITS[self.family]

    @property
    def memory_bits(self) -> int:
        """On-chip memory in blocks: 18 Kb blocks and URAM."""
        return self.bram18 * BRAM18_BITS + self.uram * URAM_BITS


@cache
def load_devices() -> tuple[Device, ...]:
    """Every known part, in the file's order. Raises InputError when the packaged file is damaged."""
    text = resources.files("fpga_squeeze.hardware").joinpath("devices.toml").read_text(encoding="utf-8")
    try:
        devices = tuple(Device(**{**entry, "boards": tuple(entry["boards"])}) for entry in tomllib.loads(text)["device"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as e:
        raise InputError(f"devices.toml of the installation is damaged: {e}; install fpga-squeeze again") from e
    odd = [d.name for d in devices if d.family not in MULTIPLIER_BITS]
    if odd:
        raise InputError(f"devices.toml: unknown family of {odd[0]}; expected one of {', '.join(MULTIPLIER_BITS)}")
    return devices


def find_device(name: str) -> Device:
    """The part of that name, part number or board; case, spaces and underscores do not matter. Raises InputError with close matches.

    >>> find_device("ZCU104").name, find_device("pynq_z2").name, find_device("lfe5u-85f").bram18
    ('xczu7ev', 'xc7z020', 208)
    """
    known = {_key(label): d for d in load_devices() for label in (d.name, d.part, *d.boards)}
    device = known.get(_key(name))
    if device is None:
        close = difflib.get_close_matches(_key(name), list(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(d.name for d in load_devices())}"
        raise InputError(f"device {name!r} is not known; {hint} (`fpga-squeeze devices` lists parts and boards)")
    return device


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")
