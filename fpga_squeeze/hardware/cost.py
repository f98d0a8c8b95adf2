"""What a machine takes of a device: DSP blocks, memory blocks, LUTs and flip-flops, from the parameters of its modules. Pure functions.

Structural: every term is a register, an adder or a memory of the RTL library (templates/rtl/lib). LUTs and flip-flops are those of an open synthesizer
that packs no register into a multiplier; a vendor's tool needs fewer. `fpga-squeeze synth` holds the model against synthesis (docs/resources.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fifo_rtl import rtl_expand_depths, rtl_link_depth
from fpga_squeeze.hardware.packing import Packing, pack
from fpga_squeeze.hardware.plan import AddStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, PoolStage, Stage
from fpga_squeeze.hardware.structure import line_buffer_banks

DEFAULT_MULTIPLIER_BITS = (25, 18)
"""DSP48E1, the smallest AMD multiplier in use, stands in where no device is named."""


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


def plan_dsp(plan: FoldPlan, device: Device | None = None) -> int:
    """DSP blocks of all engines."""
    return sum(engine_dsp(e, device) for s in plan.stages for e in s.engines)


def engine_resources(engine: Engine, device: Device | None = None) -> Resources:
    """Everything of one engine: input buffer, memories, multipliers, adder trees, accumulators, requantizers, output FIFO, pixel order."""
    return _input_buffer(engine, device) + _matrix_vector(engine, device) + _pixel_order(engine, device)


def stage_resources(stage: Stage, device: Device | None = None) -> Resources:
    """A stage: its engines and what joins them, a pool, or a global sum."""
    total = Resources()
    for engine in stage.engines:
        total = total + engine_resources(engine, device)
    if isinstance(stage, ExpandStage):
        return total + _expand_joint(stage, device)
    if isinstance(stage, PoolStage):
        return _pool(stage, device)
    if isinstance(stage, GlobalSumStage):
        return _global_sum(stage, device)
    if isinstance(stage, AddStage):
        return total + _adder(stage, device)
    return total


def fifo_resources(width_bits: int, depth: int, device: Device | None = None) -> Resources:
    """A FIFO of the library: two beats are a register slice; a deeper one a memory with an output register."""
    if depth <= 2:
        return Resources(lut=2 * width_bits + 8, ff=3 * width_bits + 10)
    pointer = max(1, ceil(log2(depth)))
    return memory_resources(width_bits, depth, device) + Resources(lut=width_bits + 12 * pointer, ff=width_bits + 4 * pointer + 10)


@lru_cache(maxsize=65536)
def converter_resources(channels: int, bits: int, in_lanes: int, out_lanes: int, device: Device | None = None) -> Resources:
    """A width converter: nothing between equal lanes; a register and a multiplexer where one side is a multiple of the other; else a barrel shifter."""
    if in_lanes == out_lanes:
        return Resources()
    wide, narrow = max(in_lanes, out_lanes), min(in_lanes, out_lanes)
    control = 4 * max(1, ceil(log2(max(2, channels / narrow)))) + 12
    if wide % narrow == 0:
        return Resources(lut=wide * bits + control, ff=wide * bits + control)
    held = in_lanes + out_lanes
    return Resources(lut=ceil(held * bits * log2(held)) + control, ff=held * bits + control)


TOP = Resources(lut=150, ff=150)
"""The top's own logic."""

LOADER = Resources(lut=500, ff=600)
"""The load port, where any weights are loaded."""


def plan_resources(plan: FoldPlan, device: Device | None = None) -> Resources:
    """The whole machine: stages, converters, link FIFOs, and the top's own logic."""
    total = TOP
    for stage in plan.stages:
        total = total + stage_resources(stage, device)
    for link in plan.links:
        total = total + converter_resources(link.shape[0], link.fmt.bits, link.in_lanes, link.out_lanes, device)
        total = total + fifo_resources(link.out_lanes * link.fmt.bits, rtl_link_depth(plan, link), device)
    for bypass in plan.bypasses:
        total = total + Resources(lut=4, ff=2)  # the fork: two flags, valid and ready; the data is wires
        total = total + converter_resources(bypass.shape[0], bypass.fmt.bits, bypass.in_lanes, bypass.out_lanes, device)
        total = total + fifo_resources(bypass.out_lanes * bypass.fmt.bits, rtl_bypass_depth(plan, bypass), device)
    if any(e.loaded for s in plan.stages for e in s.engines):
        total = total + LOADER
    return total


def memory_resources(width_bits: int, depth: int, device: Device | None, *, rom: bool = False, storage: str = "auto", copies: int = 1) -> Resources:
    """One memory of the machine in the blocks that hardware/packing.py gives it."""
    p = _packed(width_bits, depth, rom, storage, device.lut_inputs if device else 6)
    return Resources(bram18=p.bram18 * copies, uram=p.uram * copies, lut=p.lutram_luts * copies)


@lru_cache(maxsize=65536)
def _packed(width_bits: int, depth: int, rom: bool, storage: str, lut_inputs: int) -> Packing:
    return pack(width_bits, depth, rom=rom, storage=storage, lut_inputs=lut_inputs)


def _input_buffer(e: Engine, device: Device | None) -> Resources:
    word = e.fold.p_ic * e.in_fmt.bits
    if e.pixel_buffered:
        memory = memory_resources(word, 2 * e.ic_folds, device, copies=e.fold.p_px)
        return memory + Resources(lut=40 + 2 * word * e.fold.p_px, ff=40 + word * e.fold.p_px)
    banks, depth = line_buffer_banks(e)
    memory = memory_resources(word, depth, device, copies=banks * e.fold.p_px)
    rows = e.kernel if e.fold.p_k > 1 else 1
    select = rows * ceil(e.buffer_rows / 3) * word * (e.kernel if e.fold.p_k == e.kernel**2 else 1) if e.fold.p_k > 1 else 0
    logic = Resources(lut=320 + 2 * e.fold.p_k * word + select, ff=220 + e.fold.p_k * word + banks * word)
    return memory + Resources(lut=logic.lut * e.fold.p_px, ff=logic.ff * e.fold.p_px)


def _matrix_vector(e: Engine, device: Device | None) -> Resources:
    fold = e.fold
    lanes = fold.p_ic * fold.p_k
    product = e.weight_bits + e.in_fmt.bits
    results = fold.p_oc * fold.p_px
    # A binary tree: an adder of about the product's width, and its register, for every product but one of each result.
    adders = (lanes - 1) * results * (product + 1.5)
    registers = fold.multipliers * product
    if e.packing != "none":
        adders += results * ceil(lanes / 4) * (product / 2 + 1)
    lut = adders + results * (e.acc_bits + 3.2 * e.acc_bits + 2 * e.out_fmt.bits)
    ff = adders + registers + results * (3 * e.acc_bits + e.out_fmt.bits)
    ff += fold.weight_lanes * e.weight_bits + 2 * lanes * fold.p_px * e.in_fmt.bits
    memories = memory_resources(e.weight_word_bits, e.weight_depth, device, rom=not e.loaded, storage=e.weight_storage)
    memories = memories + memory_resources(fold.p_oc * e.bias_bits, e.oc_folds, device, rom=not e.loaded, storage="lut")
    memories = memories + memory_resources(fold.p_oc * e.shift_bits, e.oc_folds, device, rom=not e.loaded, storage="lut")
    fifo = memory_resources(results * e.out_fmt.bits, 24, device)
    return memories + fifo + Resources(engine_dsp(e, device), lut=ceil(lut) + 90, ff=ceil(ff) + 110)


def _pixel_order(e: Engine, device: Device | None) -> Resources:
    if e.fold.p_px == 1:
        return Resources()
    width = e.fold.p_oc * e.out_fmt.bits
    return memory_resources(width, 2 * e.oc_folds, device, copies=e.fold.p_px) + Resources(lut=40 + width * e.fold.p_px, ff=40 + width)


def _expand_joint(stage: ExpandStage, device: Device | None) -> Resources:
    e1, e3 = stage.expand1x1, stage.expand3x3
    depth = rtl_expand_depths(stage)
    beat = stage.out_lanes * e3.out_fmt.bits
    total = Resources(lut=3 * beat + 40, ff=2 * beat + 40)
    for _ in range(e3.fold.p_px):
        total = total + fifo_resources(e3.fold.p_ic * e3.in_fmt.bits, depth.centre, device)
        total = total + converter_resources(e3.in_shape[0], e3.in_fmt.bits, e3.fold.p_ic, e1.fold.p_ic, device)
    for e, beats in ((e1, depth.e1), (e3, depth.e3)):
        total = total + converter_resources(e.out_shape[0], e.out_fmt.bits, e.fold.p_oc, stage.out_lanes, device)
        total = total + fifo_resources(beat, beats, device)
    return total


def _pool(s: PoolStage, device: Device | None) -> Resources:
    word = s.lanes * s.fmt.bits
    open_rows = ceil((s.kernel - 1) / s.stride)
    folds = ceil(s.in_shape[0] / s.lanes)
    rows = memory_resources(word, s.out_shape[2] * folds, device, copies=max(1, open_rows))
    columns = memory_resources(word, folds, device, copies=max(1, open_rows)) if folds > 1 else Resources()
    return rows + columns + Resources(lut=6 * word + 150, ff=5 * word + 120)


def _global_sum(s: GlobalSumStage, device: Device | None) -> Resources:
    word = s.lanes * s.out_fmt.bits
    sums = memory_resources(word, ceil(s.in_shape[0] / s.lanes), device, copies=2)
    return sums + Resources(lut=3 * word + 100, ff=3 * word + 100)


def _adder(s: AddStage, device: Device | None) -> Resources:
    """fsq_adder: a lane adds, rounds and clamps; registers of the sum and of the result. Behind an engine on the bypass, a converter to its lanes."""
    wide = [f.bits + (0 if f.signed else 1) + a for f, a in zip((s.in_fmt, s.bypass_fmt), s.align, strict=True)]
    sum_bits = max(wide) + 1
    total = Resources(lut=s.lanes * (2 * sum_bits + 3 * s.out_fmt.bits) + 10, ff=s.lanes * (sum_bits + s.out_fmt.bits) + 2)
    if s.engine is not None:
        total = total + converter_resources(s.in_shape[0], s.bypass_fmt.bits, s.engine.fold.p_oc, s.lanes, device)
    return total
