"""`fpga-squeeze synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpga_squeeze.errors import CheckFailedError


def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder written by `fpga-squeeze export`.")],
    tool: Annotated[str, typer.Option(metavar="TOOL", help="yosys (comes with fpga-squeeze), vivado or vitis (when installed).")] = "yosys",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Part or board to synthesise for. [default: the export's, else k26]")] = None,
    stages: Annotated[str | None, typer.Option(metavar="A,B...", help="Only these stages or links. [default: all]")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")] = False,
) -> None:
    """Synthesise each stage and each link of OUT and put the resource model's estimate beside the result; exit code 1 if one is off. Takes minutes.

    Example: fpga-squeeze synth out --tool yosys --stages conv1,fire2.squeeze
    """
    from fpga_squeeze import jobs, terminal
    from fpga_squeeze.synth.show import synth_text

    names = None if stages is None else tuple(name.strip() for name in stages.split(",") if name.strip())
    with terminal.progress_bars() as progress:
        result = jobs.synth(out, tool, device, names, progress)
    if json_output:
        terminal.print_json(result.to_json())
    else:
        synth_text(result)
    if not result.ok:
        raise CheckFailedError(result.first_failure or "synthesis failed")


def register(app: typer.Typer) -> None:
    """Add `synth`."""
    app.command()(synth)
