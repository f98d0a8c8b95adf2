"""What `build` prints."""

from __future__ import annotations

from fpga_squeeze.board.build import BoardBuild
from fpga_squeeze.terminal import console


def build_text(result: BoardBuild) -> None:
    """Clock, resources and rates, and how to load the bitstream."""
    out = console()
    board, placed, body = result.design.board, result.placed, result.to_json()
    out.print(f"{board.title}: {placed.fmax_mhz:.1f} MHz after place and route, {result.design.clock_mhz:g} MHz needed.")
    names = (("luts", "LUTs"), ("ffs", "flip-flops"), ("ebr", "18 Kb blocks"), ("dsp", "multipliers"))
    out.print(f"Used: {', '.join(f'{placed.used[key]:,} of {placed.available[key]:,} {name}' for key, name in names)}.")
    out.print(f"Machine {body['fps']:,.0f} frames/s; the serial line brings {body['line_fps']:,.0f} at {result.design.baud} baud.")
    out.print(f"Wrote {result.bitstream}; load it: {board.program} {result.bitstream.name}")
    out.print(f"Then: python {result.bitstream.parent / 'host.py'} PORT --check")
