"""Two products in one hardware multiplier.

The wide port takes A = hi * 2^shift + lo, the narrow one the operand B that both share: M = A * B = (hi * B) * 2^shift + lo * B. With P = weight bits +
activation bits (every product of the two fits P bits as a signed number) and shift >= P the low field of M holds lo * B, and hi * B is the high field
plus one where the low one is negative. 2^(shift - P) such M may be added before they are taken apart. With shift < P the fields overlap by P - shift
bits; these low bits of hi * B are computed in logic (a truncated product) and subtracted.
After Xilinx WP486 (two INT8 multiplications in a DSP48E2), stated for any width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat

PACKINGS = ("channels", "pixels")
"""channels: hi and lo are weights of two output channels, B their activation. pixels: hi and lo are activations of two pixels, B their weight."""

MAX_OVERLAP_BITS = 8
"""Largest truncated product that is still cheaper in LUTs than a second multiplier is worth (18 x 18 ports only)."""


def pack_shift(weight_bits: int, act_fmt: TensorFormat, multiplier_bits: tuple[int, int], packing: str, overlap_allowed: bool) -> int:
    """Bits between the two products, 0 where a pair does not fit a multiplier of `multiplier_bits` signed port widths (wide, narrow).

    The wide port must hold hi * 2^shift + lo, one bit more than hi alone, so shift = wide - bits(hi) - 1, a bit of sign added to unsigned activations.

    >>> from fpga_squeeze.fixed_point import TensorFormat
    >>> u8 = TensorFormat(8, 4, signed=False)
    >>> pack_shift(8, u8, (27, 18), "channels", False), pack_shift(8, u8, (25, 18), "channels", False), pack_shift(8, u8, (18, 18), "pixels", True)
    (18, 16, 9)
    >>> pack_shift(12, u8, (27, 18), "channels", False)
    0
    """
    act_bits = act_fmt.bits + (0 if act_fmt.signed else 1)
    wide, narrow = multiplier_bits
    # Unsigned activations: hi * 2^shift + lo stays below 2^(bits + shift), so the extra bit is the sign's own.
    high, shared = (weight_bits, act_bits) if packing == "channels" else (act_fmt.bits, weight_bits)
    shift = wide - high - 1
    overlap = weight_bits + act_fmt.bits - shift
    if shared > narrow or weight_bits > 8 or act_fmt.bits > 8 or shift < 8 or overlap > (MAX_OVERLAP_BITS if overlap_allowed else 0):
        return 0
    return shift


def packed_products(
    hi: NDArray[np.int64], lo: NDArray[np.int64], shared: NDArray[np.int64], product_bits: int, shift: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(hi * shared, lo * shared) by one multiplication of (hi << shift) + lo, taken apart as the hardware does. int64 arrays of any one shape."""
    product = ((hi << shift) + lo) * shared
    overlap = max(0, product_bits - shift)
    if overlap:
        # Low bits of the high product, from a truncated multiplication; subtracted, what is left of the low product stands alone.
        mask = (1 << overlap) - 1
        low_of_high = ((hi & mask) * (shared & mask)) & mask
        field = (product - (low_of_high << shift)) & ((1 << product_bits) - 1)
        low = field - ((field >> (product_bits - 1)) << product_bits)
        return (product - low) >> shift, low
    field = product & ((1 << shift) - 1)
    low = field - ((field >> (shift - 1)) << shift)
    return (product >> shift) + ((product >> (shift - 1)) & 1), low
