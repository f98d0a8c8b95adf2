"""Dividers of the ECP5's PLL, its output fed back to itself."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fpga_squeeze.errors import InputError

# Limits of EHXPLLL (Lattice FPGA-DS-02012, sysCLOCK PLL timing), MHz.
_DETECTOR_MHZ = (Fraction(25, 8), Fraction(400))
_VCO_MHZ = (Fraction(400), Fraction(800))
_OUTPUT_MHZ = (Fraction(10), Fraction(400))
_DIVIDERS = 128
_TOLERANCE = Fraction(1, 200)


@dataclass(frozen=True)
class Pll:
    """`output_mhz` = input * feedback_divider / input_divider; the oscillator runs output_divider times faster. `phase`: half an output period."""

    input_divider: int
    feedback_divider: int
    output_divider: int
    phase: int
    output_mhz: float


def ecp5_pll(input_mhz: float, output_mhz: float) -> Pll:
    """The PLL whose output is nearest to `output_mhz`; of equals the one with the fastest phase detector, then the oscillator nearest to 600 MHz.

    Raises InputError when nothing within half a percent exists.

    >>> ecp5_pll(25.0, 80.0)
    Pll(input_divider=5, feedback_divider=16, output_divider=8, phase=4, output_mhz=80.0)
    """
    source, goal = Fraction(input_mhz).limit_denominator(1000), Fraction(output_mhz).limit_denominator(1000)
    best: tuple[Fraction, int, Fraction] | None = None
    found: Pll | None = None
    for divider in range(1, _DIVIDERS + 1):
        detector = source / divider
        if not _DETECTOR_MHZ[0] <= detector <= _DETECTOR_MHZ[1]:
            continue
        feedback = max(1, min(_DIVIDERS, round(goal / detector)))
        clock = detector * feedback
        if not _OUTPUT_MHZ[0] <= clock <= _OUTPUT_MHZ[1]:
            continue
        output = max(1, min(_DIVIDERS, round(600 / clock)))
        if not _VCO_MHZ[0] <= clock * output <= _VCO_MHZ[1]:
            continue
        rank = (abs(clock - goal), divider, abs(clock * output - 600))
        if best is None or rank < best:
            best, found = rank, Pll(divider, feedback, output, output // 2, float(clock))
    if found is None or best is None or best[0] > goal * _TOLERANCE:
        near = f"; the nearest is {found.output_mhz:.6g}" if found else ""
        raise InputError(f"--clock-mhz {output_mhz:g}: no PLL setting makes it from {input_mhz:g} MHz{near}")
    return found
