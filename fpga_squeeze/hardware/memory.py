"""Every memory of a machine: bits, shape and physical blocks. One row a memory, weights to FIFOs; the memory report and the gate only add rows up.

Where the HLS and the RTL emission differ, the larger is counted. Registers (pipeline stages, accumulators of the running output pixel, width
converters) are not memories.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.cost_weights import COLUMN_ROWS, table_luts
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fifo import internal_fifos
from fpga_squeeze.hardware.fifo_rtl import rtl_link_depth
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.packing import BRAM18_BITS, URAM_BITS, pack
from fpga_squeeze.hardware.plan import Engine, FoldPlan, GlobalSumStage, JoinStage, Link, PoolStage, Stage
from fpga_squeeze.hardware.structure import bypass_label, line_buffer_banks
from fpga_squeeze.quantize.qgraph import QuantGraph

KINDS = ("weights", "bias", "line_buffers", "fifos")
"""line_buffers holds everything that keeps part of a feature map: line and pixel buffers, pool rows, global sums."""


@dataclass(frozen=True)
class MemoryRow:
    """One memory: `banks` equal parts of `depth` words of `width_bits`. bram18, uram and lutram_luts are of all banks together."""

    stage: str
    kind: str
    name: str
    width_bits: int
    depth: int
    banks: int
    bram18: int
    uram: int
    lutram_luts: int

    @property
    def bits(self) -> int:
        """Bits held: width x depth x banks."""
        return self.width_bits * self.depth * self.banks

    @property
    def packing_loss_bits(self) -> int:
        """Bits of the blocks taken that hold nothing (0 for a memory in LUTs)."""
        blocks = self.bram18 * BRAM18_BITS + self.uram * URAM_BITS
        return blocks - self.bits if blocks else 0

    def to_json(self) -> dict[str, Any]:
        """The row of memory_budget.json."""
        return {
            "stage": self.stage, "kind": self.kind, "name": self.name, "bits": self.bits, "width_bits": self.width_bits, "depth": self.depth,
            "banks": self.banks, "bram18": self.bram18, "uram": self.uram, "lutram_luts": self.lutram_luts, "packing_loss_bits": self.packing_loss_bits,
        }  # fmt: skip


def memory_rows(plan: FoldPlan, qgraph: QuantGraph, device: Device | None = None) -> tuple[MemoryRow, ...]:
    """Rows of every memory, stage by stage, then the links; without a device AMD's blocks, no URAM.

    Raises InputError when the plan is not legal for `qgraph`.
    """
    verify_plan(plan, qgraph)
    return plan_rows(plan, device)


def plan_rows(plan: FoldPlan, device: Device | None = None) -> tuple[MemoryRow, ...]:
    """`memory_rows` of a plan known to be legal. Only weights that the plan puts into URAM lie there."""
    rows = [row for stage in plan.stages for row in _stage_rows(stage, device)]
    for link in plan.links:
        owner = link.producer if link.producer != "s_axis" else link.consumer
        depth = max(link.depth, rtl_link_depth(plan, link)) if plan.general else link.depth
        rows.append(_row(owner, "fifos", f"{_label(plan, link)}.fifo", link.out_lanes * link.fmt.bits, depth, 1, device))
    for bypass in plan.bypasses:
        depth = max(bypass.depth, rtl_bypass_depth(plan, bypass))
        rows.append(_row(bypass.consumer, "fifos", f"{_label(plan, bypass)}.fifo", bypass.out_lanes * bypass.fmt.bits, depth, 1, device))
    return tuple(row for row in rows if row.bits)


def _label(plan: FoldPlan, link: Link) -> str:
    """What a link's FIFO is called after: its own name; where it is forked off another, the stage that reads it."""
    stage = next((s for s in plan.stages if s.name == link.consumer), None)
    if not plan.general:
        return f"{bypass_label(stage)}.bypass" if isinstance(stage, JoinStage) and link in plan.bypasses else link.name
    if any(link in plan.forked_off(other) for other in (*plan.links, *plan.bypasses)):
        return f"{link.consumer}.{'bypass' if link in plan.bypasses else 'in'}"
    return link.name


@dataclass(frozen=True)
class Blocks:
    """Primitives of all memories together; `rom_luts` hold weights and biases (any LUT will do), `lutram_luts` everything else."""

    bram18: int
    uram: int
    lutram_luts: int
    rom_luts: int

    def over(self, device: Device) -> tuple[str, ...]:
        """What of `device` does not suffice, in words; empty when all fits."""
        needs = (("18 Kb blocks", self.bram18, device.bram18), ("URAMs", self.uram, device.uram), ("LUTs as RAM", self.lutram_luts, device.lutram_luts),
                 ("LUTs as memory", self.lutram_luts + self.rom_luts, device.lut))  # fmt: skip
        return tuple(f"{used} {what} of {have}" for what, used, have in needs if used > have)


def blocks(rows: tuple[MemoryRow, ...]) -> Blocks:
    """Primitives of `rows`."""
    rom = sum(r.lutram_luts for r in rows if r.kind in ("weights", "bias"))
    return Blocks(sum(r.bram18 for r in rows), sum(r.uram for r in rows), sum(r.lutram_luts for r in rows) - rom, rom)


def _stage_rows(stage: Stage, device: Device | None) -> list[MemoryRow]:
    rows = [row for engine in stage.engines for row in _engine_rows(stage.name, engine, device)]
    for f in internal_fifos(stage):
        rows.append(_row(stage.name, "fifos", f"{stage.name}.{f.name}", f.lanes * f.bits, f.depth, 1, device))
    pools = [stage] if isinstance(stage, PoolStage) else [s for s in stage.side if isinstance(s, PoolStage)] if isinstance(stage, JoinStage) else []
    for pool in pools:
        # Windows that overlap one position: partial maxima of that many rows, and of as many pixels along the row.
        open_windows = ceil(pool.kernel / pool.stride)
        folds = ceil(pool.in_shape[0] / pool.lanes)
        word_bits = pool.lanes * pool.fmt.bits
        rows.append(_row(stage.name, "line_buffers", f"{pool.name}.rows", word_bits, pool.out_shape[2] * folds, open_windows, device))
        rows.append(_row(stage.name, "line_buffers", f"{pool.name}.columns", word_bits, folds, open_windows, device))
    if isinstance(stage, JoinStage) and stage.side_depth:
        name = f"{bypass_label(stage)}.side.fifo"
        rows.append(_row(stage.name, "fifos", name, stage.lanes * stage.bypass_fmt.bits, stage.side_depth, 1, device))
    if isinstance(stage, GlobalSumStage):
        # Two sets: one is sent while the next frame fills the other.
        depth = ceil(stage.in_shape[0] / stage.lanes)
        rows.append(_row(stage.name, "line_buffers", f"{stage.name}.sums", stage.lanes * stage.out_fmt.bits, depth, 2, device))
    return rows


def _engine_rows(stage: str, e: Engine, device: Device | None) -> list[MemoryRow]:
    rom, pixels = not e.loaded, e.fold.p_px
    bias_bits = e.fold.p_oc * (e.bias_bits + e.shift_bits)
    rows = [
        *_weight_rows(stage, e, device),
        _row(stage, "bias", f"{e.node}.bias", bias_bits, e.oc_folds, 1, device, rom=rom, storage="lut"),
    ]
    word_bits = e.fold.p_ic * e.in_fmt.bits
    if e.pixel_buffered:
        rows.append(_row(stage, "line_buffers", f"{e.node}.pixel_buffer", word_bits, 2 * e.ic_folds, pixels, device))
    else:
        banks, depth = line_buffer_banks(e)
        rows.append(_row(stage, "line_buffers", f"{e.node}.line_buffer", word_bits, depth, banks * pixels, device))
    if pixels > 1:
        # Results of two groups, put into stream order.
        rows.append(_row(stage, "line_buffers", f"{e.node}.pixel_order", pixels * e.fold.p_oc * e.out_fmt.bits, 2 * e.oc_folds, 1, device))
    return rows


def _weight_rows(stage: str, e: Engine, device: Device | None) -> list[MemoryRow]:
    """Weights as they are; or indices and table; or bitmap, values, the FIFOs before the lanes and, where the values are indices, the table."""
    c = e.coding
    if c is None:
        rom = not e.loaded
        return [_row(stage, "weights", f"{e.node}.weights", e.weight_word_bits, e.weight_depth, 1, device, rom=rom, storage=e.weight_storage)]
    if c.sparse:
        rows = [
            _row(stage, "weights", f"{e.node}.bitmap", c.groups * c.group, e.weight_depth, 1, device, rom=True, storage=e.weight_storage),
            _row(stage, "weights", f"{e.node}.values", c.read * c.value_bits, c.words, c.groups, device, rom=True, storage=e.weight_storage),
            _row(stage, "fifos", f"{e.node}.values.fifo", c.value_bits, COLUMN_ROWS, c.groups * c.columns, device, storage="lut"),
        ]
    else:
        rows = [_row(stage, "weights", f"{e.node}.indices", e.fold.weight_lanes * c.value_bits, e.weight_depth, 1, device, rom=True, storage=e.weight_storage)]
    if c.codebook:
        # Constants in logic: a copy for every lane, of which the bits are counted once.
        luts = table_luts(c, e.weight_bits, device) * e.fold.weight_lanes
        rows.append(MemoryRow(stage, "weights", f"{e.node}.codebook", e.weight_bits, len(c.codebook), 1, 0, 0, luts))
    return rows


def _row(
    stage: str, kind: str, name: str, width_bits: int, depth: int, banks: int, device: Device | None, *, rom: bool = False, storage: str = "auto"
) -> MemoryRow:
    p = pack(width_bits, depth, rom=rom, lut_inputs=device.lut_inputs if device else 6, storage=storage, series7=device is not None and device.series7)
    return MemoryRow(stage, kind, name, width_bits, depth, banks, p.bram18 * banks, p.uram * banks, p.lutram_luts * banks)
