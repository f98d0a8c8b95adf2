"""Two exports side by side: numbers, size, speed, accuracy, resources and what was verified, from their reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_squeeze.emit import writer
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.report.html import read_reports
from fpga_squeeze.report.html_layers import shown_layers
from fpga_squeeze.report.html_text import KINDS, count, percent, rate, size
from fpga_squeeze.report.machine import act_bits, index_bits

NOT_MEASURED, NOT_RUN = "not measured", "not run"


@dataclass(frozen=True)
class Row:
    """One line of the comparison: texts of both sides and of the difference; `levels`: both as shares of the larger (None for words).

    `better`: "a", "b" or "" (equal, or no better and worse).
    """

    group: str
    label: str
    a: str
    b: str
    difference: str
    better: str
    levels: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """What is known of both exports (see `summary`), and the lines to show."""

    a: dict[str, Any]
    b: dict[str, Any]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """{"a": summary, "b": summary, "differences": [labels that differ]}."""
        return {"a": self.a, "b": self.b, "differences": [row.label for row in self.rows if row.a != row.b]}


def compare(first: Path, second: Path) -> Comparison:
    """Read both exports. Raises InputError for a folder that is no export or lacks reports."""
    a, b = summary(first), summary(second)
    return Comparison(a, b, _rows(a, b))


def summary(out: Path) -> dict[str, Any]:
    """The figures of one export; what was not run is null.

    {"out", "model", "arch", "input", "weight_bits", "act_bits", "index_bits", "calibration_images", "device", "clock_mhz", "bytes", "budget_bytes", "by_kind",
    "fits", "fps", "measured_fps", "interval_cycles",
    "latency_ms", "multipliers", "mac_efficiency", "resources", "synthesis", "accuracy", "lowest_sqnr", "verified"}.
    """
    manifest = writer.read_manifest(out)
    if manifest is None:
        raise InputError(f"{out}: a folder written by `fpga-squeeze export` was expected, no manifest.json of one is there")
    reports = read_reports(out)
    options: Any = manifest.get("options") or {}
    config = options.get("config", {})
    machine, memory, speed, synthesis = reports["machine"], reports["memory_budget"], reports["performance"], reports["synthesis"]
    layers = shown_layers(reports)
    lowest = min(layers, key=lambda row: row["sqnr_db"]) if layers else None
    return {
        "out": out.name, "model": options.get("model"), "arch": config.get("arch"), "input": machine["links"][0]["shape"],
        "weight_bits": sorted({e["weight_bits"] for s in machine["stages"] for e in s["engines"]}), "act_bits": act_bits(machine),
        "index_bits": index_bits(machine),
        "calibration_images": options.get("calibration_images"), "device": (reports["resources"]["device"] or {}).get("name"),
        "clock_mhz": machine["clock_mhz"], "bytes": memory["total_bytes"], "budget_bytes": memory["budget_bytes"], "by_kind": memory["by_kind"],
        "fits": memory["fits"], "fps": speed["fps"], "measured_fps": (speed["measured"] or {}).get("fps"), "interval_cycles": speed["interval_cycles"],
        "latency_ms": speed["latency_ms"], "multipliers": speed["multipliers"], "mac_efficiency": speed["mac_efficiency"],
        "resources": reports["resources"]["used"], "synthesis": synthesis["result"] if synthesis else None, "accuracy": _accuracy(reports["accuracy"]),
        "lowest_sqnr": None if lowest is None else {"layer": lowest["name"], "sqnr_db": lowest["sqnr_db"]}, "verified": _verified(reports["verification"]),
    }  # fmt: skip


def _accuracy(body: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if body is None else {key: body[key] for key in ("count", "float", "fixed", "agreement_top1")}


def _verified(body: dict[str, Any] | None) -> dict[str, Any] | None:
    """{"ok", "implementations": {name: {"compared", "mismatches"}}}."""
    if body is None:
        return None
    found: dict[str, dict[str, int]] = {}
    for check in body["checks"]:
        entry = found.setdefault(check["implementation"], {"compared": 0, "mismatches": 0})
        entry["compared"] += check["compared"]
        entry["mismatches"] += check["mismatches"]
    return {"ok": body["ok"], "implementations": found}


def _rows(a: dict[str, Any], b: dict[str, Any]) -> tuple[Row, ...]:
    rows = [
        _words("Network", "model", a["model"], b["model"]), _words("Network", "architecture", a["arch"], b["arch"]),
        _words("Network", "input", " × ".join(map(str, a["input"])), " × ".join(map(str, b["input"]))),
        _words("Network", "weights", _bits(a["weight_bits"]), _bits(b["weight_bits"])),
        *([_words("Network", "codebook indices", _bits(a["index_bits"]), _bits(b["index_bits"]))] if a["index_bits"] or b["index_bits"] else []),
        _words("Network", "activations", _bits(a["act_bits"]), _bits(b["act_bits"])),
        _number("Size", "memory on chip", a["bytes"], b["bytes"], size, lower=True),
        *(_number("Size", KINDS[kind], a["by_kind"][kind], b["by_kind"][kind], size, lower=True) for kind in KINDS),
        _words("Speed", "device", a["device"] or "none named", b["device"] or "none named"),
        _number("Speed", "clock, MHz", a["clock_mhz"], b["clock_mhz"], "{:g}".format),
        _number("Speed", "frames/s, predicted", a["fps"], b["fps"], rate, lower=False),
        _number("Speed", "frames/s, measured in RTL", a["measured_fps"], b["measured_fps"], rate, lower=False),
        _number("Speed", "cycles between frames", a["interval_cycles"], b["interval_cycles"], count, lower=True),
        _number("Speed", "first frame, ms", a["latency_ms"], b["latency_ms"], "{:.2f}".format, lower=True),
        _number("Speed", "MAC efficiency", a["mac_efficiency"], b["mac_efficiency"], "{:.3f}".format, lower=False),
        _number("Resources", "multipliers", a["multipliers"], b["multipliers"], count),
        *(_number("Resources", f"{NAMES[n]}, by the model", a["resources"][n], b["resources"][n], count, lower=True) for n in NAMES),
    ]  # fmt: skip
    if a["synthesis"] or b["synthesis"]:
        sides = a["synthesis"] or {}, b["synthesis"] or {}
        rows += [_number("Resources", f"{NAMES[n]}, synthesized", sides[0].get(n), sides[1].get(n), count, lower=True) for n in NAMES]
    return tuple(rows + _accuracy_rows(a, b) + _verified_rows(a, b))


def _accuracy_rows(a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    def one(side: dict[str, Any], *keys: str) -> Any:
        body = side["accuracy"]
        for key in keys:
            body = body and body[key]
        return body

    lines = (
        ("images", ("count",), count), ("top-1, fixed point", ("fixed", "top1"), "{:.1f}%".format), ("top-5, fixed point", ("fixed", "top5"), "{:.1f}%".format),
        ("top-1, float", ("float", "top1"), "{:.1f}%".format), ("same class as float", ("agreement_top1",), "{:.1f}%".format),
    )  # fmt: skip
    rows = [_number("Accuracy", label, one(a, *keys), one(b, *keys), show, lower=None if label == "images" else False) for label, keys, show in lines]
    noise = [(side["lowest_sqnr"] or {}).get("sqnr_db") for side in (a, b)]
    return [*rows, _number("Accuracy", "lowest SQNR, dB", noise[0], noise[1], "{:.1f}".format, lower=False)]


def _verified_rows(a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    names = dict.fromkeys(name for side in (a, b) for name in ((side["verified"] or {}).get("implementations") or {}))
    rows = [_words("Verified", "all checks", *(_verdict(side["verified"]) for side in (a, b)))]
    for name in names:
        cells = [((side["verified"] or {}).get("implementations") or {}).get(name) for side in (a, b)]
        rows.append(_words("Verified", name, *(_compared(cell) for cell in cells)))
    return rows


def _verdict(body: dict[str, Any] | None) -> str:
    return NOT_RUN if body is None else "equal, bit by bit" if body["ok"] else "NOT equal"


def _compared(cell: dict[str, int] | None) -> str:
    if cell is None:
        return NOT_RUN
    return f"{count(cell['mismatches'])} of {count(cell['compared'])} differ" if cell["mismatches"] else f"{count(cell['compared'])} equal"


def _bits(widths: list[Any]) -> str:
    return "/".join(str(w) for w in widths) + " bit" if widths else "none"


def _words(group: str, label: str, a: Any, b: Any) -> Row:
    return Row(group, label, str(a), str(b), "" if a == b else "differs", "", None)


def _number(group: str, label: str, a: float | None, b: float | None, show: Any, lower: bool | None = None) -> Row:
    """`lower`: True where less is better, False where more is; None where neither."""
    texts = ["not measured" if v is None else show(v) for v in (a, b)]
    if a is None or b is None:
        return Row(group, label, texts[0], texts[1], "", "", None)
    largest = max(a, b)
    levels = (a / largest, b / largest) if largest > 0 else (0.0, 0.0)
    if a == b:
        return Row(group, label, texts[0], texts[1], "", "", levels)
    # Percentages differ by points, decibels by decibels, everything else by a share.
    unit = "points" if texts[0].endswith("%") else "dB" if label.endswith("dB") else ""
    difference = f"{b - a:+.1f} {unit}".replace("-", "−") if unit else f"{'+' if b > a else '−'}{percent(abs(b - a) / a)}" if a else f"+{show(b)}"
    better = "" if lower is None else "b" if (b < a) == lower else "a"
    return Row(group, label, texts[0], texts[1], difference, better, levels)
