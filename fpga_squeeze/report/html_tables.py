"""Smaller parts of the page: the budget bar, the device table, the sample pictures, what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.report.html_text import KINDS, count, percent, size
from fpga_squeeze.report.machine import act_bits, index_bits

VARIABLES = {"weights": "weights", "bias": "bias", "line_buffers": "buffers", "fifos": "fifos"}


@dataclass(frozen=True)
class Part:
    """One kind of memory: `variable` of its colour, `width` of its piece of the bar in percent of the budget."""

    name: str
    variable: str
    size: str
    share: str
    width: str


@dataclass(frozen=True)
class BlockRow:
    """One resource of the device: by the model, by synthesis where that was run, allowed and available; `level` percent of the bar, `state` its colour."""

    name: str
    used: str
    synthesized: str
    available: str
    share: str
    level: str
    allowed_level: str
    state: str


@dataclass(frozen=True)
class Guess:
    """One of the five classes: name, chance as text and as the length of its bar in percent; `right` where it is the true class."""

    label: str
    chance: str
    level: str
    right: bool


@dataclass(frozen=True)
class Sample:
    """One picture; `agrees` when float and fixed name the same class first."""

    file: str
    truth: str
    thumbnail: str
    tiny: bool
    float_side: tuple[Guess, ...]
    fixed_side: tuple[Guess, ...]
    agrees: bool


@dataclass(frozen=True)
class Samples:
    """`note` says where the pictures come from, or why there are none."""

    note: str
    images: tuple[Sample, ...]


def budget_parts(memory: dict[str, Any]) -> tuple[Part, ...]:
    """memory_budget.json by kind."""
    total, budget = max(1, memory["total_bytes"]), memory["budget_bytes"]
    return tuple(
        Part(KINDS[kind], VARIABLES[kind], size(n), percent(n / total), f"{100 * n / max(budget, total):.3f}")
        for kind in KINDS
        for n in (memory["by_kind"][kind],)
    )


def block_rows(reports: dict[str, Any]) -> tuple[BlockRow, ...]:
    """resources.json against the device, synthesis.json beside it."""
    resources, synthesis = reports["resources"], reports["synthesis"]
    device, rows = resources["device"], []
    for name, title in NAMES.items():
        used = resources["used"][name]
        made = count(synthesis["result"][name]) if synthesis else ""
        if device is None:
            rows.append(BlockRow(title, count(used), made, "", "", "", "", "none"))
            continue
        have, allowed = device["available"][name], device["allowed"][name]
        if not have:
            continue
        share = used / have
        state = "bad" if used > have else "good"
        rows.append(BlockRow(title, count(used), made, count(have), percent(share, 0), f"{100 * min(1.0, share):.1f}", f"{100 * allowed / have:.1f}", state))
    return tuple(rows)


def sample_cards(body: dict[str, Any]) -> Samples:
    """samples.json for the page."""
    if body["source"] == "random":
        return Samples("The formats were chosen on random pixels (--calibration random): no pictures to show, no accuracy to expect.", ())
    spread = "Pictures spread evenly over the evaluated set, then up to two that float and fixed point see differently."
    note = spread if body["source"] == "evaluation" else "Pictures that the formats were calibrated on; fpga-squeeze evaluate shows labelled ones."
    images = []
    for row in body["images"]:
        known = row["class"]
        truth = "" if known is None else _name(known, row["label"])
        sides = [tuple(_guess(entry, known) for entry in row[side]) for side in ("float", "fixed")]
        agrees = row["float"][0]["class"] == row["fixed"][0]["class"]
        images.append(Sample(row["file"], truth, row["thumbnail"], row["thumbnail"].startswith("data:image/png"), sides[0], sides[1], agrees))
    return Samples(note, tuple(images))


def _several(bits: list[int]) -> str:
    return "/".join(str(b) for b in bits)


def configuration(options: Mapping[str, Any], reports: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """(label, value) of what was exported."""
    config: Mapping[str, Any] = options.get("config", {})
    device = reports["resources"]["device"]
    widths = sorted({e["weight_bits"] for s in reports["machine"]["stages"] for e in s["engines"]})
    indices = index_bits(reports["machine"])
    bits = f"{_several(widths)} bit weights{f' ({_several(indices)} bit indices)' if indices else ''}, {_several(act_bits(reports['machine']))} bit activations"
    calibrated = "random pixels" if reports["histograms"]["random"] else f"{count(options.get('calibration_images'))} images"
    rows = [
        ("Network", str(config.get("arch", "?"))), ("Classes", count(options.get("classes"))), ("Numbers", bits),
        ("Device", f"{device['name']} ({device['part']})" if device and device["part"] != device["name"] else device["name"] if device else "none named"),
        ("Clock", f"{reports['machine']['clock_mhz']:g} MHz"), ("Calibration", calibrated),
    ]  # fmt: skip
    return tuple(rows)


def _guess(entry: dict[str, Any], truth: int | None) -> Guess:
    return Guess(_name(entry["class"], entry["label"]), percent(entry["probability"]), f"{100 * entry['probability']:.1f}", entry["class"] == truth)


def _name(index: int, label: str | None) -> str:
    return label or f"class {index}"
