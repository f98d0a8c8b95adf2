"""The comparison of two exports as a page of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_squeeze.emit import writer
from fpga_squeeze.errors import InputError
from fpga_squeeze.report.compare import Comparison, Row
from fpga_squeeze.report.html import page
from fpga_squeeze.report.html_text import count, rate


@dataclass(frozen=True)
class Answer:
    """One of the four questions with both sides' figure; `better` is "a", "b" or ""."""

    title: str
    unit: str
    a: str
    b: str
    better: str


def write_page(target: Path, comparison: Comparison) -> None:
    """Write the page to `target`. Raises InputError when it cannot be written."""
    folder = target.absolute().parent
    if not folder.is_dir() or target.is_dir():
        raise InputError(f"--html {target}: a file name in an existing folder was expected")
    try:
        writer.write_file(folder, target.name, compare_page(comparison))
    except OSError as error:
        raise InputError(f"--html {target}: cannot be written ({error.strerror})") from error


def compare_page(comparison: Comparison) -> bytes:
    """The page; the same exports give the same bytes."""
    groups: dict[str, list[Row]] = {}
    for row in comparison.rows:
        groups.setdefault(row.group, []).append(row)
    names = _names(comparison.a, comparison.b)
    return page("compare.html.jinja", {"a": comparison.a, "b": comparison.b, "names": names, "groups": groups, "answers": _answers(comparison)})


def _names(a: dict[str, Any], b: dict[str, Any]) -> tuple[str, str]:
    return (str(a["out"]), str(b["out"])) if a["out"] != b["out"] else (f"{a['out']} (first)", f"{b['out']} (second)")


def _answers(c: Comparison) -> tuple[Answer, ...]:
    rows = {row.label: row for row in c.rows}
    speeds = [side["measured_fps"] or side["fps"] for side in (c.a, c.b)]
    kinds = ["measured" if side["measured_fps"] else "predicted" for side in (c.a, c.b)]
    compared = [sum(e["compared"] for e in (side["verified"] or {}).get("implementations", {}).values()) for side in (c.a, c.b)]
    proof = []
    for side, n in zip((c.a, c.b), compared, strict=True):
        proof.append("NOT equal" if side["verified"] and not side["verified"]["ok"] else count(n) if n else "not run")
    memory, top1 = rows["memory on chip"], rows["top-1, fixed point"]
    faster = "" if speeds[0] == speeds[1] else "a" if speeds[0] > speeds[1] else "b"
    return (
        Answer("Size", "on chip", memory.a, memory.b, memory.better),
        Answer("Speed", "frames/s, " + (kinds[0] if kinds[0] == kinds[1] else " and ".join(kinds)), rate(speeds[0]), rate(speeds[1]), faster),
        Answer("Accuracy", "top-1, fixed point", top1.a, top1.b, top1.better), Answer("Proven", "values compared", proof[0], proof[1], ""),
    )  # fmt: skip
