"""Writes docs/commands.md from the command line itself: python docs/_hooks/commands.py. A test holds the page current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from fpga_squeeze import cli

PAGE = Path(__file__).parents[1] / "commands.md"
HEAD = """# Commands

Made from the command line's own help by `python docs/_hooks/commands.py`; do not edit.

Exit codes: 0 done; 1 a check failed (over budget, a value differs, a goal not met, a core tool missing); 2 bad input or options. Errors are one line on stderr.
`--json` prints one object on stdout. Progress goes to stderr, and only on a terminal.
"""


def reference() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(cli.app)
    parts = [HEAD, "## Options of every command\n", *_table("option", _records(root, "option"))]
    parts.append("`--install-completion` adds completion to your shell.\n")
    for name, command in root.commands.items():
        parts += [f"## {name}\n", *_command(name, command)]
    return "\n".join(parts).rstrip() + "\n"


def _command(name: str, command: Any) -> list[str]:
    text, _, example = (command.help or "").partition("Example:")
    arguments, options = _records(command, "argument"), _records(command, "option")
    usage = " ".join(["fpga-squeeze", name, *(shown for shown, _ in arguments), "[OPTIONS]"])
    tables = [*(_table("argument", arguments) if arguments else []), *_table("option", options)]
    return [f"{_cell(text)}\n", f"    {usage}\n", *tables, f"Example:\n\n    {example.strip()}\n"]


def _records(command: Any, kind: str) -> list[tuple[str, str]]:
    """(how it is written, what it does) of each visible argument or option."""
    context = command.context_class(command, info_name=command.name)
    found = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
    return [(re.sub(r" <.*>$", "", shown) if kind == "argument" else shown, text) for shown, text in filter(None, found)]


def _table(kind: str, records: list[tuple[str, str]]) -> list[str]:
    rows = [f"| `{shown.replace('|', chr(92) + '|')}` | {_cell(text)} |" for shown, text in records]
    return [f"| {kind} | |", "|---|---|", *rows, ""]


def _cell(text: str) -> str:
    """One line; what Markdown would take for a column or for HTML stays what it is."""
    return re.sub(r"([|<\[])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
