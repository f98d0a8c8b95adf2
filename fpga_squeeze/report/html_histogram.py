"""A histogram of histograms.json as a small SVG: counts on a log scale, the format's limits marked, what they clip in another colour."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Any

WIDTH, HEIGHT, BASE = 232, 64, 46


def histogram_svg(body: dict[str, Any], unit: str) -> str:
    """`unit`: what the axis counts, for the screen reader."""
    low, high, counts = float(body["low"]), float(body["high"]), body["counts"]
    ends = float(body["format_low"]), float(body["format_high"])
    # The axis shows the whole of the data and, of a much wider format, no more than half as much again.
    left, right = min(low, max(ends[0], 1.5 * low)), max(high, min(ends[1], 1.5 * high))
    if right <= left:
        left, right = left - 1.0, left + 1.0
    scale = WIDTH / (right - left)
    step = (high - low) / len(counts)
    top = log10(1 + max(counts)) or 1.0
    inside: list[str] = []
    outside: list[str] = []
    for i, n in enumerate(counts):
        if not n:
            continue
        x0, x1 = (low + i * step - left) * scale, (low + (i + 1) * step - left) * scale
        height = max(1.0, BASE * log10(1 + n) / top)
        bar = f"M{x0:.1f},{BASE + 2}v{-height:.1f}h{max(0.6, x1 - x0 - 0.4):.1f}v{height:.1f}z"
        middle = low + (i + 0.5) * step
        (inside if ends[0] <= middle <= ends[1] else outside).append(bar)
    marks = [
        f'<path class="limit" d="M{(end - left) * scale:.1f},0V{BASE + 6}"/>'
        for end in ends
        if left <= end <= right and (end != 0.0 or low < 0.0)
    ]
    label = f"{unit} from {low:.4g} to {high:.4g}; the format holds {ends[0]:.4g} to {ends[1]:.4g}; {100 * body['clipped']:.3f}% outside"
    return (
        f'<svg class="hist" viewBox="-2 0 {WIDTH + 4} {HEIGHT}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f'<path class="axis" d="M0,{BASE + 2.5}H{WIDTH}"/><path class="in" d="{"".join(inside)}"/><path class="out" d="{"".join(outside)}"/>{"".join(marks)}'
        f'<text x="0" y="{HEIGHT - 3}">{left:.4g}</text><text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{right:.4g}</text></svg>'
    )
