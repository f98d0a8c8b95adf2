"""Folding: every plan is legal, meets its target when it says so, buys no more than needed, and survives its file."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import Machine, squeezenet, tiny

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.candidates import divisors, least_multipliers
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, line_buffer_banks, plan_machine, verify_plan
from fpga_squeeze.hardware.plan import ConvStage, EngineFold, ExpandStage, FoldPlan, GlobalSumStage, PoolStage
from fpga_squeeze.hardware.search_multipliers import SLACK
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QuantGraph


@st.composite
def networks(draw: st.DrawFn) -> QuantGraph:
    """Small SqueezeNet-like chains with odd channel counts, with and without pools."""
    m = Machine(draw(st.sampled_from((1, 3))), draw(st.integers(9, 20)), seed=draw(st.integers(0, 9)))
    x = m.conv("conv1", "image", draw(st.sampled_from((4, 6, 7, 12))), draw(st.sampled_from((1, 3))), draw(st.sampled_from((1, 2))), draw(st.integers(0, 1)))
    if draw(st.booleans()):
        x = m.pool("pool1", x, draw(st.integers(2, 3)), 2, draw(st.booleans()))
    for i in range(draw(st.integers(0, 2))):
        x = m.fire(f"fire{i + 2}", x, *(draw(st.sampled_from((2, 3, 4, 6, 8, 9))) for _ in range(3)))
    return m.total("pool10", m.conv("conv10", x, draw(st.integers(2, 13)), 1))


@settings(max_examples=40, deadline=None)
@given(networks(), st.floats(1.0, 3000.0))
def test_every_plan_is_legal_and_keeps_its_word(qgraph: QuantGraph, ratio: float) -> None:
    pixels = qgraph.input.shape[1] * qgraph.input.shape[2]
    try:
        plan = plan_machine(qgraph, 200.0, 200e6 / (pixels * ratio))
    except CheckFailedError as refused:
        # A stage that cannot be so fast; the rate that the message offers must work.
        offered = int(re.search(r"at most (\d+) frames/s", str(refused))[1])  # type: ignore[index]
        plan = plan_machine(qgraph, 200.0, offered)
    verify_plan(plan, qgraph)
    assert plan.macs == qgraph.macs
    assert plan.interval_cycles == max(s.cycles for s in plan.stages) <= plan.target_cycles
    assert plan.links[0].producer == "s_axis" and plan.links[-1].consumer == "m_axis" and plan.links[-1].out_lanes == 1
    for stage in plan.stages:
        if isinstance(stage, ConvStage):
            # No narrower fold of the same shape keeps the interval.
            fold = stage.engine.fold
            if fold.p_oc > 1:
                narrower = replace(stage, engine=replace(stage.engine, fold=replace(fold, p_oc=fold.p_oc - 1)))
                assert narrower.cycles > plan.target_cycles * (1 - SLACK) - 1
    assert folding_from_json(folding_to_json(plan), qgraph) == plan


@pytest.mark.parametrize(("version", "size", "least"), [("1.1", 224, 0.94), ("1.0", 227, 0.95)])
def test_squeezenet_reaches_500_fps(version: str, size: int, least: float) -> None:
    qgraph = squeezenet(version, size)
    plan = plan_machine(qgraph, 200.0, 500.0)
    assert plan.interval_cycles <= plan.target_cycles == 400_000
    assert plan.mac_efficiency > least
    assert [type(s) for s in plan.stages].count(ExpandStage) == 8
    assert {s.module for s in plan.stages if isinstance(s, ExpandStage)} == {f"fire{i}" for i in range(2, 10)}
    assert [s.module for s in plan.stages if s.name == "fire2.squeeze"] == ["fire2"]
    for stage in plan.stages:
        if isinstance(stage, ExpandStage):
            assert stage.expand1x1.cycles <= stage.expand3x3.cycles
            assert stage.expand1x1.out_shape[0] % stage.out_lanes == 0
        if isinstance(stage, PoolStage | GlobalSumStage):
            assert stage.cycles <= plan.target_cycles * 3 // 4 + stage.in_shape[0]


def test_plan_is_deterministic_and_faster_targets_cost_more() -> None:
    qgraph = squeezenet("1.1", 64)
    plans = [plan_machine(qgraph, 200.0, fps) for fps in (100, 1000, 10000)]
    assert plans[1] == plan_machine(qgraph, 200.0, 1000)
    assert plans[0].multipliers < plans[1].multipliers < plans[2].multipliers


def test_image_faster_than_a_pixel_a_cycle_is_refused() -> None:
    with pytest.raises(CheckFailedError, match=r"16x16 image alone takes 256.*at most 781250"):
        plan_machine(tiny(), 200.0, 800_000)
    plan = plan_machine(tiny(), 200.0, 781_250)
    assert plan.target_cycles == 256 == plan.interval_cycles


@pytest.mark.parametrize(("clock", "fps"), [(0.0, 500.0), (200.0, 0.0), (200.0, -1.0), (float("nan"), 5.0), (200.0, float("inf"))])
def test_bad_clock_or_target(clock: float, fps: float) -> None:
    with pytest.raises(InputError, match="positive"):
        plan_machine(tiny(), clock, fps)


def test_unsupported_patterns_are_refused_by_name() -> None:
    m = Machine(3, 8)
    x = m.conv("conv1", "image", 4, 3, 1, 1)
    m.conv("conv2", x, 4, 3, 1, 1)
    with pytest.raises(InputError, match=r"layer conv2: nothing reads its result and it is not the output sum"):
        plan_machine(m.total("sum", m.conv("conv3", x, 4, 3, 1, 1)))
    with pytest.raises(InputError, match="ends in a global sum"):
        m2 = Machine(3, 8)
        plan_machine(m2.build(m2.conv("conv1", "image", 4, 1)))


def _broken(plan: FoldPlan, index: int, stage: object) -> FoldPlan:
    return replace(plan, stages=(*plan.stages[:index], stage, *plan.stages[index + 1 :]))  # type: ignore[arg-type]


def test_verify_plan_catches_what_is_wrong() -> None:
    qgraph = tiny()
    plan = plan_machine(qgraph)
    conv1, pool, squeeze, expand = plan.stages[:4]
    assert isinstance(conv1, ConvStage) and isinstance(expand, ExpandStage) and isinstance(pool, PoolStage)
    cases = {
        "p_oc must be 1 to 8": _broken(plan, 0, replace(conv1, engine=replace(conv1.engine, fold=EngineFold(9, 3, 1)))),
        "p_k must be one of 1, 3, 9": _broken(plan, 0, replace(conv1, engine=replace(conv1.engine, fold=EngineFold(1, 3, 2)))),
        "differs from the graph": _broken(plan, 0, replace(conv1, engine=replace(conv1.engine, stride=1))),
        "lanes must divide 8": _broken(plan, 1, replace(pool, lanes=5)),
        "out_lanes must divide 8": _broken(plan, 3, replace(expand, out_lanes=3)),
        "must carry": _broken(plan, 1, replace(pool, lanes=8 if pool.lanes != 8 else 4)),
        "exactly one stage": replace(plan, stages=plan.stages[:-1]),
        "depth of at least": replace(plan, links=(*plan.links[:-1], replace(plan.links[-1], depth=1))),
        "must run from": replace(plan, links=(plan.links[0], replace(plan.links[1], producer="m"), *plan.links[2:])),
    }
    assert squeeze.name == "fire2.squeeze"
    for message, bad in cases.items():
        with pytest.raises(InputError, match=message):
            verify_plan(bad, qgraph)


def test_folding_file_can_be_edited_and_is_strict() -> None:
    qgraph = tiny()
    text = folding_to_json(plan_machine(qgraph))
    document = json.loads(text)
    document["stages"][0]["engine"] = {"p_oc": 4, "p_ic": 3, "p_k": 9}
    edited = folding_from_json(json.dumps(document), qgraph)
    assert edited.stages[0].engines[0].fold == EngineFold(4, 3, 9)
    assert edited.link_from("conv1").in_lanes == 4

    def refuse(message: str, **change: object) -> None:
        entry = {**json.loads(text)["stages"][0], **change}
        bad = {**json.loads(text), "stages": [entry, *json.loads(text)["stages"][1:]]}
        with pytest.raises(InputError, match=message):
            folding_from_json(json.dumps(bad), qgraph)

    refuse("stage conv1: p_oc must be 1 to 8, got 9", engine={"p_oc": 9, "p_ic": 3, "p_k": 1})
    refuse("3 input lanes expected, got 1", engine={"p_oc": 1, "p_ic": 1, "p_k": 1})
    refuse("p_oc must be a positive integer, got '4'", engine={"p_oc": "4", "p_ic": 3, "p_k": 1})
    refuse(r"unknown \['lanes'\]", lanes=2)
    refuse(r"missing \['p_k'\]", engine={"p_oc": 4, "p_ic": 3})
    refuse("in this order", name="conv2")
    with pytest.raises(InputError, match="line 1"):
        folding_from_json("{", qgraph)
    with pytest.raises(InputError, match="expected an object, got list"):
        folding_from_json("[]", qgraph)


def test_line_buffer_banks_hold_every_row() -> None:
    engine = next(s for s in plan_machine(tiny()).stages if isinstance(s, ExpandStage)).expand3x3
    for e in (replace(engine, fold=EngineFold(1, i, k)) for i in divisors(engine.in_shape[0]) for k in (1, 3, 9)):
        banks, depth = line_buffer_banks(e)
        assert banks * depth >= e.buffer_rows * e.in_shape[2] * e.ic_folds
        assert banks >= e.fold.p_k


@settings(max_examples=40, deadline=None)
@given(networks(), st.floats(1.0, 300.0))
def test_what_a_stage_needs_holds_down_to_its_own_cycles(qgraph: QuantGraph, ratio: float) -> None:
    """The search keeps (multipliers, cycles) of a stage for every target between the one asked for and these cycles."""
    target = int(qgraph.input.shape[1] * qgraph.input.shape[2] * ratio)
    for stage in build_skeleton(qgraph).stages:
        found = least_multipliers(stage, target, (1, 2), None)
        if found is not None:
            assert found[1] <= target
            again = least_multipliers(stage, found[1], (1, 2), None)
            assert again is not None and again[0] == found[0], stage.name
