"""`compare` in the terminal: one table, grouped, the better side marked."""

from __future__ import annotations

from fpga_squeeze.report.compare import Comparison
from fpga_squeeze.terminal import console, table


def compare_text(result: Comparison) -> None:
    """Both exports side by side; * marks the better value."""
    rows: list[tuple[str, ...]] = []
    group = ""
    for row in result.rows:
        if row.group != group:
            rows.append((row.group, "", "", ""))
            group = row.group
        marks = [f"{text} *" if row.better == side else text for side, text in (("a", row.a), ("b", row.b))]
        rows.append((f"  {row.label}", *marks, row.difference))
    names = (str(result.a["out"]), str(result.b["out"]))
    console().print(table("Two exports side by side (* better)", ("", *names, "second against first"), rows, right=(1, 2, 3)))
