"""What the command line shows: tables on stdout, progress on stderr and only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fpga_squeeze.pipeline import Progress as ProgressCallback
from fpga_squeeze.pipeline import no_progress


def console() -> Console:
    """Stdout; wide enough not to fold tables when it is a pipe."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160)


def print_json(body: object) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(body, indent=1) + "\n")


def warn(message: str) -> None:
    """One line on stderr that does not stop the command."""
    sys.stderr.write(f"fpga-squeeze: note: {message}\n")


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[ProgressCallback]:
    """A progress callback that draws one bar a step on stderr; silent when stderr is no terminal, or not to be `shown` by this process."""
    if not shown or not sys.stderr.isatty():
        yield no_progress
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, object] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total or None)
            bars.update(tasks[step], completed=done, total=total or None)  # type: ignore[arg-type]

        yield show


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> Table:
    """A plain table; `right` lists the columns that hold numbers."""
    result = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        result.add_column(column, justify="right" if i in right else "left", no_wrap=True)
    for row in rows:
        result.add_row(*(str(cell) for cell in row))
    return result


def bytes_text(count: float) -> str:
    """Bytes for people, in decimal units as the budget counts them.

    >>> bytes_text(999), bytes_text(1_235_496), bytes_text(10_000_000)
    ('999 B', '1.235 MB', '10.000 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.3f} MB"
