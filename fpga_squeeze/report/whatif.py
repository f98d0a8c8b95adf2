"""The what-if table: frame rates against devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fpga_squeeze.errors import CheckFailedError
from fpga_squeeze.hardware.devices import Device, load_devices
from fpga_squeeze.hardware.goal import Found, Goal
from fpga_squeeze.hardware.search import search
from fpga_squeeze.quantize.qgraph import QuantGraph

RATES = (30.0, 100.0, 300.0, 1000.0, 3000.0)


@dataclass(frozen=True)
class DeviceOutcome:
    """The fastest machine on a device, or one line that says why there is none."""

    device: Device
    found: Found | None
    reason: str

    @property
    def fps(self) -> float:
        """Frames a second of the fastest machine; 0 when the network does not fit."""
        return self.found.plan.clock_mhz * 1e6 / self.found.plan.interval_cycles if self.found else 0.0

    def to_json(self, rates: tuple[float, ...]) -> dict[str, Any]:
        """One row."""
        body: dict[str, Any] = {"name": self.device.name, "boards": list(self.device.boards), "fits": self.found is not None, "reason": self.reason or None}
        if self.found is not None:
            body |= {"fps": round(self.fps, 1), "multipliers": self.found.plan.multipliers, "used": asdict(self.found.resources)}
        body["reaches"] = {f"{rate:g}": self.fps >= rate for rate in rates}
        return body


@dataclass(frozen=True)
class WhatIf:
    """Every device's outcome, in the order of the device file."""

    clock_mhz: float
    utilisation: float
    rates: tuple[float, ...]
    rows: tuple[DeviceOutcome, ...]

    def to_json(self) -> dict[str, Any]:
        """{"clock_mhz", "utilisation", "rates", "devices": [...]}; a rate counts as reached when the fastest machine reaches it."""
        return {
            "clock_mhz": self.clock_mhz, "utilisation": self.utilisation, "rates": list(self.rates), "devices": [r.to_json(self.rates) for r in self.rows],
        }  # fmt: skip


def what_if(
    qgraph: QuantGraph, clock_mhz: float, utilisation: float, rates: tuple[float, ...] = RATES, progress: Callable[[int, int], None] = lambda done, total: None
) -> WhatIf:
    """Search the fastest machine on every known device at `clock_mhz` (at most the device's own usual clock)."""
    rows = []
    devices = load_devices()
    for i, device in enumerate(devices):
        progress(i, len(devices))
        goal = Goal(min(clock_mhz, float(device.max_clock_mhz)), None, None, utilisation, "auto")
        try:
            rows.append(DeviceOutcome(device, search(qgraph, goal, device), ""))
        except CheckFailedError as error:
            rows.append(DeviceOutcome(device, None, str(error)))
    progress(len(devices), len(devices))
    return WhatIf(clock_mhz, utilisation, rates, tuple(rows))
