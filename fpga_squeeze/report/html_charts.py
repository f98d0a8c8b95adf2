"""The page's charts: Vega-Lite, drawn to SVG at export, so that the page needs no script to show them.

Colours are the page's own variables, which follow the theme.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from fpga_squeeze.report.html_text import KINDS

WIDTH = 216
"""Plot width; with stage names beside it a chart is about 340 wide: a phone's width, or a third of a desktop's."""
STEP = 19
LABELS = 100

# Vega checks colours, so each variable travels as a colour that stands for it.
_VARIABLES = {
    "ink": "#010101", "muted": "#010102", "line": "#010103", "weights": "#020201", "bias": "#020202", "buffers": "#020203", "fifos": "#020204",
    "accent": "#020205", "loss": "#020206", "bar": "#020207",
}  # fmt: skip
_TICKS = ",~r"
_FONT = "Liberation Sans"
"""Comes with vl-convert: the same text widths, and so the same bytes, on every machine."""


def memory_chart(rows: Sequence[dict[str, Any]], stages: Sequence[str]) -> str:
    """memory_budget.json's rows, bytes by stage and kind, stacked."""
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        sums[row["stage"], row["kind"]] = sums.get((row["stage"], row["kind"]), 0) + row["bits"]
    data = [
        {"stage": stage, "kind": KINDS[kind], "order": i, "kB": round(sums[stage, kind] / 8000, 2)}
        for stage in stages
        for i, kind in enumerate(KINDS)
        if sums.get((stage, kind))
    ]
    colours = [_VARIABLES[v] for v in ("weights", "bias", "buffers", "fifos")]
    return _svg(_stacked(data, stages, "kB", "kilobytes", list(KINDS.values()), colours))


def packing_chart(rows: Sequence[dict[str, Any]], stages: Sequence[str]) -> str | None:
    """Bits of the memory blocks that each stage takes: what holds data and what is lost to their shape. None when no memory takes a block."""
    data = []
    for stage in stages:
        own = [r for r in rows if r["stage"] == stage and (r["bram18"] or r["uram"])]
        for i, (kind, bits) in enumerate((("data", sum(r["bits"] for r in own)), ("packing loss", sum(r["packing_loss_bits"] for r in own)))):
            if bits:
                data.append({"stage": stage, "kind": kind, "order": i, "kbit": round(bits / 1000, 2)})
    if not data:
        return None
    colours = [_VARIABLES["accent"], _VARIABLES["loss"]]
    return _svg(_stacked(data, stages, "kbit", "kilobits in block memories", ["data", "packing loss"], colours))


def cycles_chart(stages: Sequence[dict[str, Any]], interval: int, bottleneck: str) -> str:
    """Cycles a frame of every stage against the interval that the slowest one sets."""
    data = [{"stage": s["name"], "cycles": s["cycles"], "slowest": s["name"] == bottleneck} for s in stages]
    base = _chart(data)
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        y=_names([s["name"] for s in stages]),
        x=alt.X("cycles:Q", stack=None, title="cycles a frame", axis=alt.Axis(tickCount=3, format=_TICKS)),
        color=alt.condition(alt.datum.slowest, alt.value(_VARIABLES["accent"]), alt.value(_VARIABLES["bar"])),
    )
    rule = _chart([{"interval": interval}]).mark_rule(color=_VARIABLES["accent"], strokeDash=[3, 3]).encode(x="interval:Q")
    return _svg(bars + rule)


def multipliers_chart(engines: Sequence[dict[str, Any]]) -> str:
    """Multipliers of every engine, those of MAC efficiency 1 filled to the end: busy share and idle share of the multipliers."""
    data = []
    for e in engines:
        used = e["multipliers"] * e["mac_efficiency"]
        data.append({"stage": e["name"], "kind": "at work", "order": 0, "multipliers": round(used, 2)})
        data.append({"stage": e["name"], "kind": "idle", "order": 1, "multipliers": round(e["multipliers"] - used, 2)})
    names = [e["name"] for e in engines]
    return _svg(_stacked(data, names, "multipliers", "multipliers", ["at work", "idle"], [_VARIABLES["accent"], _VARIABLES["loss"]]))


def sqnr_chart(layers: Sequence[dict[str, Any]]) -> str:
    """Signal-to-quantization-noise ratio of every layer, the lowest marked."""
    lowest = min(layer["sqnr_db"] for layer in layers)
    data = [{"layer": layer["name"], "SQNR, dB": layer["sqnr_db"], "lowest": layer["sqnr_db"] == lowest} for layer in layers]
    names = [layer["name"] for layer in layers]
    bars = _chart(data).mark_bar(cornerRadiusEnd=2).encode(
        y=alt.Y("layer:N", title=None, sort=names),
        x=alt.X("SQNR, dB:Q", stack=None, title="decibels", axis=alt.Axis(tickCount=4)),
        color=alt.condition(alt.datum.lowest, alt.value(_VARIABLES["accent"]), alt.value(_VARIABLES["bar"])),
    )  # fmt: skip
    return _svg(bars)


def _stacked(data: list[dict[str, Any]], stages: Sequence[str], field: str, title: str, kinds: list[str], colours: list[str]) -> Any:
    return _chart(data).mark_bar().encode(
        y=_names(stages),
        x=alt.X(f"{field}:Q", title=title, axis=alt.Axis(tickCount=4, format=_TICKS)),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=colours), legend=alt.Legend(orient="top", symbolType="square")),
        order=alt.Order("order:Q"),
    )  # fmt: skip


def _chart(data: list[dict[str, Any]]) -> Any:
    return alt.Chart(alt.InlineData(values=data))


def _names(stages: Sequence[str]) -> Any:
    return alt.Y("stage:N", title=None, sort=list(stages), scale=alt.Scale(domain=list(stages)))


def _svg(chart: Any) -> str:
    """The chart as SVG without a size of its own beyond its viewBox, in the page's font and colours."""
    # No mark is clipped: Vega numbers clip paths over the life of the process, and the bytes would not repeat.
    styled = (
        chart.properties(width=WIDTH, height=alt.Step(STEP))
        .configure(font=_FONT, background="transparent", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelColor=_VARIABLES["ink"], titleColor=_VARIABLES["muted"],
            gridColor=_VARIABLES["line"], domain=False, ticks=False, labelPadding=5, labelLimit=LABELS,
        )
        .configure_axisY(grid=False, minExtent=LABELS, maxExtent=LABELS)
        .configure_legend(labelFontSize=11, labelColor=_VARIABLES["ink"], offset=4)
    )  # fmt: skip
    text = vl_convert.vegalite_to_svg(styled.to_dict(), vl_version="6.4")
    for name, colour in _VARIABLES.items():
        text = text.replace(f'"{colour}"', f'"var(--{name})"')
    width, height = text.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split()
    text = text.replace(f' font-family="{_FONT}"', "").replace(f' width="{width}" height="{height}" viewBox', f' style="max-width:{width}px" viewBox', 1)
    text = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), text)
    return text.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace(' xmlns="http://www.w3.org/2000/svg"', "").replace(' version="1.1"', "")
