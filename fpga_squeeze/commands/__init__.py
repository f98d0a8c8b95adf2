"""Commands that look rather than make: `doctor` and `inspect`. Each module registers its own on the application."""

from __future__ import annotations

import typer

from fpga_squeeze.commands import doctor, inspect


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    doctor.register(app)
    inspect.register(app)
