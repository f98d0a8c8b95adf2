"""`fpga-squeeze doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fpga_squeeze.doctor import Finding


def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")] = False) -> None:
    """Look for every tool that some command uses, and say how to install what is missing. Exit code 1 when the core (export, simulate, C simulation) lacks one.

    Example: fpga-squeeze doctor
    """
    from fpga_squeeze import doctor as job
    from fpga_squeeze import terminal

    with terminal.progress_bars() as progress:
        findings = job.examine(progress)
    good = all(f.found is not None for f in findings if f.core)
    if json_output:
        terminal.print_json({"ok": good, "tools": [f.to_json() for f in findings]})
    else:
        _show(findings, good)
    if not good:
        raise typer.Exit(1)


def _show(findings: tuple[Finding, ...], good: bool) -> None:
    from fpga_squeeze.terminal import console, table

    out = console()
    rows, missing = [], []
    for f in findings:
        rows.append((f.name, f.found or ("MISSING" if f.core else "missing"), "core" if f.core else "", f.used_for))
        if f.found is None:
            missing.append((f.name, f.reason, f.install))
    out.print(table("Tools", ("tool", "found", "", "used for"), rows))
    if missing:
        out.print("\nTo install what is missing:")
        for name, reason, install in missing:
            out.print(f"  {name}{f' ({reason})' if reason else ''}:", markup=False)
            out.print(f"      {install}", markup=False)
    out.print()
    verdict = "Export, simulation and C simulation have all they need." if good else "The core is NOT complete: see above."
    out.print(verdict)


def register(app: typer.Typer) -> None:
    """Add `doctor`."""
    app.command()(doctor)
