"""Folding search on devices: within every limit, what it returns can be emitted, verified and simulated; bounds are bounds; refusals help."""

from __future__ import annotations

import itertools
import re
from dataclasses import astuple, fields, replace
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import squeezenet, tiny
from rtl_machines import lively, random_pixels, require, write
from test_folding import networks

from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.rtl import emit_rtl
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.candidates import Choice, Space, choices
from fpga_squeeze.hardware.cost import Resources, plan_resources
from fpga_squeeze.hardware.devices import find_device, load_devices
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, verify_plan
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.knapsack import Knapsack
from fpga_squeeze.hardware.memory import blocks, memory_rows
from fpga_squeeze.hardware.search import check_plan, device_limits, search
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.cosim import run_rtl

GOALS = st.builds(
    Goal,
    clock_mhz=st.sampled_from((100.0, 200.0, 300.0)),
    target_fps=st.one_of(st.none(), st.floats(100.0, 300_000.0)),
    max_dsp=st.one_of(st.none(), st.integers(20, 2000)),
    utilisation=st.sampled_from((0.3, 0.85, 0.95)),
    weights=st.sampled_from(("rom", "loaded", "auto")),
)


@settings(max_examples=30, deadline=None)
@given(networks(), st.sampled_from(load_devices()), GOALS)
def test_what_is_found_fits_and_can_be_emitted(qgraph: QuantGraph, device: object, goal: Goal) -> None:
    try:
        found = search(qgraph, goal, device)  # type: ignore[arg-type]
    except CheckFailedError as refused:
        assert re.search(r"at most \d+ frames|The best that fits|does not fit|--max-dsp|What would help", str(refused)), str(refused)
        return
    plan = found.plan
    verify_plan(plan, qgraph)
    assert found.limits == device_limits(device, goal)  # type: ignore[arg-type]
    assert found.resources == plan_resources(plan, device)  # type: ignore[arg-type]
    assert all(used <= limit for used, limit in zip(astuple(found.resources), astuple(found.limits), strict=True))  # type: ignore[call-overload]
    assert not blocks(memory_rows(plan, qgraph, device)).over(device)  # type: ignore[arg-type]
    assert found.bound_cycles <= plan.interval_cycles
    if goal.target_fps is not None:
        assert plan.interval_cycles <= goal.clock_mhz * 1e6 / goal.target_fps
    if goal.weights == "rom":
        assert not any(e.loaded for s in plan.stages for e in s.engines)
    assert folding_from_json(folding_to_json(plan), qgraph) == plan
    assert check_plan(plan, goal, device).plan is plan  # type: ignore[arg-type]
    assert emit_rtl(qgraph, plan) and emit_hls(qgraph, plan)


@pytest.mark.parametrize(("device", "weights", "seed"), [("ulx3s", "rom", 3), ("pynq-z2", "auto", 4), ("kv260", "auto", 5)])
def test_what_is_found_runs_bit_exact(device: str, weights: str, seed: int, tmp_path: Path) -> None:
    """A fifth of each device, so that folds, pairs and storages mix."""
    require("icarus")
    plain = tiny(seed)
    qgraph = lively(plain, random_pixels(plain, 2))
    plan = search(qgraph, Goal(100.0, 100_000.0, None, 0.2, weights), find_device(device)).plan
    assert any(e.packing != "none" for s in plan.stages for e in s.engines)
    result = run_rtl(write(tmp_path, qgraph, plan), qgraph, plan, random_pixels(qgraph, 3), simulator="icarus")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles + 1


BARS = [
    ("zcu102", "1.1", 224, 0.85, 3400), ("zcu102", "1.1", 224, 0.95, 3800), ("zcu104", "1.1", 224, 0.85, 2350), ("zcu104", "1.1", 224, 0.95, 2600),
    ("kv260", "1.1", 224, 0.85, 1600), ("kv260", "1.1", 224, 0.95, 1850), ("zcu102", "1.0", 227, 0.85, 1450),
]  # fmt: skip


@pytest.mark.parametrize(("device", "version", "size", "utilisation", "least"), BARS)
def test_squeezenet_on_the_boards(device: str, version: str, size: int, utilisation: float, least: int) -> None:
    found = search(squeezenet(version, size), Goal(300.0, utilisation=utilisation), find_device(device))
    assert 300e6 / found.plan.interval_cycles >= least
    assert found.gap <= 0.13


@pytest.mark.parametrize("board", ["pynq-z2", "ulx3s"])
def test_a_network_too_large_is_refused_with_the_shortfall(board: str) -> None:
    with pytest.raises(CheckFailedError, match=r"does not fit .* at any frame rate: .*\d+ 18 Kb blocks .* may be used \(85%\): \d+ too few") as refused:
        search(squeezenet("1.1", 224), Goal(200.0), find_device(board))
    assert "--device" in str(refused.value) or "--weight-bits" in str(refused.value)


def test_a_rate_too_high_names_the_limit_and_the_best_that_fits() -> None:
    qgraph = squeezenet("1.1", 224)
    with pytest.raises(CheckFailedError, match="do not fit k26") as refused:
        search(qgraph, Goal(300.0, 3000.0), find_device("kv260"))
    best = re.search(r"The best that fits: (\d+) frames/s", str(refused.value))
    assert best is not None
    again = search(qgraph, Goal(300.0, float(best[1])), find_device("kv260"))
    assert 300e6 / again.plan.interval_cycles >= int(best[1])


@pytest.mark.parametrize("most", [60, 150, 700])
def test_as_fast_as_a_number_of_multipliers_allows(most: int) -> None:
    qgraph = tiny()
    found = search(qgraph, Goal(200.0, max_dsp=most))
    assert found.plan.multipliers <= most
    # One cycle fewer needs more multipliers: the search is exact in its choices.
    faster = 200e6 / (found.plan.interval_cycles - 1)
    try:
        tighter = search(qgraph, Goal(200.0, faster)).plan.multipliers
    except CheckFailedError:
        return
    assert tighter > most


@pytest.mark.parametrize(("version", "size"), [("1.1", 224), ("1.0", 227)])
def test_mac_efficiency_over_the_targets(version: str, size: int) -> None:
    qgraph = squeezenet(version, size)
    efficiency = [search(qgraph, Goal(200.0, 200e6 / target)).plan.mac_efficiency for target in range(200_000, 900_001, 50_000)]
    assert min(efficiency) >= 0.94
    assert max(efficiency) >= 0.975


def test_the_cheapest_chain_and_the_proof_by_trying_all() -> None:
    """Against every combination of a small machine's choices: what fits is found, what is called impossible is."""
    rng = np.random.default_rng(5)
    qgraph = tiny()
    space = Space(find_device("kv260"), (1, 2), "auto")
    from fpga_squeeze.hardware.structure import build_skeleton

    stages = build_skeleton(qgraph).stages[:3]
    options = [tuple(rng.permutation(np.array(choices(s, 2500, space, 3 if i == 0 else None), dtype=object))[:7]) for i, s in enumerate(stages)]

    def join(link: int, before: int, after: int) -> Resources:
        return Resources() if before == after else Resources(lut=10 * link + abs(before - after))

    knapsack = Knapsack(options, 3, join)
    worth = np.array([1.0, 1.0, 1.0, 0.01, 0.005])
    chains = list(itertools.product(*(range(len(o)) for o in options)))
    usage = {c: knapsack.usage(c) for c in chains}
    for prices in (worth, rng.random(5), rng.random(5)):
        assert prices @ usage[knapsack.cheapest(prices)] == pytest.approx(min(prices @ u for u in usage.values()))
    found = missed = 0
    for _ in range(60):
        limits = usage[chains[rng.integers(len(chains))]] * rng.uniform(0.8, 1.3, 5)
        possible = any((u <= limits).all() for u in usage.values())
        verdict = knapsack.fit(limits, worth)
        if verdict.chain is not None:
            assert possible and (usage[verdict.chain] <= limits).all()
            found += 1
        else:
            assert not (possible and verdict.impossible)
            missed += possible
    assert found > 15 and missed <= 3


def test_every_choice_is_fast_enough_and_none_is_needless() -> None:
    space = Space(find_device("zcu104"), (1, 2, 3), "auto")
    from fpga_squeeze.hardware.structure import build_skeleton

    for stage in build_skeleton(squeezenet("1.1", 64)).stages:
        offered: tuple[Choice, ...] = choices(stage, 20_000, space)
        assert offered and all(c.stage.cycles <= 20_000 for c in offered)
        costs = [(c.in_lanes, c.out_lanes, *astuple(c.resources)) for c in offered]
        assert len(set(costs)) == len(costs)


def test_a_given_folding_is_held_to_the_same_limits() -> None:
    qgraph, device = squeezenet("1.1", 64), find_device("kv260")
    goal = Goal(200.0)
    plan = search(qgraph, goal, device).plan
    assert check_plan(plan, goal, device).plan is plan
    with pytest.raises(CheckFailedError, match=r"does not fit k26 at 10% utilisation: it takes \d+ DSP blocks, 124 of 1248 may be used"):
        check_plan(plan, replace(goal, utilisation=0.1), device)
    with pytest.raises(CheckFailedError, match=r"fold .* wider or lower --target-fps"):
        check_plan(plan, replace(goal, target_fps=2.0 * 200e6 / plan.interval_cycles), device)
    with pytest.raises(CheckFailedError, match="--max-dsp allows 5; fold narrower"):
        check_plan(plan, replace(goal, max_dsp=5), None)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"clock_mhz": 0.0}, "positive"), ({"target_fps": -1.0}, "positive"), ({"utilisation": 1.5}, "up to 1"), ({"max_dsp": 0}, "at least 1"),
    ({"weights": "disk"}, "rom, loaded, auto"),
])  # fmt: skip
def test_a_goal_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Goal(**wrong)  # type: ignore[arg-type]


def test_same_goal_same_plan() -> None:
    qgraph, device = squeezenet("1.1", 96), find_device("kv260")
    once, again = (folding_to_json(search(qgraph, Goal(250.0), device).plan) for _ in range(2))
    assert once == again


def test_limits_are_the_share_of_the_device() -> None:
    device = find_device("zcu104")
    limits = device_limits(device, Goal(utilisation=0.85, max_dsp=900))
    assert limits.dsp == 900
    assert all(getattr(limits, f.name) == floor(0.85 * getattr(device, f.name)) for f in fields(Resources) if f.name != "dsp")
