"""One choice a stage, with every resource of the device within its limit: a multiple-choice knapsack along a chain, converters included.

For prices p >= 0 of the resources the cheapest chain is found exactly by dynamic programming (what joins two stages depends on those two only). If even
the cheapest chain costs more than the limits are worth, p * usage > p * limits, then no chain fits: a proof. Otherwise the prices of what is exceeded
rise (multiplicative weights, the standard method for packing programs: Plotkin, Shmoys, Tardos 1995) until a chain fits, the proof succeeds, or
ROUNDS are over; then swaps of single stages try to repair the chain that was nearest, and what is still open is decided by branch and bound (exact.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.hardware.candidates import Choice, cost_table
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.exact import solve

ROUNDS = 60
RATE = 0.35
SWAPS = 60

Vector = NDArray[np.float64]
Join = Callable[[int, int, int], Resources]
"""(index of the link, lanes in, lanes out) -> what its converter takes; link 0 comes before stage 0."""


@dataclass(frozen=True)
class Verdict:
    """`chain`: index of the choice of every stage, None when none was found; `impossible`: proven that none fits."""

    chain: tuple[int, ...] | None
    usage: Vector
    impossible: bool


class Knapsack:
    """The choices of every stage, in stream order. Arrays over resources have the order DSP, 18 Kb blocks, URAM, LUT, FF."""

    def __init__(self, options: list[tuple[Choice, ...]], image_lanes: int, join: Join) -> None:
        self.options = options
        self.tables = [cost_table([c.resources for c in stage], [0] * len(stage))[:, :5] for stage in options]
        self._joins: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        for i, stage in enumerate(options):
            before = np.array([c.out_lanes for c in options[i - 1]]) if i else np.array([image_lanes])
            after = np.array([c.in_lanes for c in stage])
            outs, out_index = np.unique(before, return_inverse=True)
            ins, in_index = np.unique(after, return_inverse=True)
            costs = np.array([[_row(join(i, int(a), int(b))) for b in ins] for a in outs], dtype=np.float64)
            self._joins.append((out_index, in_index, costs))

    def usage(self, chain: tuple[int, ...]) -> Vector:
        """float64 (5,): what the chain takes, converters included."""
        total = sum((t[c] for t, c in zip(self.tables, chain, strict=True)), np.zeros(5))
        for i, c in enumerate(chain):
            total = total + self._join(i, chain[i - 1] if i else 0, c)
        return np.asarray(total)

    def cheapest(self, prices: Vector) -> tuple[int, ...]:
        """The chain with the least prices * usage; of equals the first."""
        totals: list[Vector] = []
        came: list[NDArray[np.int64]] = []
        for i, table in enumerate(self.tables):
            outs, ins, costs = self._joins[i]
            step = (costs @ prices)[outs][:, ins]
            if i:
                step = step + totals[-1][:, None]
            came.append(step.argmin(axis=0))
            totals.append(step.min(axis=0) + table @ prices)
        at = int(totals[-1].argmin())
        chain = []
        for i in reversed(range(len(self.tables))):
            chain.append(at)
            at = int(came[i][at])
        return tuple(chain[::-1])

    def fit(self, limits: Vector, worth: Vector) -> Verdict:
        """A chain within `limits`, little of `worth` (prices a unit) if possible: exact where the cheapest chain fits, else improved by swaps."""
        limits = np.floor(limits)  # what is used comes in whole blocks
        weights = np.ones(5)
        scale = _scale(limits)
        nearest: tuple[float, tuple[int, ...]] | None = None
        for n in range(ROUNDS):
            prices = worth if n == 0 else weights * scale
            chain = self.cheapest(prices)
            usage = self.usage(chain)
            if (usage <= limits).all():
                return self._improved(chain, limits, worth)
            if prices @ usage > prices @ limits * (1 + 1e-9):
                return Verdict(None, usage, impossible=True)
            excess = usage * scale - 1.0
            short = float(excess.clip(0).sum())
            if nearest is None or short < nearest[0]:
                nearest = (short, chain)
            weights = weights * np.exp((RATE / (1 + n / 25)) * np.clip(excess, -1.0, 1.0))
            weights = weights / weights.max()
        assert nearest is not None
        repaired = self._repaired(nearest[1], limits)
        if repaired is None:
            exact = solve(self.tables, self._joins, limits)
            if exact.chain is None or not (self.usage(exact.chain) <= limits).all():  # HiGHS takes a row as kept within its tolerance
                return Verdict(None, self.usage(nearest[1]), exact.impossible)
            repaired = exact.chain
        return self._improved(repaired, limits, worth)

    def _join(self, link: int, before: int, after: int) -> Vector:
        outs, ins, costs = self._joins[link]
        return np.asarray(costs[outs[before], ins[after]])

    def _swaps(self, chain: tuple[int, ...], usage: Vector, i: int) -> Vector:
        """float64 (choices of stage i, 5): usage of the chain with stage i exchanged."""
        old = self.tables[i][chain[i]] + self._join(i, chain[i - 1] if i else 0, chain[i])
        outs, ins, costs = self._joins[i]
        new = self.tables[i] + costs[outs[chain[i - 1] if i else 0]][ins]
        if i + 1 < len(chain):
            old = old + self._join(i + 1, chain[i], chain[i + 1])
            outs, ins, costs = self._joins[i + 1]
            new = new + costs[:, ins[chain[i + 1]]][outs]
        return np.asarray(usage - old + new)

    def _repaired(self, chain: tuple[int, ...], limits: Vector) -> tuple[int, ...] | None:
        """Single swaps that lessen what is exceeded most, until nothing is; None when none helps."""
        usage = self.usage(chain)
        scale = _scale(limits)
        for _ in range(SWAPS):
            if (usage <= limits).all():
                return chain
            short = float((usage * scale - 1).clip(0).sum())
            best: tuple[float, float, int, int] | None = None
            for i in range(len(chain)):
                swapped = self._swaps(chain, usage, i) * scale
                over = (swapped - 1).clip(0).sum(axis=1)
                c = int(np.lexsort((swapped.sum(axis=1), over))[0])
                found = (float(over[c]), float(swapped[c].sum()), i, c)
                best = found if best is None or found < best else best
            if best is None or best[0] >= short - 1e-12:
                return None
            chain = (*chain[: best[2]], best[3], *chain[best[2] + 1 :])
            usage = self.usage(chain)
        return None

    def _improved(self, chain: tuple[int, ...], limits: Vector, worth: Vector) -> Verdict:
        """Swaps within the limits that save `worth`, stage by stage, until none does."""
        usage = self.usage(chain)
        for _ in range(SWAPS):
            changed = False
            for i in range(len(chain)):
                swapped = self._swaps(chain, usage, i)
                value = np.where((swapped <= limits).all(axis=1), swapped @ worth, np.inf)
                c = int(value.argmin())
                if value[c] < usage @ worth - 1e-9:
                    chain = (*chain[:i], c, *chain[i + 1 :])
                    usage = self.usage(chain)
                    changed = True
            if not changed:
                break
        return Verdict(chain, usage, impossible=False)


def _scale(limits: Vector) -> Vector:
    """What turns a use into a share of its limit; one block of what is not there at all is twice what may be used."""
    return np.asarray(1.0 / np.maximum(limits, 0.5))


def _row(r: Resources) -> tuple[int, int, int, int, int]:
    return r.dsp, r.bram18, r.uram, r.lut, r.ff
