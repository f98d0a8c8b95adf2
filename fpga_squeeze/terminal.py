"""What the command line shows: tables on stdout, progress on stderr and only on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fpga_squeeze.pipeline import Progress as ProgressCallback
from fpga_squeeze.pipeline import no_progress


class Verbosity(Enum):
    """QUIET: errors only, and the object of --json. NORMAL: results, and progress on a terminal. VERBOSE: every step with its seconds, anywhere."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


VERBOSITY: ContextVar[Verbosity] = ContextVar("verbosity", default=Verbosity.NORMAL)
"""Set by the command line's --quiet and --verbose."""


def console() -> Console:
    """Stdout; wide enough not to fold tables when it is a pipe."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else 160, quiet=VERBOSITY.get() is Verbosity.QUIET)


def print_json(body: object) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(body, indent=1) + "\n")


def warn(message: str) -> None:
    """One line on stderr that does not stop the command."""
    if VERBOSITY.get() is not Verbosity.QUIET:
        sys.stderr.write(f"fpga-squeeze: note: {message}\n")


class _CountColumn(ProgressColumn):
    """Done of total, where a total is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):,}/{int(task.total):,}" if task.total else "")


class _Steps:
    """Steps one after the other: a new one ends the one before. `seconds` says how long each took, for --verbose."""

    def __init__(self, bars: Progress | None) -> None:
        self.bars = bars
        self.step: str | None = None
        self.total = 0
        self.started = 0.0
        self.tasks: dict[str, object] = {}

    def show(self, step: str, done: int, total: int) -> None:
        if step != self.step:
            self.end()
            self.step, self.started = step, time.monotonic()
            if self.bars is not None and step not in self.tasks:
                self.tasks[step] = self.bars.add_task(step, total=total or None)
        self.total = total
        if self.bars is not None:
            self.bars.update(self.tasks[step], completed=done, total=total or None)  # type: ignore[arg-type]

    def end(self) -> None:
        if self.step is None:
            return
        if self.bars is not None:
            last = max(self.total, 1)
            self.bars.update(self.tasks[self.step], completed=last, total=last)  # type: ignore[arg-type]
        if VERBOSITY.get() is Verbosity.VERBOSE:
            count = f", {self.total:,}" if self.total else ""
            line = f"fpga-squeeze: {self.step}{count}: {time.monotonic() - self.started:.1f} s"
            if self.bars is not None:
                self.bars.console.print(line, highlight=False)
            else:
                sys.stderr.write(line + "\n")
        self.step = None


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[ProgressCallback]:
    """A progress callback that draws one bar a step on stderr; silent when stderr is no terminal, with --quiet, or not to be `shown` by this process.
    With --verbose a line a step."""
    level = VERBOSITY.get()
    if not shown or level is Verbosity.QUIET or (level is Verbosity.NORMAL and not sys.stderr.isatty()):
        yield no_progress
        return
    if not sys.stderr.isatty():
        steps = _Steps(None)
        yield steps.show
        steps.end()
        return
    columns = (SpinnerColumn(finished_text="-"), TextColumn("{task.description}"), BarColumn(), _CountColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        steps = _Steps(bars)
        yield steps.show
        steps.end()


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
