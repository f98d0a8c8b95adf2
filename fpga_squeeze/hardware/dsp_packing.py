"""Two products in one hardware multiplier, without a borrow between them.

The wide port takes A = hi * 2^shift + lo, the narrow one the operand B that both share: M = A * B = hi * B * 2^shift + lo * B. The low product is kept
non-negative by taking one weight in offset binary, w + 2^(W-1), which is its bits with the highest one flipped; 2^(W-1) * sum(x) is subtracted from the
sum of products afterwards, once a pixel and output. So A is plain wiring (no pre-adder) and the fields need no correction. Activations are unsigned.
With P = weight bits + activation bits a low product is below 2^P: with shift >= P, 2^(shift - P) such M may be added before they are taken apart; with
shift < P the fields overlap by P - shift bits, and that many low bits of hi * B are computed in logic and subtracted.
The idea of the shared operand: Xilinx WP486 (two INT8 multiplications in a DSP48E2); its signed fields need a correction each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat

PACKINGS = ("channels", "pixels")
"""channels: hi and lo are weights of two output channels (lo offset), B their activation.
pixels: hi and lo are activations of two pixels, B their weight (offset)."""

MAX_BITS = 8
"""Widest weight and activation of a pair."""

MAX_OVERLAP_BITS = 8
"""Largest truncated product that is still cheaper in LUTs than a second multiplier is worth (18 x 18 ports only)."""


def pack_shift(weight_bits: int, act_fmt: TensorFormat, multiplier_bits: tuple[int, int], packing: str, overlap_allowed: bool) -> int:
    """Bits between the two products, 0 where a pair does not fit a multiplier of `multiplier_bits` signed port widths (wide, narrow).

    channels: the wide port holds a signed weight above `shift` bits, shift = wide - W; pixels: an unsigned activation and a sign bit,
    shift = wide - A - 1.

    >>> u8 = TensorFormat(8, 4, signed=False)
    >>> [pack_shift(8, u8, ports, "channels", True) for ports in ((27, 18), (25, 18), (18, 18))]
    [19, 17, 10]
    >>> [pack_shift(8, u8, ports, "pixels", True) for ports in ((27, 18), (25, 18), (18, 18))]
    [18, 16, 9]
    >>> pack_shift(12, u8, (27, 18), "channels", False), pack_shift(8, TensorFormat(8, 4, signed=True), (27, 18), "channels", False)
    (0, 0)
    """
    wide, narrow = multiplier_bits
    act_bits = act_fmt.bits
    shift, shared = (wide - weight_bits, act_bits + 1) if packing == "channels" else (wide - act_bits - 1, weight_bits + 1)
    overlap = weight_bits + act_bits - shift
    if act_fmt.signed or max(weight_bits, act_bits) > MAX_BITS or shared > narrow or shift < MAX_BITS:
        return 0
    return shift if overlap <= (MAX_OVERLAP_BITS if overlap_allowed else 0) else 0


def packed_products(hi: NDArray[np.int64], lo: NDArray[np.int64], shared: NDArray[np.int64], product_bits: int, shift: int) -> tuple[
    NDArray[np.int64], NDArray[np.int64]
]:  # fmt: skip
    """(hi * shared, lo * shared) from one multiplication, taken apart as the hardware does; lo and shared must not be negative. int64 arrays.

    Sums over the last axis of up to 2^(shift - product_bits) products come apart in the same way when shift >= product_bits.

    >>> a = np.array
    >>> packed_products(a([-128, 127]), a([255, 0]), a([255, 255]), 16, 19)
    (array([-32640,  32385]), array([65025,     0]))
    >>> packed_products(a([-128, 127]), a([255, 0]), a([255, 255]), 16, 10)
    (array([-32640,  32385]), array([65025,     0]))
    """
    product = ((hi << shift) + lo) * shared
    if shift >= product_bits:
        return product >> shift, product & ((1 << shift) - 1)
    mask = (1 << (product_bits - shift)) - 1
    low_of_high = ((hi & mask) * (shared & mask)) & mask
    low = (product - (low_of_high << shift)) & ((1 << product_bits) - 1)
    return (product - low) >> shift, low
