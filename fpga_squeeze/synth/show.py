"""What `synth` prints."""

from __future__ import annotations

from typing import Any

from fpga_squeeze.synth.result import CLOSE, EXACT, TOLERANCE, SynthResult
from fpga_squeeze.terminal import console, table

_TITLES = {"dsp": "DSP", "bram18": "18 Kb blocks", "uram": "URAM", "lut": "LUT", "ff": "flip-flops"}


def synth_text(result: SynthResult) -> None:
    """A row a stage: the model's estimate / the tool's result, and the ratio of the two where it may differ."""
    heads = ("stage", *_TITLES.values(), "LUT ratio", "FF ratio", "s", "")
    rows = []
    for row in result.rows:
        pairs = [f"{getattr(row.estimate, r):,} / {getattr(row.result, r):,}" for r in (*EXACT, *CLOSE)]
        ratios = ["-" if row.ratio(r) is None else f"{row.ratio(r):.2f}" for r in CLOSE]
        mark = "" if not result.compared else "ok" if row.ok else f"{', '.join(_TITLES[r] for r in row.failed)} off"
        rows.append((row.name, *pairs, *ratios, "cached" if row.cached else f"{row.seconds:.0f}", mark))
    out = console()
    out.print(table(f"Estimate / {result.version} for {result.target}", heads, rows, right=range(1, len(heads) - 1)))
    out.print(summary(result.to_json()))


def summary(body: dict[str, Any]) -> str:
    """One line on report/synthesis.json."""
    rows = body["rows"]
    if not body["compared"]:
        return f"{body['version']} for {body['target']}: {len(rows)} modules; another machine than the RTL, so no test of the model."
    good = sum(bool(row["ok"]) for row in rows)
    lut, ff = (body["estimate"][r] / max(1, body["result"][r]) for r in CLOSE)
    return (
        f"{body['version']} for {body['target']}: {good} of {len(rows)} modules within the bars (blocks equal, LUTs and flip-flops within "
        f"{100 * TOLERANCE:.0f}%); estimate / result over all: LUT {lut:.2f}, FF {ff:.2f}."
    )
