"""Predicted performance of a plan: the content of performance.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.cost import plan_dsp
from fpga_squeeze.hardware.plan import ExpandStage, FoldPlan, Stage
from fpga_squeeze.quantize.qgraph import QuantGraph


@dataclass(frozen=True)
class StagePerformance:
    """One engine, or a stage without one (macs, multipliers and folds 0). An expand stage gives two entries; `cycles` is the engine's own."""

    name: str
    stage: str
    macs: int
    multipliers: int
    cycles: int
    p_oc: int
    p_ic: int
    p_k: int

    def to_json(self) -> dict[str, Any]:
        """The entry of performance.json."""
        return {
            "name": self.name, "stage": self.stage, "macs": self.macs, "multipliers": self.multipliers, "cycles": self.cycles,
            "p_oc": self.p_oc, "p_ic": self.p_ic, "p_k": self.p_k,
        }  # fmt: skip


@dataclass(frozen=True)
class Performance:
    """Cycles from the folds alone: interval_cycles is the slowest stage. mac_efficiency = macs / (multipliers x interval_cycles)."""

    macs: int
    multipliers: int
    dsp: int
    interval_cycles: int
    target_cycles: int
    clock_mhz: float
    bottleneck: str
    stages: tuple[StagePerformance, ...]

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
        """False when even the fullest folds leave a stage slower than the target."""
        return self.interval_cycles <= self.target_cycles

    def to_json(self) -> dict[str, Any]:
        """The content of performance.json."""
        return {
            "macs": self.macs, "multipliers": self.multipliers, "dsp": self.dsp, "interval_cycles": self.interval_cycles,
            "target_cycles": self.target_cycles, "meets_target": self.meets_target, "clock_mhz": self.clock_mhz, "fps": round(self.fps, 3),
            "mac_efficiency": round(self.mac_efficiency, 6), "bottleneck": self.bottleneck, "stages": [s.to_json() for s in self.stages],
        }  # fmt: skip


def performance(plan: FoldPlan, qgraph: QuantGraph) -> Performance:
    """Predicted performance. Raises InputError when `plan` does not compute all of `qgraph`'s multiply-accumulates."""
    if plan.macs != qgraph.macs:
        raise InputError(f"the plan computes {plan.macs} multiply-accumulates a frame, the network has {qgraph.macs}; fold this network again")
    bottleneck = max(plan.stages, key=lambda s: s.cycles)
    entries = tuple(entry for stage in plan.stages for entry in _entries(stage))
    return Performance(plan.macs, plan.multipliers, plan_dsp(plan), plan.interval_cycles, plan.target_cycles, plan.clock_mhz, bottleneck.name, entries)


def _entries(stage: Stage) -> list[StagePerformance]:
    if not stage.engines:
        return [StagePerformance(stage.name, stage.name, 0, 0, stage.cycles, 0, 0, 0)]
    return [
        StagePerformance(
            e.node, stage.name, e.macs, e.fold.multipliers, e.cycles if isinstance(stage, ExpandStage) else stage.cycles, e.fold.p_oc, e.fold.p_ic, e.fold.p_k
        )
        for e in stage.engines
    ]
