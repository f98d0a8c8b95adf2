"""Folding: a machine for a frame rate, with default options. The search itself: hardware/search.py; folds as a file: hardware/folding_file.py."""

from __future__ import annotations

from fpga_squeeze.hardware.candidates import divisors
from fpga_squeeze.hardware.folding_file import folding_from_json, folding_to_json
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.hardware.search import search
from fpga_squeeze.hardware.structure import line_buffer_banks
from fpga_squeeze.quantize.qgraph import QuantGraph

__all__ = ["divisors", "folding_from_json", "folding_to_json", "line_buffer_banks", "plan_machine", "verify_plan"]


def plan_machine(qgraph: QuantGraph, clock_mhz: float = 200.0, target_fps: float = 500.0) -> FoldPlan:
    """The machine for `target_fps` at `clock_mhz` with the fewest idle multipliers, no device given; the plan has passed `verify_plan`.

    Raises:
        InputError: a clock or target that is not positive, or a graph that no stage covers (names the layer).
        CheckFailedError: a stage, or the image stream itself, takes longer than the target allows.
    """
    return search(qgraph, Goal(clock_mhz, target_fps)).plan
