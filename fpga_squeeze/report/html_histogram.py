"""A histogram of histograms.json as a small SVG: counts on a log scale, the format's limits marked, what they clip in another colour."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Any

WIDTH, HEIGHT, BASE = 170, 66, 44


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
        middle = low + (i + 0.5) * step
        height = max(1.0, BASE * log10(1 + n) / top)
        (inside if ends[0] <= middle <= ends[1] else outside).append(f"M{(middle - left) * scale:.1f},{BASE + 2}v{-height:.1f}")
    marks = [
        f'<path class="limit" d="M{(end - left) * scale:.1f},0V{BASE + 6}"/>'
        for end in ends
        if left <= end <= right and (end != 0.0 or low < 0.0)
    ]
    width = f"{max(0.8, step * scale - 0.4):.1f}"
    label = f"{unit} from {low:.4g} to {high:.4g}; the format holds {ends[0]:.4g} to {ends[1]:.4g}; {100 * body['clipped']:.3f}% outside"
    return (
        f'<svg class="hist" viewBox="-2 0 {WIDTH + 4} {HEIGHT}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f'<path class="axis" d="M0,{BASE + 2.5}H{WIDTH}"/><path class="in" stroke-width="{width}" d="{"".join(inside)}"/>'
        f'<path class="out" stroke-width="{width}" d="{"".join(outside)}"/>{"".join(marks)}'
        f'<text x="0" y="{HEIGHT - 3}">{left:.4g}</text><text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{right:.4g}</text></svg>'
    )
