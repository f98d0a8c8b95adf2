"""The verification matrix: stages x implementations, every cell with its count of compared values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpga_squeeze.report.html_text import count

COLUMNS = (
    ("reference", "Reference"), ("fast", "Fast simulator"), ("hls", "HLS C simulation"), ("verilator", "Verilator"), ("icarus", "Icarus"), ("onnx", "ONNX"),
)  # fmt: skip
NOT_RUN = {"hls": "--hls", "verilator": "--rtl", "icarus": "--rtl\n--sim icarus", "onnx": "--onnx"}


@dataclass(frozen=True)
class Cell:
    """`state`: "good", "bad" or "none". `text`: what the cell says; `note`: more on hovering."""

    state: str
    text: str
    note: str


@dataclass(frozen=True)
class Column:
    """`ran`: whether the implementation was held against the simulator; `note`: frames and stall profile, or how to run it."""

    key: str
    title: str
    ran: bool
    note: str


@dataclass(frozen=True)
class Matrix:
    """Columns and rows (stage, cells) in stream order; the last row may be the top's own output port. `faults`: what else was wrong."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    faults: tuple[str, ...]


def matrix(verification: dict[str, Any] | None, stages: list[str]) -> Matrix:
    """The matrix of verification.json; without it every cell says that nothing was run."""
    checks = verification["checks"] if verification else []
    cells = {(c["stage"], c["implementation"]): c for c in checks}
    ran = list(dict.fromkeys(c["implementation"] for c in checks))
    known = dict(COLUMNS)
    titles = known | {name: name for name in ran if name not in known}
    if any(name != "onnx" and "onnx" in name for name in ran) and "onnx" not in ran:
        del titles["onnx"]  # a run names the dialect or the runtime
    names = list(dict.fromkeys([*stages, *(c["stage"] for c in checks)]))
    entries = (verification or {}).get("implementations", {})
    columns = tuple(Column(key, title, key in ran or (key == "reference" and "fast" in ran), _note(key, entries, key in ran)) for key, title in titles.items())
    rows = tuple((stage, tuple(_cell(cells, stage, key, key in ran) for key in titles)) for stage in names)
    return Matrix(columns, rows, tuple(verification["faults"]) if verification else ())


def _note(key: str, entries: dict[str, Any], ran: bool) -> str:
    if key == "reference":
        return "defines every bit"
    if not ran:
        return f"to run it:\nverify OUT {NOT_RUN[key]}" if key in NOT_RUN else "not run"
    entry = entries.get(key, {})
    frames = entry.get("frames")
    stalls = (entry.get("options") or {}).get("stalls")
    text = f"{count(frames)} frame{'s' if frames != 1 else ''}" if frames else "run"
    if key == "fast":
        return f"against the reference,\n{text}"
    return f"{text}, stalls {stalls}" if stalls else text


def _cell(cells: dict[tuple[str, str], dict[str, Any]], stage: str, key: str, ran: bool) -> Cell:
    if key == "reference":
        check = cells.get((stage, "fast"))
        if check is None:
            return Cell("none", "–", "not computed")
        return Cell("good", count(check["compared"]), "values of the int64 reference that the fast simulator was held against")
    check = cells.get((stage, key))
    if check is None:
        return Cell("none", "–" if ran else "not run", "no such stage in this implementation" if ran else "not run")
    if not check["compared"]:
        return Cell("bad", "0 compared", "nothing came out")
    if check["mismatches"]:
        note = ""
        if first := check.get("first_difference"):
            where = f"frame {first['frame']}, channel {first['channel']}, y {first['y']}, x {first['x']}"
            note = f"the first at {where}: {first['expected']} expected, {first['got']} got"
        return Cell("bad", f"{count(check['mismatches'])} of {count(check['compared'])} differ", note)
    return Cell("good", count(check["compared"]), "values compared, all equal")
