"""Predicted performance of a plan, with what was measured beside it: the content of performance.json.

Latency is predicted from how far each stage runs behind the one before it: an engine or a pool with a KxK window sends its last output row about one
row of its own time after its last input row, a 1x1 engine about a pixel after its last input, the global sum one cycle a class:
latency = interval of the bottleneck + sum over the stages of cycles / OH (windowed), cycles / pixels (1x1), classes (sum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.cost import plan_dsp
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import ConvStage, ExpandStage, FoldPlan, JoinStage, PoolStage, Stage
from fpga_squeeze.quantize.qgraph import QuantGraph


@dataclass(frozen=True)
class StagePerformance:
    """One engine, or a stage without one (macs, multipliers, dsp and folds 0). An expand stage gives two entries; `cycles` is the engine's own."""

    name: str
    stage: str
    macs: int
    multipliers: int
    cycles: int
    p_oc: int
    p_ic: int
    p_k: int
    p_px: int
    packing: str
    utilisation: float
    """Share of the interval in which the stage works."""
    mac_efficiency: float
    """Share of the stage's multiplier cycles that do real work."""

    def to_json(self) -> dict[str, Any]:
        """The entry of performance.json."""
        return {
            "name": self.name, "stage": self.stage, "macs": self.macs, "multipliers": self.multipliers, "cycles": self.cycles,
            "p_oc": self.p_oc, "p_ic": self.p_ic, "p_k": self.p_k, "p_px": self.p_px, "packing": self.packing,
            "utilisation": round(self.utilisation, 4), "mac_efficiency": round(self.mac_efficiency, 4),
        }  # fmt: skip


@dataclass(frozen=True)
class Performance:
    """Cycles from the folds alone: interval_cycles is the slowest stage. mac_efficiency = macs / (multipliers x interval_cycles).

    `device_limit_fps`: what the device's DSP blocks, all of them busy every cycle, two 8-bit products each where the widths allow it, would reach.
    """

    macs: int
    multipliers: int
    dsp: int
    interval_cycles: int
    latency_cycles: int
    target_cycles: int
    clock_mhz: float
    bottleneck: str
    stages: tuple[StagePerformance, ...]
    device_limit_fps: float | None = None
    bound_cycles: int = 0

    @property
    def fps(self) -> float:
        """Frames a second, frames back to back."""
        return self.clock_mhz * 1e6 / self.interval_cycles

    @property
    def mac_efficiency(self) -> float:
        """Share of the multiplier cycles that do real work."""
        return self.macs / (self.multipliers * self.interval_cycles)

    @property
    def meets_target(self) -> bool:
        """False when a stage is slower than the target (a folding given by hand)."""
        return self.interval_cycles <= self.target_cycles

    def to_json(self) -> dict[str, Any]:
        """The content of performance.json. "measured" and "boards" are filled in by `verify --rtl` and `build`."""
        limit = None if self.device_limit_fps is None else {"fps": round(self.device_limit_fps, 3), "share": round(self.fps / self.device_limit_fps, 6)}
        return {
            "macs": self.macs, "multipliers": self.multipliers, "dsp": self.dsp, "interval_cycles": self.interval_cycles,
            "latency_cycles": self.latency_cycles, "latency_ms": round(self.latency_cycles / self.clock_mhz / 1e3, 6),
            "target_cycles": self.target_cycles, "meets_target": self.meets_target, "clock_mhz": self.clock_mhz, "fps": round(self.fps, 3),
            "mac_efficiency": round(self.mac_efficiency, 6), "bottleneck": self.bottleneck, "device_limit": limit,
            "stages": [s.to_json() for s in self.stages], "measured": None,
        }  # fmt: skip


def performance(plan: FoldPlan, qgraph: QuantGraph, device: Device | None = None, bound_cycles: int = 0) -> Performance:
    """Predicted performance. Raises InputError when `plan` does not compute all of `qgraph`'s multiply-accumulates."""
    if plan.macs != qgraph.macs:
        raise InputError(f"the plan computes {plan.macs} multiply-accumulates a frame, the network has {qgraph.macs}; fold this network again")
    bottleneck = max(plan.stages, key=lambda s: s.cycles)
    entries = tuple(entry for stage in plan.stages for entry in _entries(stage, plan.interval_cycles))
    limit = None
    if device is not None:
        per_dsp = 2 if all(e.weight_bits <= 8 and e.in_fmt.bits <= 8 for s in plan.stages for e in s.engines) else 1
        limit = plan.clock_mhz * 1e6 * device.dsp * per_dsp / plan.macs
    return Performance(
        plan.macs, plan.multipliers, plan_dsp(plan, device), plan.interval_cycles, predicted_latency(plan), plan.target_cycles, plan.clock_mhz,
        bottleneck.name, entries, limit, bound_cycles,
    )  # fmt: skip


def predicted_latency(plan: FoldPlan) -> int:
    """Cycles from the first pixel in to the last class sum out, by the module's formula; in a general plan along the longest way."""
    if not plan.general:
        return plan.interval_cycles + sum(_behind(s) for s in plan.stages)
    behind = {"s_axis": 0}
    for stage in plan.stages:
        behind[stage.name] = _behind(stage) + max(behind[link.producer] for link in (*plan.links, *plan.bypasses) if link.consumer == stage.name)
    return plan.interval_cycles + behind[plan.stages[-1].name]


def measured(body: dict[str, Any], rtl: dict[str, Any]) -> dict[str, Any]:
    """performance.json with an RTL simulation's figures ("rtl" of verification.json) beside the predicted ones."""
    keys = ("simulator", "frames", "interval_cycles", "latency_cycles", "fps", "mac_efficiency")
    return {**body, "measured": {key: rtl[key] for key in keys}}


def _behind(stage: Stage) -> int:
    if isinstance(stage, ConvStage):
        e = stage.engine
        return e.cycles // (e.out_shape[1] * e.out_shape[2]) * e.fold.p_px if e.pixel_buffered else e.cycles // e.out_shape[1]
    if isinstance(stage, ExpandStage):
        return stage.expand3x3.cycles // stage.expand3x3.out_shape[1]
    if isinstance(stage, PoolStage):
        return stage.cycles // stage.in_shape[1]
    if isinstance(stage, JoinStage):
        return 0  # it sends a beat as soon as the main stream brings one; what the bypass lacks then is less than a pixel
    return stage.in_shape[0]


def _entries(stage: Stage, interval: int) -> list[StagePerformance]:
    if not stage.engines:
        return [StagePerformance(stage.name, stage.name, 0, 0, stage.cycles, 0, 0, 0, 0, "none", stage.cycles / interval, 0.0)]
    found = []
    for e in stage.engines:
        cycles = e.cycles if isinstance(stage, ExpandStage) else stage.cycles
        f = e.fold
        found.append(
            StagePerformance(
                e.node, stage.name, e.macs, f.multipliers, cycles, f.p_oc, f.p_ic, f.p_k, f.p_px, e.packing, cycles / interval,
                e.macs / (f.multipliers * interval),
            )
        )  # fmt: skip
    return found
