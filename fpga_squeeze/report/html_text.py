"""Numbers and names as the report pages show them."""

from __future__ import annotations

import re
from collections.abc import Sequence

KINDS = {"weights": "weights", "bias": "biases", "line_buffers": "line buffers", "fifos": "FIFOs"}
"""Kinds of memory, as memory_budget.json calls them and as they are called on the page."""


def slug(name: str) -> str:
    """A name as an HTML id.

    >>> slug("fire2.squeeze")
    'fire2-squeeze'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def count(value: float | None) -> str:
    """An integer with thousands apart; a dash where there is none.

    >>> count(394272), count(None)
    ('394,272', '–')
    """
    return "–" if value is None else f"{value:,.0f}"


def size(n_bytes: float) -> str:
    """Bytes in decimal units, as the budget counts them.

    >>> size(999), size(36_000), size(1_427_214)
    ('999 B', '36.0 kB', '1.427 MB')
    """
    if n_bytes < 1000:
        return f"{n_bytes:.0f} B"
    return f"{n_bytes / 1000:.1f} kB" if n_bytes < 1_000_000 else f"{n_bytes / 1_000_000:.3f} MB"


def rate(fps: float) -> str:
    """Frames a second, one decimal where it tells something.

    >>> rate(507.267), rate(21258.503)
    ('507.3', '21,259')
    """
    return f"{fps:,.1f}" if fps < 10_000 else f"{fps:,.0f}"


def percent(share: float, digits: int = 1) -> str:
    """A share of one in percent; a small share that is not nothing never shows as 0.

    >>> percent(0.1427), percent(0.00001), percent(0.0)
    ('14.3%', '<0.1%', '0.0%')
    """
    text = f"{100 * share:.{digits}f}%"
    return f"<{10.0**-digits:.{digits}f}%" if share > 0 and float(text[:-1]) == 0.0 else text


def shape(dims: Sequence[int]) -> str:
    """(channels, height, width).

    >>> shape((64, 111, 111))
    '64 × 111 × 111'
    """
    return " × ".join(str(d) for d in dims)


def number_format(fmt: dict[str, int | bool]) -> str:
    """A tensor format: width, sign and fraction bits.

    >>> number_format({"bits": 8, "frac": 5, "signed": False})
    'uint8 · 2⁻⁵'
    """
    power = str(-int(fmt["frac"])).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'int' if fmt['signed'] else 'uint'}{fmt['bits']} · 2{power}"
