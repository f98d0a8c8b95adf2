"""The layer table: number formats, signal-to-noise ratios and histograms side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fpga_squeeze.report.html_histogram import histogram_svg
from fpga_squeeze.report.html_text import number_format, percent, slug

SHOWN_KINDS = ("Conv", "Add")
"""Layers that round: pools and concatenations only pass values on."""


@dataclass(frozen=True)
class LayerRow:
    """One layer. `weights` and `activations`: histogram pictures, None where there is none."""

    name: str
    id: str
    sqnr: str
    weight_format: str
    format: str
    weights: Markup | None
    weights_clipped: str
    activations: Markup | None
    activations_clipped: str
    lowest: bool


def shown_layers(reports: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of layers.json that round; evaluate's, measured on its images, where it ran."""
    source = (reports.get("accuracy") or {}).get("layers") or reports["layers"]["layers"]
    return [row for row in source if row["kind"] in SHOWN_KINDS]


def weakest(rows: tuple[LayerRow, ...], wanted: int = 4) -> tuple[LayerRow, ...]:
    """The rows of lowest signal-to-noise ratio, lowest first."""
    return tuple(sorted(rows, key=lambda row: float(row.sqnr))[:wanted])


def _weight_format(engine: dict[str, Any]) -> str:
    """int8, and of a layer with a codebook how many integers there are: int8 (16 values)."""
    shared = "codebook" in engine.get("weight_coding", "")
    return f"int{engine['weight_bits']}" + (f" ({1 << engine['stored_value_bits']} values)" if shared else "")


def layer_rows(reports: dict[str, Any]) -> tuple[LayerRow, ...]:
    """Every layer that rounds, in stream order."""
    rows = shown_layers(reports)
    engines = {e["node"]: e for s in reports["machine"]["stages"] for e in s["engines"]}
    histograms = {h["name"]: h for h in reports["histograms"]["layers"]}
    lowest = min((row["sqnr_db"] for row in rows), default=0.0)
    found = []
    for row in rows:
        h = histograms.get(row["name"], {})
        weights, activations = h.get("weights"), h.get("activations")
        engine = engines.get(row["name"])
        found.append(LayerRow(
            row["name"], slug(row["name"]), f"{row['sqnr_db']:.1f}", _weight_format(engine) if engine else "",
            number_format(row), Markup(histogram_svg(weights, "weights, in units of the format's range,")) if weights else None,
            percent(weights["clipped"], 2) if weights else "", Markup(histogram_svg(activations, "activations")) if activations else None,
            percent(activations["clipped"], 2) if activations else "", row["sqnr_db"] == lowest,
        ))  # fmt: skip
    return tuple(found)
