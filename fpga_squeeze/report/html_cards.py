"""The four answers on top of the page: does it fit, how fast, how accurate, is it proven. A card never claims more than a report says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.report.html_layers import shown_layers
from fpga_squeeze.report.html_text import count, percent, rate, size

Reports = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """`state` gives the colour: "good", "bad", "part" (some of it is known) or "none" (not run). `figure` and `unit` are the one number, `lines` the rest.

    `command`: what to run to know more, None when there is nothing left.
    """

    title: str
    state: str
    verdict: str
    figure: str
    unit: str
    lines: tuple[str, ...]
    command: str | None = None
    share: float | None = None


def cards(reports: Reports) -> tuple[Card, ...]:
    """The four cards, from the reports by name; a missing report is None."""
    return (
        fits(reports["memory_budget"], reports["resources"], reports.get("synthesis")), speed(reports["performance"]),
        accuracy(reports.get("accuracy"), shown_layers(reports)), proven(reports.get("verification"), reports["machine"]),
    )  # fmt: skip


def fits(memory: dict[str, Any], resources: dict[str, Any], synthesis: dict[str, Any] | None) -> Card:
    """Bytes against the budget and, with a device, its scarcest resource by the model."""
    device, used = resources["device"], resources["used"]
    share = memory["total_bytes"] / memory["budget_bytes"]
    lines = []
    over: list[str] = []
    if device:
        available = device["available"]
        over = [NAMES[n] for n in NAMES if used[n] > available[n]]
        scarcest = max((n for n in NAMES if available[n]), key=lambda n: used[n] / available[n])
        lines.append(f"{device['name']}: {percent(used[scarcest] / available[scarcest], 0)} of its {NAMES[scarcest]}, its scarcest resource, by the model")
    else:
        lines.append(f"{count(used['bram18'])} blocks of 18 Kb; no device was named to hold them against")
    if synthesis:
        lines.append(f"{synthesis['tool']} for {synthesis['target']}: {count(synthesis['result']['lut'])} LUTs, {count(synthesis['result']['dsp'])} DSP blocks")
    else:
        lines.append("Not synthesized: LUTs and flip-flops are the model's")
    ok = memory["fits"] and not over
    verdict = "Does not fit" if not ok else f"Fits {device['name']}" if device else "Fits the budget"
    return Card(
        "Fits", "good" if ok else "bad", verdict, size(memory["total_bytes"]), f"of {size(memory['budget_bytes'])} on chip, {percent(share)}",
        tuple(lines), None if synthesis else "fpga-squeeze synth OUT", share,
    )  # fmt: skip


def speed(performance: dict[str, Any]) -> Card:
    """Frames a second, measured in RTL simulation where that was done."""
    measured = performance["measured"]
    best = measured or performance
    lines = [f"{count(best['interval_cycles'])} cycles between frames at {performance['clock_mhz']:g} MHz, set by {performance['bottleneck']}"]
    if measured:
        lines.append(f"Predicted: {rate(performance['fps'])} frames/s")
    lines.append(f"First result after {best['latency_cycles'] / performance['clock_mhz'] / 1e3:.2f} ms")
    limit = performance["device_limit"]
    if limit:
        lines.append(f"{percent(best['fps'] / limit['fps'], 0)} of what all DSP blocks of the device could do")
    if not performance["meets_target"]:
        return Card("Speed", "bad", "Misses the target", rate(best["fps"]), "frames/s", tuple(lines))
    verdict = f"Measured in {measured['simulator'].title()}" if measured else "Predicted, not measured"
    command = None if measured else "fpga-squeeze verify OUT --rtl"
    return Card("Speed", "good" if measured else "part", verdict, rate(best["fps"]), "frames/s", tuple(lines), command)


def accuracy(measured: dict[str, Any] | None, layers: list[dict[str, Any]]) -> Card:
    """Top-1 of the fixed-point machine beside the float network's; without an evaluation the weakest layer's SQNR."""
    lowest = min(layers, key=lambda row: row["sqnr_db"]) if layers else None
    noise = () if lowest is None else (f"Lowest signal-to-noise ratio: {lowest['sqnr_db']:.1f} dB at {lowest['name']}",)
    if measured is None:
        return Card("Accuracy", "none", "Not measured", "–", "top-1, no labelled images yet", noise, "fpga-squeeze evaluate OUT IMAGES")
    lost = measured["float"]["top1"] - measured["fixed"]["top1"]
    verdict = "Top-1 equal to float" if abs(lost) < 1e-9 else f"{abs(lost):.1f} points {'below' if lost > 0 else 'above'} float"
    lines = (
        f"Float {measured['float']['top1']:.1f}%; top-5 {measured['fixed']['top5']:.1f}% against {measured['float']['top5']:.1f}%",
        f"Same class as float on {measured['agreement_top1']:.1f}% of {count(measured['count'])} images", *noise,
    )  # fmt: skip
    return Card("Accuracy", "good" if lost <= 1.0 else "part", verdict, f"{measured['fixed']['top1']:.1f}%", "top-1, fixed point", lines)


def proven(verification: dict[str, Any] | None, machine: dict[str, Any]) -> Card:
    """Values compared with the golden simulator, over all implementations that ran."""
    if verification is None or not verification["checks"]:
        return Card("Proven", "none", "Not run", "–", "values compared", ("Nothing was held against the golden simulator yet",), "fpga-squeeze verify OUT")
    checks = verification["checks"]
    compared, wrong = sum(c["compared"] for c in checks), sum(c["mismatches"] for c in checks)
    ran = {c["implementation"] for c in checks}
    stages = {s["name"] for s in machine["stages"]}
    covered = {name for name in ran if stages <= {c["stage"] for c in checks if c["implementation"] == name}}
    hls, rtl = "hls" in covered, bool(covered & {"verilator", "icarus"})
    frames = verification["frames"]
    lines = ["HLS C++ and RTL, every stage"]
    if not hls or not rtl:
        done, missing = ("HLS C++", "RTL") if hls else ("RTL", "HLS C++") if rtl else ("The simulators", "HLS C++ and RTL")
        lines = [f"{done}, every stage; {missing} not run"]
    lines.append(f"{count(len(checks))} checks of {count(len(ran))} implementations on {frames} frame{'' if frames == 1 else 's'}")
    if not verification["ok"]:
        first = next((f"{c['stage']} of {c['implementation']} differs" for c in checks if c["mismatches"]), None)
        reason = first or next(iter(verification["faults"]), "a check compared nothing")
        return Card("Proven", "bad", "Not equal", count(wrong), f"of {count(compared)} values differ", (reason, *lines))
    command = None if hls and rtl else f"fpga-squeeze verify OUT --{'rtl' if hls else 'hls'}" if hls or rtl else "fpga-squeeze verify OUT"
    verdict = "Equal, bit by bit" if hls and rtl else "Equal as far as run"
    return Card("Proven", "good" if hls and rtl else "part", verdict, count(compared), "values compared, 0 differ", tuple(lines), command)
