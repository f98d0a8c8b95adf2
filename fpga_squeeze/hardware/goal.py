"""What a folding search is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.candidates import WEIGHTS
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.plan import FoldPlan


@dataclass(frozen=True)
class Goal:
    """What to build. No `target_fps`: as fast as the device or `max_dsp` allows (DEFAULT_FPS where neither is given). `utilisation`: share of each of
    the device's resources that may be used. `weights`: rom, loaded or auto (candidates.py). `weight_storage`: how they are
    stored (weight_choice.py)."""

    clock_mhz: float = 200.0
    target_fps: float | None = None
    max_dsp: int | None = None
    utilisation: float = 0.85
    weights: str = "auto"
    weight_storage: str = "dense"

    def __post_init__(self) -> None:
        if not 0 < self.clock_mhz < inf or not (self.target_fps is None or 0 < self.target_fps < inf):
            raise InputError(f"clock and target must be positive numbers, got {self.clock_mhz} MHz and {self.target_fps} frames/s")
        if not 0 < self.utilisation <= 1:
            raise InputError(f"--utilisation: a share above 0 and up to 1 was expected, got {self.utilisation:g}")
        if self.max_dsp is not None and self.max_dsp < 1:
            raise InputError(f"--max-dsp: at least 1 was expected, got {self.max_dsp}")
        if self.weights not in WEIGHTS:
            raise InputError(f"--weights: one of {', '.join(WEIGHTS)} was expected, got {self.weights!r}")


@dataclass(frozen=True)
class Found:
    """A plan that has passed `verify_plan`, and what it takes. `limits`: what it may take (None without a device).

    `bound_cycles`: no plan of the search's choices needs fewer (0 where the goal was a rate, which is met, not beaten).
    """

    plan: FoldPlan
    resources: Resources
    limits: Resources | None
    bound_cycles: int

    @property
    def gap(self) -> float:
        """Share by which the interval exceeds the bound."""
        return self.plan.interval_cycles / self.bound_cycles - 1 if self.bound_cycles else 0.0
