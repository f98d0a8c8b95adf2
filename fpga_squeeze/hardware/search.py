"""Folding search: the machine for a frame rate, for a device, or for a number of DSP blocks.

For a given number of cycles a frame every stage has a list of choices (candidates.py); one of each must be taken so that DSP, 18 Kb blocks, URAM, LUTs
and flip-flops together, converters between stages included, stay within the device's (knapsack.py). The fastest machine is found by bisection over the
cycles; the largest number of cycles that is proven to be too few gives the gap: interval / bound - 1.
"""

from __future__ import annotations

from dataclasses import fields, replace
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import CheckFailedError, NotAheadError
from fpga_squeeze.hardware.candidates import Choice, Space, choices
from fpga_squeeze.hardware.cost import LOADER, TOP, Resources, converter_resources, fifo_resources, plan_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.hardware.fifo_rtl import busy_link_depth
from fpga_squeeze.hardware.goal import Found, Goal
from fpga_squeeze.hardware.knapsack import Knapsack
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.memory import blocks, plan_rows
from fpga_squeeze.hardware.plan import FoldPlan, GlobalSumStage
from fpga_squeeze.hardware.search_multipliers import check_rate, without_device
from fpga_squeeze.hardware.structure import Skeleton, build_skeleton, general_skeleton, narrowed
from fpga_squeeze.hardware.weight_choice import Coder, storages
from fpga_squeeze.hardware.weight_storage import DENSE
from fpga_squeeze.quantize.qgraph import QNode, QuantGraph

DEVICE_P_PX = (1, 2, 3, 4)

PRECISION = 1.002
"""Bisection stops at this ratio of cycles: far below the steps between the folds of a stage."""

TIGHTEN = 6
ROOM = 1.05
"""Tries when what only the whole plan shows (depths of FIFOs) does not fit: room for it, and a little more, is kept in the next one."""


def search(qgraph: QuantGraph, goal: Goal, device: Device | None = None) -> Found:
    """The machine for `goal`; ceil folds, packing and storage chosen.

    Raises:
        InputError: a graph that no stage covers (names the layer).
        CheckFailedError: the goal cannot be met: the limiting resource or stage, the best that can, and what would help.
    """
    skeleton = build_skeleton(qgraph)
    if not skeleton.general:
        try:
            return _search(qgraph, skeleton, goal, device)
        except NotAheadError:
            # A bypass that needs more of its stream than the main branch: which one does depends on folds, so it shows only here.
            skeleton = general_skeleton(qgraph)
    found = _search(qgraph, skeleton, goal, device)
    if goal.target_fps is None:
        # As fast as it goes: what the schedule takes is what was aimed at.
        return replace(found, plan=replace(found.plan, target_cycles=max(found.plan.target_cycles, found.plan.interval_cycles)))
    # The schedule of the whole machine may take longer than its slowest stage: then the stages are asked for as much more.
    target, wanted = int(goal.clock_mhz * 1e6 / goal.target_fps), goal
    for _ in range(TIGHTEN):
        if found.plan.interval_cycles <= target:
            break
        wanted = replace(wanted, target_fps=wanted.target_fps * found.plan.interval_cycles / target)  # type: ignore[operator]
        try:
            found = _search(qgraph, skeleton, wanted, device)
        except CheckFailedError:
            break
    if found.plan.interval_cycles > target:
        raise CheckFailedError(
            f"the machine found needs {found.plan.interval_cycles} cycles a frame, {goal.target_fps:g} frames/s at {goal.clock_mhz:g} MHz leave {target}: a "
            f"stage waits for room in its own buffer; ask for at most {floor(goal.clock_mhz * 1e6 / found.plan.interval_cycles)} frames/s or raise the clock"
        )
    return replace(found, plan=replace(found.plan, target_cycles=target))


def _search(qgraph: QuantGraph, skeleton: Skeleton, goal: Goal, device: Device | None) -> Found:
    if device is None:
        return without_device(qgraph, skeleton, goal)
    return _Fitting(qgraph, skeleton, goal, device).run()


def check_plan(plan: FoldPlan, goal: Goal, device: Device | None) -> Found:
    """A given plan, held to the limits a searched one keeps: the device's resources, --max-dsp, and the rate where one is asked for.

    Raises CheckFailedError with every resource that is exceeded and by how much.
    """
    resources = plan_resources(plan, device)
    wanted = int(goal.clock_mhz * 1e6 / goal.target_fps) if goal.target_fps else 0
    if wanted and plan.interval_cycles > wanted:
        slow = max(plan.stages, key=lambda s: s.cycles)
        raise CheckFailedError(
            f"the given folding needs {plan.interval_cycles} cycles a frame (stage {slow.name}), {goal.target_fps:g} frames/s at {goal.clock_mhz:g} MHz "
            f"leave {wanted}; fold {slow.name} wider or lower --target-fps"
        )
    if device is None:
        if goal.max_dsp is not None and resources.dsp > goal.max_dsp:
            raise CheckFailedError(f"the given folding takes {resources.dsp} DSP blocks, --max-dsp allows {goal.max_dsp}; fold narrower")
        return Found(plan, resources, None, 0)
    limits = device_limits(device, goal)
    over = [
        f"{getattr(resources, f.name)} {NAMES[f.name]}, {getattr(limits, f.name)} of {getattr(device, f.name)} may be used"
        for f in fields(Resources)
        if getattr(resources, f.name) > getattr(limits, f.name)
    ]
    if over:
        raise CheckFailedError(
            f"the given folding does not fit {device.name} at {100 * goal.utilisation:g}% utilisation: it takes {'; '.join(over)}; "
            "fold narrower, or leave --folding out and let the search choose"
        )
    return Found(plan, resources, limits, 0)


def device_limits(device: Device, goal: Goal) -> Resources:
    """What a plan may take of `device`: floor(utilisation x available), DSP blocks at most max_dsp."""
    share = {f.name: floor(goal.utilisation * getattr(device, f.name)) for f in fields(Resources)}
    if goal.max_dsp is not None:
        share["dsp"] = min(share["dsp"], goal.max_dsp)
    return Resources(**share)


class _Fitting:
    """Search on one device."""

    def __init__(self, qgraph: QuantGraph, skeleton: Skeleton, goal: Goal, device: Device, coder: Coder | None = None) -> None:
        self.qgraph, self.skeleton, self.goal, self.device = qgraph, skeleton, goal, device
        self.limits = device_limits(device, goal)
        self.coder = coder or storages(qgraph, goal.weight_storage)
        self.space = Space(device, DEVICE_P_PX, goal.weights, coded=self.coder)

    def run(self) -> Found:
        """The plan for the goal."""
        if self.goal.target_fps is not None:
            return self._for_rate(self.goal.target_fps)
        return self._fastest()

    def _for_rate(self, fps: float) -> Found:
        target = int(self.goal.clock_mhz * 1e6 / fps)
        check_rate(self.qgraph, self.skeleton, target, self.goal.clock_mhz)
        plan, _ = self._solve(target)
        if plan is None:
            raise CheckFailedError(self._explain_rate(fps, target))
        return Found(plan, plan_resources(plan, self.device), self.limits, 0)

    def _fastest(self) -> Found:
        _, height, width = self.qgraph.input.shape
        slowest = 4 * sum(e.macs for s in self.skeleton.stages for e in s.engines) + height * width
        plan, impossible = self._solve(slowest)
        if plan is None:
            raise CheckFailedError(self._explain_size(slowest))
        # Too few for the image, or for the multiplications the DSP blocks can do at best; every further bound is proven by the knapsack.
        bound = height * width
        low, high = float(bound), float(slowest)
        while high / low > PRECISION and high - low > 1:
            middle = max(int(low) + 1, int((low * high) ** 0.5))
            found, impossible = self._solve(middle)
            if found is not None:
                plan, high = found, float(min(middle, found.interval_cycles))
            else:
                low = float(middle)
                bound = max(bound, middle + 1) if impossible else bound
        return Found(plan, plan_resources(plan, self.device), self.limits, bound)

    # ------------------------------------------------------------ the integer program

    def _knapsack(self, target: int) -> Knapsack | None:
        """Choices of every stage at `target`, each with the FIFO in front of it; None when a stage has none."""
        lanes = self.qgraph.input.shape[0]
        found: list[tuple[Choice, ...]] = []
        for i, stage in enumerate(self.skeleton.stages):
            options = choices(stage, target, self.space, lanes if i == 0 else None)
            if not options:
                return None
            tensor = self._tensor(i)
            maker = self.skeleton.producer(i)
            before = None if maker is None else self.skeleton.stages[maker]
            queued = []
            for c in options:
                # The interval is no more than the target, so no plan's FIFO is shallower: a bound stays a bound.
                depth = busy_link_depth(before, c.stage, tensor.shape[0], c.in_lanes, target)
                queued.append(replace(c, resources=c.resources + fifo_resources(c.in_lanes * tensor.fmt.bits, depth, self.device)))
            found.append(tuple(queued))
        return Knapsack(found, lanes, self._join)

    def _fixed(self) -> Resources:
        """What every plan takes besides stages and the links into them: the top's own logic and the FIFO of the class sums."""
        last = self.skeleton.stages[-1]
        assert isinstance(last, GlobalSumStage)
        return TOP + fifo_resources(last.out_fmt.bits, busy_link_depth(last, None, last.in_shape[0], 1, 1), self.device)

    def _tensor(self, link: int) -> QNode:
        """What flows into stage `link`."""
        return self.qgraph[self.skeleton.sources[link]]

    def _join(self, link: int, in_lanes: int, out_lanes: int) -> Resources:
        """What the converter between stage `link` and the one before it takes. Where no link joins these two there is none: what further links take, only
        the whole plan shows."""
        if not self.skeleton.adjacent(link):
            return Resources()
        tensor = self._tensor(link)
        return converter_resources(tensor.shape[0], tensor.fmt.bits, in_lanes, out_lanes, self.device)

    def _solve(self, target: int) -> tuple[FoldPlan | None, bool]:
        """(a plan at `target` within the limits or None, proven that there is none)."""
        knapsack = self._knapsack(target)
        if knapsack is None:
            return None, True
        limits = _vector(self.limits) - _vector(self._fixed())
        if self.goal.weights == "rom" or not self.device.uram:
            loader = _vector(LOADER) if self.goal.weights == "loaded" else np.zeros(5)
            return self._within(knapsack, limits - loader, target)
        # URAM holds loaded weights only: either there is a loader, or no URAM is used.
        plan, impossible = self._within(knapsack, limits - _vector(LOADER), target)
        if plan is not None or self.goal.weights == "loaded":
            return plan, impossible
        plan, without = self._within(knapsack, limits * (1.0, 1.0, 0.0, 1.0, 1.0), target)
        return plan, impossible and without

    def _within(self, knapsack: Knapsack, limits: NDArray[np.float64], target: int) -> tuple[FoldPlan | None, bool]:
        """`_solve` for given limits of stages, converters and FIFOs."""
        worth = np.array([1.0 / max(1, getattr(self.device, f.name)) for f in fields(Resources)])
        allowed, first = limits, True
        for _ in range(TIGHTEN):
            verdict = knapsack.fit(allowed, worth)
            if verdict.chain is None:
                # A proof only without the room that was kept for links: they cost something at any rate, so the bound stays a bound.
                return None, verdict.impossible and first
            stages = tuple(stage[c].stage for stage, c in zip(knapsack.options, verdict.chain, strict=True))
            plan = assemble(self.qgraph, self.skeleton, stages, self.goal.clock_mhz, target)
            exact = _vector(plan_resources(plan, self.device))
            # The memory report counts the deeper FIFOs of the two emissions.
            excess = self._memory_excess(plan)
            if bool((exact <= _vector(self.limits)).all()) and not excess.any():
                return plan, False
            over = np.maximum(exact - _vector(self.limits), excess).clip(0)
            allowed = np.where(over > 0, np.minimum(allowed, verdict.usage - over * ROOM), allowed)
            first = False
        return None, False

    def _memory_excess(self, plan: FoldPlan) -> NDArray[np.float64]:
        """float64 (5,): by how much the memories of `plan` exceed the device's 18 Kb blocks, URAMs and LUTs; zeros where they fit."""
        need, device = blocks(plan_rows(plan, self.device)), self.device
        luts = max(need.lutram_luts - device.lutram_luts, need.lutram_luts + need.rom_luts - device.lut)
        return np.array([0, need.bram18 - device.bram18, need.uram - device.uram, luts, 0], dtype=np.float64).clip(0)

    # ------------------------------------------------------------ why not

    def _explain_rate(self, fps: float, target: int) -> str:
        limiting = self._limiting(target)
        best = replace(self.goal, target_fps=None)
        try:
            fastest = _Fitting(self.qgraph, self.skeleton, best, self.device, self.coder).run().plan
        except CheckFailedError as error:
            return str(error)
        reached = floor(self.goal.clock_mhz * 1e6 / fastest.interval_cycles)
        return (
            f"{fps:g} frames/s at {self.goal.clock_mhz:g} MHz do not fit {self.device.name} at {100 * self.goal.utilisation:g}% utilisation: "
            f"{limiting}. The best that fits: {reached} frames/s. What would help: {self._remedies(target)}"
        )

    def _explain_size(self, slowest: int) -> str:
        """Too large at any rate: by how much, and what would help."""
        knapsack = self._knapsack(slowest)
        assert knapsack is not None
        short = []
        for i, f in enumerate(fields(Resources)):
            least = sum(float(table[:, i].min()) for table in knapsack.tables)
            limit, available = getattr(self.limits, f.name), getattr(self.device, f.name)
            if least > limit:
                short.append(
                    f"at least {ceil(least)} {NAMES[f.name]} are needed, {limit} of its {available} may be used "
                    f"({100 * self.goal.utilisation:g}%): {ceil(least - limit)} too few"
                )
        why = "; ".join(short) or self._limiting(slowest)
        return f"the network does not fit {self.device.name} at any frame rate: {why}. What would help: {self._remedies(slowest)}"

    def _limiting(self, target: int) -> str:
        """The resources without whose limit the target would be met."""
        knapsack = self._knapsack(target)
        if knapsack is None:
            return "a stage has no fold that is fast enough"
        free = [f.name for f in fields(Resources) if self._possible(target, replace(self.limits, **{f.name: UNLIMITED}))]
        if free:
            return " or ".join(self._shortfall(target, name) for name in free)
        shares = []
        for i, f in enumerate(fields(Resources)):
            least = sum(float(table[:, i].min()) for table in knapsack.tables)
            shares.append((least / max(1, getattr(self.limits, f.name)), f.name))
        return "more than one resource is short: " + ", ".join(NAMES[name] for _, name in sorted(shares, reverse=True)[:3])

    def _shortfall(self, target: int, name: str) -> str:
        """How much of resource `name` would do, all others within their limits."""
        limit, available = getattr(self.limits, name), getattr(self.device, name)
        high = max(2 * limit, 64)
        while high < UNLIMITED and not self._possible(target, replace(self.limits, **{name: high})):
            high *= 2
        low = limit
        while high - low > max(1, high // 200):
            middle = (low + high) // 2
            low, high = (low, middle) if self._possible(target, replace(self.limits, **{name: middle})) else (middle, high)
        return f"{high} {NAMES[name]} would do it, {limit} of its {available} may be used ({100 * self.goal.utilisation:g}%): {high - limit} too few"

    def _possible(self, target: int, limits: Resources) -> bool:
        """Whether some chain fits `limits`, links apart."""
        knapsack = self._knapsack(target)
        worth = np.array([1.0 / max(1, getattr(self.device, f.name)) for f in fields(Resources)])
        return knapsack is not None and knapsack.fit(_vector(limits), worth).chain is not None

    def _remedies(self, target: int) -> str:
        from fpga_squeeze.hardware.devices import load_devices

        found = []
        # Weights of another width, and those on other devices, are taken as they are: what is named then does in any case, and soon.
        plain = replace(self.goal, weight_storage=DENSE)
        widest = max(e.weight_bits for s in self.skeleton.stages for e in s.engines)
        for bits in range(widest - 1, 1, -1):
            narrow = replace(self.skeleton, stages=tuple(narrowed(s, bits) for s in self.skeleton.stages))
            if _Fitting(self.qgraph, narrow, plain, self.device)._possible(target, self.limits):
                found.append(f"--weight-bits {bits}")
                break
        if self.goal.weights == "rom" and self.device.uram:
            found.append("--weights auto (URAM holds loaded weights only)")
        if self.goal.weight_storage == DENSE:
            coded = _Fitting(self.qgraph, self.skeleton, replace(self.goal, weight_storage="auto"), self.device)
            if coded._possible(target, self.limits):
                found.append("--weight-storage auto")
        larger = sorted(load_devices(), key=lambda d: (d.lut, d.name))
        for d in larger:
            other = _Fitting(self.qgraph, self.skeleton, plain, d)
            if d.name != self.device.name and other._possible(target, other.limits):
                found.append(f"--device {d.name}")
                break
        return "; ".join(found) or "a smaller network: no known device holds this one"


UNLIMITED = 10**12


def _vector(resources: Resources) -> NDArray[np.float64]:
    return np.array([getattr(resources, f.name) for f in fields(Resources)], dtype=np.float64)
