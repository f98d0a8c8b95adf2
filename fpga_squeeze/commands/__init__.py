"""Commands with a module of their own, each of which registers its command on the application."""

from __future__ import annotations

import typer

from fpga_squeeze.commands import doctor, inspect, package, pareto, synth, train


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    synth.register(app)
    train.register(app)
    doctor.register(app)
    inspect.register(app)
    package.register(app)
    pareto.register(app)
