"""What the page says of one stage when it is chosen in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpga_squeeze.report.html_pipeline import side_links
from fpga_squeeze.report.html_text import count, number_format, percent, shape, size, slug

KIND_NAMES = {"Conv": "convolution", "Expand": "expand pair on one line buffer", "Pool": "max pool", "GlobalSum": "global sum", "Add": "bypass addition"}


@dataclass(frozen=True)
class StagePanel:
    """Rows of (label, value); tables of engines, memories and links as rows of text."""

    name: str
    id: str
    kind: str
    slowest: bool
    facts: tuple[tuple[str, str], ...]
    engines: tuple[tuple[str, ...], ...]
    memories: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, ...], ...]
    layers: tuple[str, ...]


def panels(reports: dict[str, Any]) -> tuple[StagePanel, ...]:
    """One panel a stage, in stream order."""
    machine, performance = reports["machine"], reports["performance"]
    slowest = bottleneck_stage(performance)
    return tuple(_panel(stage, reports, machine, stage["name"] == slowest) for stage in machine["stages"])


def bottleneck_stage(performance: dict[str, Any]) -> str:
    """The stage that sets the interval; performance.json may name one of its engines."""
    name = performance["bottleneck"]
    return next((str(s["stage"]) for s in performance["stages"] if name in (s["name"], s["stage"])), str(name))


def _panel(stage: dict[str, Any], reports: dict[str, Any], machine: dict[str, Any], slowest: bool) -> StagePanel:
    name = stage["name"]
    entries = {s["name"]: s for s in reports["performance"]["stages"] if s["stage"] == name}
    facts = [
        ("takes in", shape(stage["in_shape"])), ("sends out", shape(stage["out_shape"])),
        ("cycles a frame", f"{count(stage['cycles'])} ({percent(stage['cycles'] / machine['interval_cycles'], 0)} of the interval)"),
        ("multipliers", count(stage["multipliers"])),
    ]  # fmt: skip
    used = next((r for r in reports["resources"]["stages"] if r["stage"] == name), None)
    if used:
        facts.append(("by the model", f"{count(used['dsp'])} DSP, {count(used['lut'])} LUTs, {count(used['ff'])} flip-flops, {count(used['bram18'])} × 18 Kb"
                      + (f", {count(used['uram'])} URAM" if used["uram"] else "")))  # fmt: skip
    compared = [c for c in (reports.get("verification") or {"checks": []})["checks"] if c["stage"] == name]
    facts.append(("verified", ", ".join(_check(c) for c in compared) if compared else "not run"))
    engines = []
    for e in stage["engines"]:
        entry = entries.get(e["node"])
        efficiency = f"{entry['mac_efficiency']:.3f}" if entry else "–"
        fold = f"{e['p_oc']} × {e['p_ic']} × {e['p_k']} × {e['p_px']}"
        packed = "two in a DSP" if e["packing"] != "none" else "one each"
        where = f"{e['weight_storage']}{', loaded' if e['loaded'] else ''}{', ' + coding_text(e) if 'weight_coding' in e else ''}"
        kernel = f"{e['kernel']}×{e['kernel']}" + (f" / {e['stride']}" if e["stride"] > 1 else "")
        engines.append((
            e["node"], kernel, fold, count(e["multipliers"]), packed, efficiency, f"{e['weight_bits']} bit, {where}", f"{e['acc_bits']} bit",
            number_format(e["out_format"]),
        ))  # fmt: skip
    layers = tuple(e["node"] for e in stage["engines"])
    return StagePanel(
        name, slug(name), KIND_NAMES.get(stage["kind"], stage["kind"]), slowest, tuple(facts), tuple(engines), _memories(name, reports), _links(name, reports),
        layers,
    )  # fmt: skip


def coding_text(engine: dict[str, Any]) -> str:
    """How coded weights are stored: "codebook, 4-bit indices", "sparse", "sparse-codebook, 5-bit indices"."""
    kind = str(engine["weight_coding"])
    return f"{kind}, {engine['stored_value_bits']}-bit indices" if "codebook" in kind else kind


def _check(check: dict[str, Any]) -> str:
    verdict = f"{count(check['mismatches'])} of {count(check['compared'])} differ" if check["mismatches"] else f"{count(check['compared'])} equal"
    return f"{check['implementation']} {verdict}"


def _memories(name: str, reports: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for r in reports["memory_budget"]["rows"]:
        if r["stage"] != name:
            continue
        blocks = f"{r['bram18']} × 18 Kb" if r["bram18"] else f"{r['uram']} URAM" if r["uram"] else f"{count(r['lutram_luts'])} LUTs"
        loss = percent(r["packing_loss_bits"] / (r["bits"] + r["packing_loss_bits"]), 0) if r["bram18"] or r["uram"] else "–"
        rows.append((r["name"], size(r["bits"] / 8), f"{r['width_bits']} × {r['depth']}" + (f" × {r['banks']}" if r["banks"] > 1 else ""), blocks, loss))
    return tuple(rows)


def _links(name: str, reports: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    rtl = (reports.get("verification") or {}).get("rtl") or {}
    marks = {m["link"]: m for m in rtl.get("fifos", [])}
    rows = []
    for link in side_links(reports["machine"]["links"], name):
        mark = marks.get(link["name"])
        filled = f"{count(mark['high_water'])} of {count(mark['depth'])}" if mark else "–"
        ends = f"{link['producer']} → {link['consumer']}" + (" (bypass)" if link["side"] else "")
        rows.append((ends, shape(link["shape"]), f"{link['out_lanes']} × {link['format']['bits']} bit", count(link["depth"]), filled))
    return tuple(rows)
