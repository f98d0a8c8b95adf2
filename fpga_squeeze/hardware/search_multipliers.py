"""Folding search without a device: only multipliers count, so every stage takes the fewest that are fast enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, inf

from fpga_squeeze.errors import CheckFailedError
from fpga_squeeze.hardware.candidates import least_multipliers
from fpga_squeeze.hardware.chain import cheapest_chain
from fpga_squeeze.hardware.cost import plan_resources
from fpga_squeeze.hardware.goal import Found, Goal
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.structure import Skeleton, all_loaded
from fpga_squeeze.quantize.qgraph import QuantGraph

DEFAULT_FPS = 500.0

SLACK = 0.1
MORE_MULTIPLIERS = 0.06
"""A machine may be up to SLACK faster than asked for, where that leaves fewer multipliers idle and takes at most MORE_MULTIPLIERS more of them than the
rate needs (the best MAC efficiency in that range is taken)."""

PIXELS = (1, 2, 3, 4)
PIXEL_GAIN = 0.01
"""Without a device several pixels at a time, a copy of the line buffer each, are used where they save at least this share of the multipliers."""


def without_device(qgraph: QuantGraph, skeleton: Skeleton, goal: Goal) -> Found:
    """The machine for a rate or a number of multipliers; raises CheckFailedError when the goal cannot be met."""
    pixels: tuple[int, ...] = (1,)
    if goal.max_dsp is not None:
        target, pixels = _fastest_multipliers(qgraph, skeleton, goal.max_dsp)
        if goal.target_fps is not None:
            wanted = int(goal.clock_mhz * 1e6 / goal.target_fps)
            if target > wanted:
                best = goal.clock_mhz * 1e6 / target
                raise CheckFailedError(
                    f"{goal.target_fps:g} frames/s at {goal.clock_mhz:g} MHz need more than the {goal.max_dsp} multipliers of --max-dsp; "
                    f"they reach {floor(best)} frames/s; raise --max-dsp or the clock, or ask for less"
                )
            target = wanted
    else:
        target = int(goal.clock_mhz * 1e6 / (goal.target_fps or DEFAULT_FPS))
        check_rate(qgraph, skeleton, target, goal.clock_mhz)
    chosen = target
    if goal.max_dsp is None or goal.target_fps is not None:
        chosen, pixels = _most_efficient(qgraph, skeleton, target)
    stages = cheapest_chain(skeleton, chosen, qgraph.input.shape[0], pixels)
    if goal.weights == "loaded":
        stages = tuple(all_loaded(s) for s in stages)
    plan = assemble(qgraph, skeleton, stages, goal.clock_mhz, target)
    return Found(plan, plan_resources(plan, None), None, 0)


def check_rate(qgraph: QuantGraph, skeleton: Skeleton, target: int, clock_mhz: float) -> None:
    """Raise CheckFailedError, naming the stage and the highest rate, when a stage has no fold for `target` cycles however much is spent."""
    _, height, width = qgraph.input.shape
    if height * width > target:
        raise CheckFailedError(
            f"the target leaves {target} cycles a frame at {clock_mhz:g} MHz, but the {height}x{width} image alone takes {height * width}, one pixel a "
            f"cycle; ask for at most {int(clock_mhz * 1e6 / (height * width))} frames/s or raise the clock"
        )
    slowest = (0, "")
    for i, stage in enumerate(skeleton.stages):
        lanes = qgraph.input.shape[0] if i == 0 else None
        low = high = target
        while least_multipliers(stage, high, (1,), lanes) is None:
            low, high = high, 2 * high
        if high > target:
            needed = _bisect(low, high, lambda t, s=stage, n=lanes: least_multipliers(s, t, (1,), n) is not None)  # type: ignore[misc]
            slowest = max(slowest, (needed, stage.name))
    if slowest[0]:
        raise CheckFailedError(
            f"stage {slowest[1]} needs at least {slowest[0]} cycles a frame, the target leaves {target} at {clock_mhz:g} MHz; "
            f"ask for at most {floor(clock_mhz * 1e6 / slowest[0])} frames/s or raise the clock"
        )


def _bisect(low: int, high: int, possible: Callable[[int], bool]) -> int:
    """Smallest value in (low, high] for which `possible`, given that it holds for `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if possible(middle) else (middle, high)
    return high


@dataclass
class _Totals:
    """Multipliers and interval of the whole network, every stage with its fewest multipliers. What a stage needs is kept: it holds for every number of
    cycles between the one asked for and the one its fold takes."""

    qgraph: QuantGraph
    skeleton: Skeleton
    pixels: tuple[int, ...]

    def __post_init__(self) -> None:
        self._known: list[tuple[int, int, int] | None] = [None] * len(self.skeleton.stages)

    def at(self, target: int) -> tuple[int, int] | None:
        """(multipliers, interval) for at most `target` cycles; None when a stage cannot meet it."""
        multipliers = interval = 0
        for i, stage in enumerate(self.skeleton.stages):
            known = self._known[i]
            if known is None or not known[2] <= target <= known[0]:
                found = least_multipliers(stage, target, self.pixels, self.qgraph.input.shape[0] if i == 0 else None)
                if found is None:
                    return None
                known = self._known[i] = (target, *found)
            multipliers, interval = multipliers + known[1], max(interval, known[2])
        return multipliers, interval


def _most_efficient(qgraph: QuantGraph, skeleton: Skeleton, target: int) -> tuple[int, tuple[int, ...]]:
    """The number of cycles in [(1 - SLACK) * target, target] at which multipliers x interval is smallest, and the pixels at a time that it takes.

    Totals change only where a stage's fold no longer suffices, just below the interval: every machine of the range is looked at.
    """
    results: list[tuple[float, int]] = []
    for pixels in ((1,), PIXELS):
        totals, tried = _Totals(qgraph, skeleton, pixels), target
        best: tuple[float, int] = (inf, target)
        least = totals.at(target)
        while least is not None and tried >= (1 - SLACK) * target:
            found = totals.at(tried)
            if found is None or found[0] > (1 + MORE_MULTIPLIERS) * least[0]:
                break
            if found[1] > tried:
                raise AssertionError(f"a machine of {found[1]} cycles was found for {tried}")
            best = min(best, (found[0] * found[1], tried), key=lambda b: (b[0], -b[1]))
            tried = found[1] - 1
        results.append(best)
    one, several = results
    return (several[1], PIXELS) if several[0] < (1 - PIXEL_GAIN) * one[0] else (one[1], (1,))


def _fastest_multipliers(qgraph: QuantGraph, skeleton: Skeleton, most: int) -> tuple[int, tuple[int, ...]]:
    """Fewest cycles a frame with at most `most` multipliers, and the pixels at a time that it takes."""
    one_each = sum(e.macs for s in skeleton.stages for e in s.engines) * 2
    _, height, width = qgraph.input.shape

    def fastest(pixels: tuple[int, ...]) -> int:
        totals = _Totals(qgraph, skeleton, pixels)
        return _bisect(height * width - 1, one_each, lambda target: (totals.at(target) or (most + 1,))[0] <= most)

    least = _Totals(qgraph, skeleton, (1,)).at(one_each)
    if least is None or least[0] > most:
        needed = least[0] if least else 0
        raise CheckFailedError(f"--max-dsp {most}: the network has {needed} multipliers even with the smallest fold of every engine; allow at least as many")
    one, several = fastest((1,)), fastest(PIXELS)
    return (several, PIXELS) if several < (1 - PIXEL_GAIN) * one else (one, (1,))
