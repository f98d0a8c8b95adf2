"""The resource model's formulas against single modules of the library as yosys 0.70 maps them (synth_xilinx -family xcup, synth_ecp5)."""

from __future__ import annotations

import pytest

from fpga_squeeze.hardware import cost_mvu, cost_stream
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.fabric import FABRICS, Resources, fabric_of
from fpga_squeeze.synth.result import LINK_TOLERANCE

XCUP, XC7, ECP5 = FABRICS["xcup"], FABRICS["xc7"], FABRICS["ecp5"]
K26, ZYNQ, ULX3S = find_device("k26"), find_device("pynq-z2"), find_device("ulx3s")


def close(estimate: int, measured: int, share: float = 0.1, slack: int = 6) -> bool:
    """Within a share of what was measured, or a few cells of control logic."""
    return abs(estimate - measured) <= max(share * measured, slack)


@pytest.mark.parametrize(("terms", "lut", "ff"), [(1, 0, 16), (2, 16, 49), (3, 33, 99), (9, 151, 271)])
def test_adder_trees_are_exact(terms: int, lut: int, ff: int) -> None:
    """fsq_mvu_dot, 8 x 8 bits: adders as wide as their inputs; of 9 terms the odd one becomes a shift register."""
    assert cost_mvu.dot_resources(terms, 8, 8, 24, 0, XCUP) == (lut, ff)


@pytest.mark.parametrize(("terms", "lut", "ff"), [(1, 0, 0), (2, 0, 0), (3, 17, 18), (9, 71, 107)])
def test_a_dsp48e1_takes_products_and_first_adders(terms: int, lut: int, ff: int) -> None:
    assert cost_mvu.dot_resources(terms, 8, 8, 24, 0, XC7) == (lut, ff)


def test_a_delayed_sum_is_a_shift_register_where_there_are_some() -> None:
    assert cost_mvu.dot_resources(2, 8, 8, 24, 2, XCUP) == (33, 32)
    assert cost_mvu.dot_resources(2, 8, 8, 24, 2, ECP5) == (16, 83)


@pytest.mark.parametrize(
    ("lanes", "packing", "shift", "lut", "ff"),
    [
        (1, "channels", 19, 26, 72), (4, "channels", 19, 135, 290), (9, "channels", 19, 356, 620), (16, "channels", 19, 577, 1156),
        (1, "pixels", 18, 51, 80), (4, "pixels", 18, 157, 290), (9, "pixels", 18, 369, 610), (16, "pixels", 18, 588, 1132),
    ],
)  # fmt: skip
def test_packed_pairs(lanes: int, packing: str, shift: int, lut: int, ff: int) -> None:
    estimate = cost_mvu.pair_resources(lanes, packing, 8, 8, shift, 24, XCUP)
    assert close(estimate[0], lut) and close(estimate[1], ff)


@pytest.mark.parametrize(
    ("acc", "low", "high", "lut", "ff"),
    [
        (20, 7, 7, 15, 36), (20, 7, 8, 34, 37), (20, 6, 8, 43, 40), (20, 5, 9, 69, 43), (28, 8, 10, 57, 52), (24, 6, 13, 79, 49), (20, 4, 16, 98, 46),
        (24, 1, 12, 122, 60), (27, 2, 21, 176, 65), (28, 1, 17, 189, 69), (22, 6, 9, 46, 44),
    ],
)  # fmt: skip
def test_requantizers(acc: int, low: int, high: int, lut: int, ff: int) -> None:
    estimate = cost_mvu.requantize_resources(acc, low, high, 8, False, XCUP)
    assert close(estimate[0], lut, 0.05, 2) and estimate[1] == ff


@pytest.mark.parametrize(
    ("width", "depth", "blocks", "lut", "ff"),
    [
        (16, 2, 0, 24, 38), (64, 3, 0, 72, 198), (16, 4, 0, 57, 30), (64, 9, 0, 132, 83), (64, 33, 0, 142, 93), (64, 65, 0, 189, 98), (16, 129, 0, 116, 55),
        (64, 66, 2, 125, 159), (64, 513, 2, 133, 169), (64, 1025, 4, 145, 173),
    ],
)  # fmt: skip
def test_fifos(width: int, depth: int, blocks: int, lut: int, ff: int) -> None:
    estimate = cost_stream.fifo_resources(width, depth, K26)
    assert estimate.bram18 == blocks and close(estimate.lut, lut, 0.15) and close(estimate.ff, ff)


@pytest.mark.parametrize(
    ("width", "depth", "family", "blocks", "lut", "ff"),
    [
        (64, 32, "k26", 0, 40, 64), (64, 64, "k26", 0, 80, 64), (16, 256, "k26", 0, 116, 16), (8, 512, "k26", 0, 160, 8), (64, 65, "k26", 2, 0, 0),
        (100, 600, "k26", 6, 0, 0), (24, 1500, "k26", 3, 0, 0), (64, 32, "pynq-z2", 0, 44, 64), (64, 64, "pynq-z2", 0, 88, 64),
        (64, 16, "ulx3s", 0, 96, 64), (64, 32, "ulx3s", 2, 0, 0), (8, 512, "ulx3s", 1, 0, 0),
    ],
)  # fmt: skip
def test_memories_are_exact(width: int, depth: int, family: str, blocks: int, lut: int, ff: int) -> None:
    assert cost_stream.memory_resources(width, depth, find_device(family)) == Resources(0, blocks, 0, lut, ff)


@pytest.mark.parametrize(("width", "depth", "lut", "ff"), [(64, 16, 64, 128), (64, 64, 64, 128), (64, 128, 128, 128), (64, 256, 256, 128), (16, 512, 186, 32)])
def test_roms_in_luts(width: int, depth: int, lut: int, ff: int) -> None:
    estimate = cost_mvu.parameter_memory_resources(width, depth, "lut", False, True, K26)
    assert close(estimate.lut, lut, 0.02) and estimate.ff == ff


@pytest.mark.parametrize(("width", "depth", "lut", "ff"), [(256, 4, 6, 14), (256, 8, 122, 159), (64, 1, 0, 0)])
def test_small_roms_share_equal_columns(width: int, depth: int, lut: int, ff: int) -> None:
    estimate = cost_mvu.parameter_memory_resources(width, depth, "lut", False, False, K26)
    assert close(estimate.lut, lut) and close(estimate.ff, ff)


@pytest.mark.parametrize(
    ("channels", "lanes", "lut", "ff", "share"),
    [
        (64, (1, 4), 12, 41, 0.1), (64, (2, 16), 16, 137, 0.1), (64, (8, 4), 38, 66, 0.1), (64, (16, 2), 125, 132, 0.1), (60, (4, 6), 379, 164, 0.4),
        (60, (6, 4), 209, 148, 0.3), (64, (3, 8), 325, 186, 0.1), (64, (8, 3), 429, 146, 0.1), (64, (16, 24), 1115, 646, 0.1), (64, (5, 16), 722, 346, 0.1),
        (256, (37, 2), 1251, 354, 0.1), (1000, (37, 2), 1527, 356, 0.1), (256, (9, 2), 431, 130, 0.15), (48, (8, 3), 406, 141, 0.1),
        (64, (13, 4), 782, 209, 0.1),
        (8, (8, 8), 0, 0, 0.0), (6, (6, 16), 0, 0, 0.0),
    ],
)  # fmt: skip
def test_width_converters(channels: int, lanes: tuple[int, int], lut: int, ff: int, share: float) -> None:
    """Where neither side divides the other, LUTs depend on how the tool folds the shifters: up to 40% off."""
    estimate = cost_stream.converter_resources(channels, 8, *lanes, K26)
    assert close(estimate.lut, lut, share) and close(estimate.ff, ff)


GEARBOXES = (
    (256, 8, 14, 4, 616), (256, 8, 11, 4, 750), (64, 8, 13, 2, 519), (64, 8, 5, 2, 215), (64, 8, 6, 4, 281), (48, 8, 7, 12, 1249), (128, 8, 3, 2, 117),
    (128, 8, 2, 3, 154), (128, 8, 10, 4, 361), (192, 8, 14, 4, 526), (256, 8, 19, 3, 1074), (48, 8, 24, 10, 1797), (96, 8, 2, 37, 696), (64, 16, 5, 4, 518),
    (96, 8, 7, 12, 1200), (64, 8, 5, 8, 514), (64, 8, 6, 16, 449), (128, 8, 12, 16, 795), (32, 8, 3, 4, 220), (48, 8, 5, 12, 789), (96, 8, 10, 12, 953),
    (64, 8, 7, 16, 1063), (50, 8, 7, 12, 1191), (50, 8, 4, 6, 265), (66, 8, 4, 6, 303),
)  # fmt: skip
"""(channels, bits, in lanes, out lanes, LUTs) of converters of which neither side divides the other, yosys 0.70 for xcup."""


def test_gearboxes_are_within_the_tolerance_of_links_and_right_on_average() -> None:
    ratios = [cost_stream.converter_resources(*case, K26).lut / lut for *case, lut in GEARBOXES]
    assert all(abs(r - 1.0) <= LINK_TOLERANCE for r in ratios), ratios
    assert abs(sum(ratios) / len(ratios) - 1.0) < 0.05


@pytest.mark.parametrize(
    ("word", "length", "inner", "stride", "padded", "blocks", "lut", "ff"),
    [
        (8, 32, 8, 2, False, 0, 53, 39), (32, 32, 8, 2, False, 0, 138, 87), (64, 113, 8, 2, False, 0, 263, 155), (64, 113, 448, 2, False, 2, 228, 97),
        (64, 56, 1, 2, False, 0, 211, 151), (8, 27, 32, 2, False, 0, 68, 42), (32, 32, 8, 1, True, 0, 287, 127), (32, 32, 8, 2, True, 0, 152, 88),
    ],
)  # fmt: skip
def test_sliding_maxima(word: int, length: int, inner: int, stride: int, padded: bool, blocks: int, lut: int, ff: int) -> None:
    estimate = cost_stream.window_max_resources(word, length, inner, 3, stride, padded, K26)
    assert estimate.bram18 == blocks and close(estimate.lut, lut, 0.12, 11) and close(estimate.ff, ff)


@pytest.mark.parametrize(
    ("word", "banks", "depth", "taps", "size", "folds", "blocks", "lut", "ff"),
    [
        (8, 1, 3584, (1, 1), 56, 16, 2, 262, 162), (32, 1, 896, (1, 1), 56, 4, 2, 250, 179), (32, 4, 224, (3, 1), 56, 4, 4, 340, 237),
        (128, 4, 56, (3, 1), 56, 1, 0, 1314, 1029), (32, 12, 76, (3, 3), 56, 4, 0, 2067, 830), (24, 15, 75, (3, 3), 224, 1, 0, 2013, 755),
    ],
)  # fmt: skip
def test_line_buffers(
    word: int, banks: int, depth: int, taps: tuple[int, int], size: int, folds: int, blocks: int, lut: int, ff: int
) -> None:  # fmt: skip
    rows = 5 if size == 224 else 4
    estimate = cost_stream.line_buffer_resources(word, banks, depth, *taps, rows, size, folds, False, 1, K26)
    assert estimate.bram18 == blocks and close(estimate.lut, lut, 0.1) and close(estimate.ff, ff)


@pytest.mark.parametrize(
    ("width", "folds", "p_px", "lut", "ff"), [(16, (4, 4), 1, 34, 27), (64, (16, 16), 1, 61, 81), (64, (4, 4), 2, 101, 140), (64, (4, 4), 3, 155, 211)]
)
def test_pixel_buffers(width: int, folds: tuple[int, int], p_px: int, lut: int, ff: int) -> None:
    estimate = cost_stream.pixel_buffer_resources(width, *folds, p_px, 100, K26)
    assert close(estimate.lut, lut, 0.12) and close(estimate.ff, ff)


@pytest.mark.parametrize(("width", "p_px", "lut", "ff"), [(16, 2, 59, 43), (64, 2, 163, 139), (64, 3, 204, 211)])
def test_pixel_orders(width: int, p_px: int, lut: int, ff: int) -> None:
    estimate = cost_stream.pixel_order_resources(width, 4, p_px, 100, K26)
    assert close(estimate.lut, lut) and close(estimate.ff, ff)


def test_every_family_has_a_fabric() -> None:
    assert fabric_of(None) is fabric_of(K26) is XCUP and fabric_of(ZYNQ) is XC7 and fabric_of(ULX3S) is ECP5
