"""What a plan takes of a device: the content of resources.json. All figures are the model's (hardware/cost.py), which `synth` holds against synthesis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpga_squeeze.hardware.cost import Resources, stage_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.goal import Found

RESOURCES = ("dsp", "bram18", "uram", "lut", "ff")


@dataclass(frozen=True)
class ResourceReport:
    """`used` by the whole machine, links and converters included; `stages`: (name, resources). `limits`: what the search may use; None without a device."""

    device: Device | None
    used: Resources
    limits: Resources | None
    stages: tuple[tuple[str, Resources], ...]
    bound_cycles: int
    gap: float

    def to_json(self) -> dict[str, Any]:
        """The content of resources.json."""
        device = None
        if self.device is not None and self.limits is not None:
            available = {name: getattr(self.device, name) for name in RESOURCES}
            device = {"name": self.device.name, "part": self.device.part, "available": available, "allowed": asdict(self.limits)}
        rows = [{"stage": name, **asdict(r)} for name, r in self.stages]
        search = {"bound_cycles": self.bound_cycles, "gap": round(self.gap, 6)} if self.bound_cycles else None
        return {"used": asdict(self.used), "device": device, "search": search, "stages": rows}

    def shares(self) -> tuple[tuple[str, int, int], ...]:
        """(resource, used, available) of the device; empty without one."""
        if self.device is None:
            return ()
        return tuple((name, getattr(self.used, name), getattr(self.device, name)) for name in RESOURCES)


def resources(found: Found, device: Device | None) -> ResourceReport:
    """The report of a search's result."""
    rows = tuple((s.name, stage_resources(s, device)) for s in found.plan.stages)
    return ResourceReport(device, found.resources, found.limits, rows, found.bound_cycles, found.gap)
