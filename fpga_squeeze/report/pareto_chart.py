"""The chart of `fpga-squeeze pareto`: stored weights against points of top-1 lost, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 56
INK, GRID, MARK, BAND = "#1f2933", "#d9e0e6", "#0b6e99", "#9cc7d9"


def pareto_svg(points: Sequence[tuple[str, int, float, float | None]], *, measured: bool) -> str:
    """(name, stored bytes, points lost, half the 95% interval or None) of each point -> an SVG document; sizes to the right, losses upwards."""
    kilobytes = [stored / 1000 for _, stored, _, _ in points]
    ends = [v for _, _, lost, margin in points for v in (lost - (margin or 0.0), lost + (margin or 0.0))]
    step_x, step_y = _step(max(kilobytes) - min(kilobytes) * 0.5), _step(max(max(ends), 1.0) - min(min(ends), 0.0))
    low_x, high_x = floor(min(kilobytes) * 0.9 / step_x) * step_x, ceil(max(kilobytes) * 1.02 / step_x) * step_x
    low_y, high_y = (floor(min(min(ends), 0.0) / step_y) - 1) * step_y, ceil(max(max(ends), 1.0) / step_y) * step_y

    def x(value: float) -> str:
        return f"{LEFT + (value - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - BOTTOM - (value - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM):.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for i in range(round((high_x - low_x) / step_x) + 1):
        value = low_x + i * step_x
        lines += [f'<path d="M{x(value)} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>']
        lines += [f'<text x="{x(value)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>']
    for i in range(round((high_y - low_y) / step_y) + 1):
        value = low_y + i * step_y
        lines += [f'<path d="M{LEFT} {y(value)}H{WIDTH - RIGHT}" stroke="{INK if abs(value) < 1e-9 else GRID}"/>']
        lines += [f'<text x="{LEFT - 8}" y="{float(y(value)) + 4:.1f}" text-anchor="end">{round(value, 6):g}</text>']
    what = "lost, with 95% interval" if measured else "expected to be lost"
    lines += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 14}" text-anchor="middle">weights as stored, kB</text>',
        f'<text x="16" y="{(TOP + HEIGHT - BOTTOM) / 2:.0f}" text-anchor="middle" transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:.0f})">'
        f"points of top-1 {what}</text>",
    ]
    ordered = sorted(zip(kilobytes, points, strict=True), key=lambda p: p[0])
    lines += [f'<path d="M{"L".join(f"{x(kb)} {y(p[2])}" for kb, p in ordered)}" fill="none" stroke="{BAND}" stroke-width="2"/>']
    for i, (kb, (name, _, lost, margin)) in enumerate(ordered):
        if margin is not None:
            lines += [f'<path d="M{x(kb)} {y(lost - margin)}V{y(lost + margin)}" stroke="{BAND}" stroke-width="4" stroke-linecap="round"/>']
        lines += [f'<circle cx="{x(kb)}" cy="{y(lost)}" r="5" fill="{MARK}"/>']
        # Above and below in turn, so that neighbours do not run into each other; beside an interval, not on it.
        at, anchor = (float(x(kb)), "middle") if margin is None else (float(x(kb)) + 8, "start")
        lines += [f'<text x="{at:.1f}" y="{float(y(lost)) + (22 if i % 2 else -12):.1f}" text-anchor="{anchor}">{escape(name)}</text>']
    return "\n".join([*lines, "</svg>"]) + "\n"


def _step(span: float) -> float:
    """A round distance of grid lines: at most eight of them in `span`."""
    power = 1.0
    while power * 8 < span:
        power *= 10
    while power * 0.8 >= span:
        power /= 10
    return next(power * m for m in (0.1, 0.2, 0.5, 1.0) if power * m * 8 >= span)
