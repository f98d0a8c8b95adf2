"""The whole-chip memory budget: every bit on chip against a budget in bytes and against a part's blocks, before anything is emitted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.devices import Device, load_devices
from fpga_squeeze.hardware.memory import KINDS, MemoryRow, blocks, memory_rows, plan_rows
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.hardware.structure import narrowed
from fpga_squeeze.hardware.weight_choice import with_engines
from fpga_squeeze.quantize.qgraph import QuantGraph

UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
LARGEST = 5


@dataclass(frozen=True)
class MemoryBudget:
    """The rows, a budget in bytes and, where asked for, a part. A row is exact in bits; bytes are rounded up once, on the total."""

    budget_bytes: int
    rows: tuple[MemoryRow, ...]
    device: Device | None

    @property
    def total_bits(self) -> int:
        """Bits of all rows."""
        return sum(r.bits for r in self.rows)

    @property
    def total_bytes(self) -> int:
        """ceil(total bits / 8)."""
        return -(-self.total_bits // 8)

    @property
    def by_kind(self) -> dict[str, int]:
        """Bytes a kind; rounding is carried from kind to kind, so that they add up to total_bytes."""
        result = {}
        bits = done = 0
        for kind in KINDS:
            bits += sum(r.bits for r in self.rows if r.kind == kind)
            result[kind] = -(-bits // 8) - done
            done += result[kind]
        return result

    @property
    def bram18(self) -> int:
        """18 Kb blocks of all rows."""
        return blocks(self.rows).bram18

    @property
    def uram(self) -> int:
        """URAMs of all rows."""
        return blocks(self.rows).uram

    @property
    def rom_luts(self) -> int:
        """LUTs used as ROM; any LUT will do."""
        return blocks(self.rows).rom_luts

    @property
    def lutram_luts(self) -> int:
        """LUTs used as RAM."""
        return blocks(self.rows).lutram_luts

    @property
    def over_device(self) -> tuple[str, ...]:
        """What of the part does not suffice, in words; empty when all fits or no part was named."""
        return () if self.device is None else blocks(self.rows).over(self.device)

    @property
    def fits(self) -> bool:
        """Within the budget and, where a part is named, within its blocks."""
        return self.total_bytes <= self.budget_bytes and not self.over_device

    def to_json(self) -> dict[str, Any]:
        """The content of memory_budget.json."""
        d = self.device
        device = None if d is None else {
            "name": d.name, "bram18_used": self.bram18, "bram18_available": d.bram18, "uram_used": self.uram, "uram_available": d.uram,
            "lutram_luts_used": self.lutram_luts, "lutram_luts_available": d.lutram_luts, "rom_luts_used": self.rom_luts, "luts_available": d.lut,
            "fits": not self.over_device,
        }  # fmt: skip
        return {
            "budget_bytes": self.budget_bytes, "total_bytes": self.total_bytes, "total_bits": self.total_bits, "fits": self.fits, "by_kind": self.by_kind,
            "bram18": self.bram18, "uram": self.uram, "lutram_luts": self.lutram_luts + self.rom_luts,
            "rows": [r.to_json() for r in self.rows], "device": device,
        }  # fmt: skip

    def to_markdown(self) -> str:
        """The same for reading."""
        verdict = "fits" if self.total_bytes <= self.budget_bytes else "DOES NOT FIT"
        share = 100 * self.total_bytes / self.budget_bytes
        lines = [
            "# Memory budget", "",
            f"{self.total_bytes:,} bytes of {self.budget_bytes:,} ({share:.1f}%): {verdict}.", "",
            "| kind | bytes | share |", "|---|---:|---:|",
            *(f"| {kind} | {n:,} | {100 * n / max(1, self.total_bytes):.1f}% |" for kind, n in self.by_kind.items()),
            f"| **total** | **{self.total_bytes:,}** | 100.0% |", "",
            f"Blocks: {self.bram18} x 18 Kb ({self.bram18 / 2:g} BRAM36), {self.uram} URAM, {self.lutram_luts} LUTs as RAM, {self.rom_luts} LUTs as ROM. "
            f"Packing loss in the blocks: {sum(r.packing_loss_bits for r in self.rows) / 8:,.0f} bytes.", "",
        ]  # fmt: skip
        if self.device is not None:
            d = self.device
            state = f"too small: needs {'; '.join(self.over_device)}" if self.over_device else "fits"
            lines += [
                f"Device {d.name} ({', '.join(d.boards)}): {state}.", "",
                "| resource | used | available |", "|---|---:|---:|",
                f"| 18 Kb blocks | {self.bram18} | {d.bram18} |", f"| URAM | {self.uram} | {d.uram} |",
                f"| LUTs as RAM | {self.lutram_luts} | {d.lutram_luts} |", f"| LUTs as RAM or ROM | {self.lutram_luts + self.rom_luts} | {d.lut} |", "",
            ]  # fmt: skip
        lines.append("| stage | kind | name | bits | width | depth | banks | 18 Kb | URAM | LUTs | loss, bits |")
        lines.append("|---|---|---|" + "---:|" * 8)
        for r in self.rows:
            shape = f"{r.bits:,} | {r.width_bits} | {r.depth} | {r.banks}"
            lines.append(f"| {r.stage} | {r.kind} | {r.name} | {shape} | {r.bram18} | {r.uram} | {r.lutram_luts} | {r.packing_loss_bits:,} |")
        return "\n".join(lines) + "\n"


def parse_size(text: str, option: str = "--budget") -> int:
    """Bytes of "10MB" (10,000,000), "620kB", "1.5MiB" or a bare number of bytes. Raises InputError for anything else, or less than one byte,
    naming the `option`.

    >>> parse_size("10MB"), parse_size("620kB"), parse_size("1.5MiB"), parse_size("800000")
    (10000000, 620000, 1572864, 800000)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text, flags=re.IGNORECASE | re.ASCII)
    unit = match[2].lower() if match else None
    if match is None or unit not in UNITS:
        raise InputError(f"{option} {text!r}: a size such as 10MB, 620kB, 1.5MiB or a number of bytes was expected")
    size = int(Fraction(match[1]) * UNITS[unit])
    if size < 1:
        raise InputError(f"{option} {text!r}: at least one byte was expected")
    return size


def memory_budget(plan: FoldPlan, qgraph: QuantGraph, budget_bytes: int, device: Device | None = None) -> MemoryBudget:
    """The budget report of `plan`; nothing is checked yet. Raises InputError when the plan is not legal for `qgraph`."""
    return MemoryBudget(budget_bytes, memory_rows(plan, qgraph, device), device)


def check_budget(budget: MemoryBudget, plan: FoldPlan, qgraph: QuantGraph) -> None:
    """Raise CheckFailedError unless all fits: by how much it is over, the largest items, and what would fit (weight width, part)."""
    if budget.fits:
        return
    over = []
    if budget.total_bytes > budget.budget_bytes:
        missing = budget.total_bytes - budget.budget_bytes
        over.append(f"{budget.total_bytes:,} bytes on chip are {missing:,} over the budget of {budget.budget_bytes:,}")
    if budget.device is not None and budget.over_device:
        over.append(f"device {budget.device.name} is too small: needs {'; '.join(budget.over_device)}")
    largest = sorted(budget.rows, key=lambda r: (-r.bits, r.name))[:LARGEST]
    items = ", ".join(f"{r.name} {-(-r.bits // 8):,}" for r in largest)
    raise CheckFailedError(f"memory: {', and '.join(over)}. Largest, bytes: {items}. What would fit: {'; '.join(_remedies(budget, plan, qgraph))}.")


def _remedies(budget: MemoryBudget, plan: FoldPlan, qgraph: QuantGraph) -> list[str]:
    widest = max(e.weight_bits for s in plan.stages for e in s.engines)
    found = []
    for bits in range(widest - 1, 1, -1):
        # Other weights would be coded otherwise, or not at all: as they are they take most.
        stages = tuple(with_engines(narrowed(s, bits), lambda e: replace(e, coding=None)) for s in plan.stages)
        narrow = replace(budget, rows=plan_rows(replace(plan, stages=stages), budget.device))
        if narrow.fits:
            found.append(f"--weight-bits {bits} ({narrow.total_bytes:,} bytes)")
            break
    if budget.total_bytes > budget.budget_bytes:
        found.append(f"--budget {budget.total_bytes}")
    if budget.over_device:
        larger = sorted(load_devices(), key=lambda d: (d.memory_bits, d.name))
        fitting = next((d for d in larger if not memory_budget(plan, qgraph, budget.budget_bytes, d).over_device), None)
        found.append(f"--device {fitting.name}" if fitting else "no known device at this folding; a lower --target-fps wastes fewer blocks")
    return found
