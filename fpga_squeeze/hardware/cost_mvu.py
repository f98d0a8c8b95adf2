"""Resources of the matrix-vector unit: products, adder trees, accumulators, requantizers, weights, biases and shifts. Each formula is the structure of the
module of the same name in templates/rtl/lib; constants of control logic are measured (docs/resources.md). Pure functions.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

from fpga_squeeze.hardware.cost_parameters import parameter_memory_resources as parameter_memory_resources
from fpga_squeeze.hardware.cost_stream import CACHE, bits_for, fifo_resources, logic
from fpga_squeeze.hardware.cost_weights import act_delay, weight_memory_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fabric import Fabric, Resources, fabric_of
from fpga_squeeze.hardware.plan import Engine

DEFAULT_MULTIPLIER_BITS = (25, 18)
"""DSP48E1, the smallest AMD multiplier in use, stands in where no device is named."""

_REQUANTIZE_CONTROL = {0: 2, 1: 14, 2: 6, 3: 17, 4: 25, 5: 46, 6: 90}
"""LUTs of fsq_requantize besides its shifters, by bits of the shift's range (measured)."""


@lru_cache(maxsize=CACHE)
def tree_resources(terms: int, bits: int, sum_bits: int, run: int, delay: int, fabric: Fabric) -> tuple[int, int]:
    """(LUT, FF) of fsq_adder_tree, of its terms' own registers where `run` is 1, and of `delay` registers behind it: an adder takes as many LUTs as its
    inputs have bits, its register a bit more.

    `run`: 1 where each term is a product in a register of its own that is read by the tree alone, else 0. A number without a partner waits in registers;
    three in a row become shift registers (a LUT a bit). Where the multiplier has registers and an adder behind it (DSP48E1), they take the products and
    the first level.

    >>> from fpga_squeeze.hardware.fabric import FABRICS
    >>> tree_resources(9, 16, 24, 1, 0, FABRICS["xcup"]), tree_resources(9, 16, 24, 1, 0, FABRICS["xc7"])
    ((151, 271), (71, 107))
    """
    inside = fabric.multiplier_register and run == 1
    lut, ff = 0, 0 if inside or not run else terms * bits
    level, nodes, width, last = 0, terms, bits, bits
    if inside:
        level, nodes, run = 1, (terms + 1) // 2, 0
        width = min(bits + 1, sum_bits) if terms > 1 else bits
        last = bits if terms % 2 else width

    def end_run(lut: int, ff: int, run: int, last: int) -> tuple[int, int]:
        return (lut + last, ff - run * last) if fabric.shift_registers and run >= 3 else (lut, ff)

    while nodes > 1:
        level += 1
        out = min(bits + level, sum_bits)
        pairs, single = divmod(nodes, 2)
        lut += pairs * width
        ff += pairs * out
        if single:
            ff += last
            run += 1
        else:
            lut, ff = end_run(lut, ff, run, last)
            run, last = 1, out
        nodes, width = pairs + single, out
    ff += delay * last
    return end_run(lut, ff, run + delay, last)


@lru_cache(maxsize=CACHE)
def dot_resources(lanes: int, weight_bits: int, act_bits: int, sum_bits: int, delay: int, fabric: Fabric) -> tuple[int, int]:
    """(LUT, FF) of fsq_mvu_dot."""
    return tree_resources(lanes, weight_bits + act_bits, sum_bits, 1, delay, fabric)


@lru_cache(maxsize=CACHE)
def pair_resources(lanes: int, packing: str, weight_bits: int, act_bits: int, shift: int, sum_bits: int, fabric: Fabric) -> tuple[int, int]:
    """(LUT, FF) of fsq_mvu_pair: a tree of packed products a group, a tree of the groups' halves each, the offset taken off."""
    product = weight_bits + act_bits
    high = product + (1 if packing == "pixels" else 0)
    levels, groups, _ = pair_shape(lanes, product, shift)
    group = 1 << levels
    wide = shift + high
    lut, ff = 0, 0
    for first in range(0, lanes, group):
        count = min(group, lanes - first)
        group_lut, group_ff = tree_resources(count, wide, wide + levels, 1, levels - bits_for(count), fabric)
        lut, ff = lut + group_lut, ff + group_ff
    # Bits between the fields are read by nobody: dropped from the last register before separation.
    ff -= groups * max(0, shift - product - levels)
    if shift < product:
        overlap = product - shift
        lut += lanes * (overlap * overlap + overlap + high)
        ff += lanes * (overlap + 2 * product + 2 * high - (product - levels))
    for width in (product + levels, high + levels):
        half_lut, half_ff = tree_resources(groups, width, sum_bits, 0, 0, fabric)
        lut, ff = lut + half_lut, ff + half_ff
    total = product + bits_for(lanes)
    subtractions = 2 if packing == "pixels" else 1
    return lut + subtractions * (total + 1) + 12, ff + 2 * sum_bits if packing == "pixels" else ff + sum_bits + min(sum_bits, total)


def pair_shape(lanes: int, product: int, shift: int) -> tuple[int, int, int]:
    """(levels added before separation, groups, cycles from product to sum) of fsq_mvu_pair."""
    levels = max(0, min(shift - product, bits_for(lanes)))
    groups = ceil(lanes / (1 << levels))
    return levels, groups, levels + bits_for(groups) + 1 + (2 if shift < product else 0)


@lru_cache(maxsize=CACHE)
def requantize_resources(
    acc_bits: int, shift_min: int, shift_max: int, out_bits: int, out_signed: bool, fabric: Fabric, constant: bool = False
) -> tuple[int, int]:
    """(LUT, FF) of fsq_requantize: two shifters over the bits above the constant part of the shift, the rounding adder, the clamp.

    `constant`: a result has one shift for ever, and the shifters are wiring.
    """
    before, base = max(0, -shift_min), max(0, shift_min)
    kept = max(acc_bits + before, base + shift_max - shift_min + 1) + 1 - base
    spread = 0 if constant else bits_for(shift_max - shift_min + 1)
    control = _REQUANTIZE_CONTROL.get(spread, 90) + (min(base, 10) if spread else 0) + (6 if out_signed else 0) + max(0, out_bits - 8)
    return kept + logic((max(1, spread) - 1) * kept + control, fabric), 2 * kept + out_bits + spread


def engine_dsp(engine: Engine, device: Device | None = None) -> int:
    """DSP blocks of an engine: one a multiplication as long as both operands, as signed numbers, fit the hardware multiplier; packed multiplications
    two by two, an odd one on its own.
    """
    fold = engine.fold
    if engine.packing == "channels":
        return fold.p_px * fold.p_ic * fold.p_k * ceil(fold.p_oc / 2)
    if engine.packing == "pixels":
        return fold.weight_lanes * ceil(fold.p_px / 2)
    weight_bits = engine.weight_bits
    act_bits = engine.in_fmt.bits + (0 if engine.in_fmt.signed else 1)
    wide, narrow = device.multiplier_bits if device else DEFAULT_MULTIPLIER_BITS
    a, b = max(weight_bits, act_bits), min(weight_bits, act_bits)
    return fold.multipliers * ceil(a / wide) * ceil(b / narrow)


def mvu_resources(e: Engine, device: Device | None) -> Resources:
    """fsq_mvu of an engine, its output FIFO included."""
    fabric = fabric_of(device)
    fold = e.fold
    lanes, results = fold.p_ic * fold.p_k, fold.p_oc * fold.p_px
    folds = e.ic_folds * e.k_folds
    lut, ff, levels = _products(e, lanes, fabric)
    # All output channels at once: each result has its own bias and shift, constants unless they are loaded. A constant bias joins the adder's LUT.
    constant = e.oc_folds == 1 and not e.loaded
    requantize = requantize_resources(e.acc_bits, e.shift_min, e.shift_max, e.out_fmt.bits, e.out_fmt.signed, fabric, constant)
    lut += results * (requantize[0] + e.acc_bits * (2 if folds > 1 and not constant else 1))
    ff += results * (requantize[1] + e.acc_bits)
    waiting = act_delay(e.coding, lanes * fold.p_px * e.in_fmt.bits, device)
    lut, ff = lut + waiting[0], ff + waiting[1]
    sum_stage = 3 + levels + (e.coding.latency if e.coding else 0)
    depth = ceil((sum_stage + 8) / folds) + 1
    address, credit, outer = bits_for(e.weight_depth), bits_for(depth + 1), bits_for(e.oc_folds)
    control = Resources(
        lut=logic(address + bits_for(folds) + credit + 1.6 * outer, fabric),
        ff=3 * sum_stage + 4 + address + bits_for(folds) + credit + 3 + 2 * outer,
    )
    bias = fold.p_oc * e.bias_bits
    memories = weight_memory_resources(e, device)
    memories = memories + parameter_memory_resources(bias, e.oc_folds, "lut", e.loaded, False, device, fold.p_oc * max(1, e.bias_bits - 1))
    if e.shift_bits:
        memories = memories + parameter_memory_resources(fold.p_oc * e.shift_bits, e.oc_folds, "lut", e.loaded, False, device)
    fifo = fifo_resources(results * e.out_fmt.bits, depth, device)
    return memories + fifo + control + Resources(engine_dsp(e, device), lut=lut, ff=ff)


def _products(e: Engine, lanes: int, fabric: Fabric) -> tuple[int, int, int]:
    """(LUT, FF, cycles from product to sum) of all dot products and of the offsets that packed ones need."""
    fold, act = e.fold, e.in_fmt.bits
    tree_levels = bits_for(lanes)
    if e.packing == "none":
        one = dot_resources(lanes, e.weight_bits, act, e.acc_bits, 0, fabric)
        number = fold.p_oc * fold.p_px
        return number * one[0], number * one[1], tree_levels
    levels = pair_shape(lanes, e.weight_bits + act, e.pack_shift)[2]
    delay = levels - tree_levels
    pair = pair_resources(lanes, e.packing, e.weight_bits, act, e.pack_shift, e.acc_bits, fabric)
    side, other = (fold.p_oc, fold.p_px) if e.packing == "channels" else (fold.p_px, fold.p_oc)
    pairs, odd = side // 2 * other, side % 2 * other
    single = dot_resources(lanes, e.weight_bits, act, e.acc_bits, delay, fabric) if odd else (0, 0)
    offset = tree_resources(lanes, act, act + tree_levels, 0, delay, fabric)
    pixels = fold.p_px if e.packing == "channels" else fold.p_px - fold.p_px % 2
    lut = pairs * pair[0] + odd * single[0] + pixels * offset[0]
    return lut, pairs * pair[1] + odd * single[1] + pixels * offset[1], levels
