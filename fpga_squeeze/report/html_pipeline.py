"""The pipeline as an SVG picture: a box a stage in stream order, a line a link, side links (bypasses) as arcs. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from fpga_squeeze.report.html_text import count, shape, slug

MARGIN = 12
LANE = 34
"""Height above a row at which side links run."""
ENDS = {"s_axis": "pixels in", "m_axis": "class sums out"}


@dataclass(frozen=True)
class Layout:
    """Sizes in SVG units (CSS pixels at full width): `columns` boxes a row, `gap_x` leaves room for what a link says."""

    columns: int
    box_w: int
    box_h: int
    gap_x: int
    gap_y: int

    def position(self, index: int) -> tuple[int, int]:
        """Top left corner of a box; rows are read like text."""
        row, column = divmod(index, self.columns)
        return MARGIN + column * (self.box_w + self.gap_x), 22 + row * (self.box_h + self.gap_y)


WIDE = Layout(columns=6, box_w=118, box_h=74, gap_x=76, gap_y=58)
NARROW = Layout(columns=2, box_w=128, box_h=74, gap_x=76, gap_y=58)


def pipeline_svg(machine: dict[str, Any], bottleneck_stage: str, layout: Layout) -> str:
    """The picture of machine.json. Every box is a link to #stage-NAME."""
    stages: list[dict[str, Any]] = machine["stages"]
    if any(link["side"] for link in machine["links"]):
        layout = replace(layout, gap_y=layout.gap_y + LANE)  # a lane of their own
    order = ["s_axis", *(s["name"] for s in stages), "m_axis"]
    at = {name: layout.position(i) for i, name in enumerate(order)}
    rows = -(-len(order) // layout.columns)
    width = 2 * MARGIN + layout.columns * layout.box_w + (layout.columns - 1) * layout.gap_x
    height = 22 + rows * (layout.box_h + layout.gap_y) - layout.gap_y + 8
    parts = [
        f'<svg class="pipeline" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="group" aria-label="Pipeline of {len(stages)} stages">'
    ]
    links = [link for link in machine["links"] if link["producer"] in at and link["consumer"] in at]
    chain = [link for link in links if order.index(link["consumer"]) == order.index(link["producer"]) + 1 and not link["side"]]
    parts += [_link(link, at, layout) for link in chain]
    parts += [_arc(link, at, layout) for link in links if link not in chain]
    parts += [_end(name, at[name], layout) for name in ENDS]
    parts += [_stage(s, at[s["name"]], layout, machine["interval_cycles"], s["name"] == bottleneck_stage) for s in stages]
    return "".join([*parts, "</svg>"])


def _stage(stage: dict[str, Any], at: tuple[int, int], layout: Layout, interval: int, slowest: bool) -> str:
    x, y = at
    busy = stage["cycles"] / interval
    name = stage["name"]
    work = f"{count(stage['multipliers'])} multipliers" if stage["multipliers"] else "no multipliers"
    spoken = f"{name}: {count(stage['cycles'])} cycles, {work}{', the slowest stage' if slowest else ''}"
    bar = layout.box_w - 20
    kind = stage["kind"].lower()
    lines = [
        f'<a href="#stage-{slug(name)}" class="stage {kind}{" slowest" if slowest else ""}" data-stage="{slug(name)}" aria-label="{escape(spoken)}">',
        f'<rect class="box" x="{x}" y="{y}" width="{layout.box_w}" height="{layout.box_h}" rx="8"/>',
        f'<text class="name" x="{x + 10}" y="{y + 20}">{escape(name)}</text>',
        f'<text class="work" x="{x + 10}" y="{y + 37}">{work}</text>',
        f'<text class="work" x="{x + 10}" y="{y + 53}">{count(stage["cycles"])} cycles</text>',
        f'<rect class="busy-back" x="{x + 10}" y="{y + 61}" width="{bar}" height="4" rx="2"/>',
        f'<rect class="busy" x="{x + 10}" y="{y + 61}" width="{bar * busy:.1f}" height="4" rx="2"/>',
    ]
    if slowest:
        lines.append(f'<text class="flag" x="{x + layout.box_w - 4}" y="{y - 6}" text-anchor="end">slowest stage</text>')
    return "".join([*lines, "</a>"])


def _end(name: str, at: tuple[int, int], layout: Layout) -> str:
    x, y = at
    middle = y + layout.box_h / 2
    return (
        f'<g class="end"><rect x="{x}" y="{middle - 17}" width="{layout.box_w}" height="34" rx="17"/>'
        f'<text x="{x + layout.box_w / 2}" y="{middle + 4}" text-anchor="middle">{ENDS[name]}</text></g>'
    )


def _link(link: dict[str, Any], at: dict[str, tuple[int, int]], layout: Layout) -> str:
    """A line to the next box, or, at the end of a row, through the gutter to the next row."""
    (x0, y0), (x1, y1) = at[link["producer"]], at[link["consumer"]]
    middle = y0 + layout.box_h / 2
    right = x0 + layout.box_w
    if y0 == y1:
        path, text_x, text_y = f"M{right},{middle}H{x1 - 7}", (right + x1) / 2 - 2, middle
        head = _head(x1 - 1, middle, 0)
    else:
        gutter = y0 + layout.box_h + 25
        bottom, top = y0 + layout.box_h, y1
        out, into = x0 + layout.box_w / 2, x1 + layout.box_w / 2
        path = f"M{out},{bottom}V{gutter - 8}Q{out},{gutter} {out - 8},{gutter}H{into + 8}Q{into},{gutter} {into},{gutter + 8}V{top - 7}"
        if out == into:
            path = f"M{out},{bottom}V{top - 7}"
        text_x, text_y = (out + into) / 2, gutter
        head = _head(into, top - 1, 90)
    return f'<g class="link"><title>{escape(_spoken(link))}</title><path d="{path}"/>{head}{_words(link, text_x, text_y)}</g>'


def _arc(link: dict[str, Any], at: dict[str, tuple[int, int]], layout: Layout) -> str:
    """A side link. In one row an arc over the boxes between its ends; to the next row through the lower lane of the gutter; further down along the margin."""
    (x0, y0), (x1, y1) = at[link["producer"]], at[link["consumer"]]
    start, end, bottom, lane = x0 + layout.box_w * 0.75, x1 + layout.box_w * 0.25, y0 + layout.box_h, y1 - LANE
    if y0 == y1:
        path, x = f"M{start},{y0}C{start},{y0 - 36} {end},{y0 - 36} {end},{y0 - 7}", (start + end) / 2
        lane = y0 - 27
    elif y1 - y0 == layout.box_h + layout.gap_y:
        path, x = f"M{start},{bottom}V{lane}H{end}V{y1 - 7}", end + 58 if start >= end else end - 58
    else:
        path, x = f"M{start},{bottom}V{bottom + 12}H{MARGIN / 3:g}V{lane}H{end}V{y1 - 7}", end + 58
    text = f"{link['width_bits']} bit · {count(link['depth'])} deep"
    return (
        f'<g class="link side"><title>{escape(_spoken(link))}</title><path d="{path}"/>{_head(end, y1 - 1, 90)}'
        f'<text x="{x:.0f}" y="{lane - 5}" text-anchor="middle">{text}</text></g>'
    )


def _head(x: float, y: float, degrees: int) -> str:
    return f'<path class="head" d="M-7,-4L0,0L-7,4Z" transform="translate({x},{y}) rotate({degrees})"/>'


def _words(link: dict[str, Any], x: float, y: float) -> str:
    return (
        f'<text x="{x:.0f}" y="{y - 7:.0f}" text-anchor="middle">{link["width_bits"]} bit</text>'
        f'<text x="{x:.0f}" y="{y + 15:.0f}" text-anchor="middle">{count(link["depth"])} deep</text>'
    )


def _spoken(link: dict[str, Any]) -> str:
    lanes = f"{link['out_lanes']} × {link['format']['bits']} bit a beat"
    return f"{link['producer']} to {link['consumer']}: {shape(link['shape'])}, {lanes}, FIFO of {link['depth']} beats"


def side_links(links: Sequence[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Links at either end of `stage`, the chain's first."""
    return sorted((link for link in links if stage in (link["producer"], link["consumer"])), key=lambda link: (link["side"], link["producer"] == stage))
