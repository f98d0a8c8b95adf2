"""FIFO depths: derived figures by hand, and a cycle model that shows that the derived depths lose no cycle where smaller ones do."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, gcd

import pytest
from machines import squeezenet, tiny

from fpga_squeeze.hardware.fifo import PIPELINE_CYCLES, group_fifo, internal_fifos, link_depth, results_fifo
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import ConvStage, ExpandStage, PoolStage


def concat_interval(oc1: int, oc3: int, cycles1: int, cycles3: int, depth1: int, depth3: int, pixels: int, latency: int) -> float:
    """Cycles a pixel of an expand stage in steady state.

    The engines make one channel each cycles1 / oc1 (cycles3 / oc3) cycles, `latency` cycles after the reader, and stop while their FIFO is full.
    """
    made, sent = [0, 0], [0, 0]
    counts, depths, periods = (oc1, oc3), (depth1, depth3), (cycles1 // oc1, cycles3 // oc3)
    timers = [0, 0]
    at = first = cycle = 0
    while at < 2 * pixels:
        for b in (0, 1):
            # The 1x1 engine works on the pixel the reader has finished, a pixel behind.
            allowed = cycle >= latency if b else made[1] >= oc3 * (made[0] // oc1 + 1) or made[1] >= oc3 * pixels
            if allowed and made[b] < counts[b] * pixels and made[b] - sent[b] < depths[b]:
                timers[b] += 1
                if timers[b] == periods[b]:
                    timers[b] = 0
                    made[b] += 1
        b = at % 2
        if made[b] > sent[b]:
            sent[b] += 1
            if sent[b] % counts[b] == 0:
                at += 1
        cycle += 1
        first = cycle if at <= 2 and first == 0 and at == 2 else first
        if cycle > 1000 * pixels:
            return float("inf")
    return (cycle - first) / (pixels - 1)


def test_two_pixels_behind_the_3x3_engine_lose_nothing_and_less_does() -> None:
    oc, cycles = 8, 32
    deep = concat_interval(oc, oc, cycles, cycles, oc + 1, 2 * oc + 1, pixels=40, latency=12)
    assert deep <= cycles * 1.02
    shallow = concat_interval(oc, oc, cycles, cycles, oc + 1, oc // 2, pixels=40, latency=12)
    assert shallow > cycles * 1.02


def test_link_depths_by_hand() -> None:
    plan = plan_machine(squeezenet("1.1", 224))
    for link in plan.links[1:-1]:
        producer = next(s for s in plan.stages if s.name == link.producer)
        pixel = ceil(link.shape[0] / link.out_lanes)
        assert link.depth >= max(2, pixel)
        if isinstance(producer, PoolStage):
            # Half a row of the pool's output waits while the pool is silent for one input row.
            assert link.depth == max(2, pixel) + ceil(link.shape[2] / 2) * pixel
    into_sum = plan.links[-2]
    assert into_sum.depth >= 1000 + 1000 // 3
    assert plan.links[0].depth == plan.links[-1].depth == 2


def test_a_stride_one_pool_needs_no_row() -> None:
    stage = PoolStage("p", "p", "p", (8, 6, 6), (8, 4, 4), 3, 1, (0, 0, 0, 0), plan_machine(tiny()).links[1].fmt, 2)
    consumer = plan_machine(tiny()).stages[2]
    assert link_depth(stage, consumer, (8, 4, 4), 2) == 4


def group_queue(produced: int, consumed: int, depth: int, pixels: int = 60) -> bool:
    """True when a producer that lets go of `produced` pixels once it has room for all, and a consumer that takes `consumed` once all are there,
    come to an end with `depth` pixels of room between them."""
    held = made = taken = 0
    while taken < pixels:
        if made < pixels and held + produced <= depth:
            held, made = held + produced, made + produced
        elif held >= consumed:
            held, taken = held - consumed, taken + consumed
        else:
            return False
    return True


@pytest.mark.parametrize("produced", range(1, 7))
@pytest.mark.parametrize("consumed", range(1, 7))
def test_groups_of_any_two_sizes_pass_a_link(produced: int, consumed: int) -> None:
    """Even between ends that hold nothing themselves; the smallest depth that passes is P + Q - gcd(P, Q)."""
    plan = plan_machine(tiny())
    stage = next(s for s in plan.stages if isinstance(s, ConvStage))
    one, two = (replace(stage, engine=replace(stage.engine, fold=replace(stage.engine.fold, p_px=n))) for n in (produced, consumed))
    assert group_queue(produced, consumed, link_depth(one, two, (1, 60, 1), 1))
    least = produced + consumed - gcd(produced, consumed)
    assert group_queue(produced, consumed, least) and not group_queue(produced, consumed, least - 1)


def test_depths_of_groups_by_hand() -> None:
    plan = plan_machine(tiny())
    expand = next(s for s in plan.stages if isinstance(s, ExpandStage))
    e1, e3 = (replace(e, fold=replace(e.fold, p_px=3)) for e in expand.engines)
    grouped = replace(expand, expand1x1=e1, expand3x3=e3)
    plain, fifos = ({f.name: f for f in internal_fifos(s)} for s in (expand, grouped))
    assert fifos["centre"].lanes == 3 * plain["centre"].lanes and fifos["centre"].depth == plain["centre"].depth
    assert all(fifos[name].depth == 3 * plain[name].depth for name in ("e1_out", "e3_out"))
    assert link_depth(grouped, expand, (8, 6, 6), 4) == 3 * 2
    assert link_depth(grouped, grouped, (8, 6, 6), 4) == 5 * 2
    conv10, total = plan.stages[-2:]
    assert isinstance(conv10, ConvStage)
    pixel, twice = ceil(10 / 2), replace(conv10, engine=replace(conv10.engine, fold=replace(conv10.engine.fold, p_px=2)))
    waiting = [link_depth(s, total, (10, 4, 4), 2) - n * pixel for n, s in ((1, conv10), (2, twice))]
    cycles = conv10.engine.oc_folds * conv10.engine.ic_folds
    assert waiting == [ceil(10 * min(1, n * pixel / cycles)) for n in (1, 2)]
    assert group_fifo(e1) == max(2, e1.ic_folds) and results_fifo(e3) == max(2, e3.oc_folds)


def order_interval(p_px: int, oc_folds: int, folds: int, depth: int) -> float:
    """Cycles a group takes through engine and pixel order in steady state: the engine makes a beat each `folds` cycles while `depth` has room; the
    order sends a beat a cycle, those of a group's first pixel as they come, then those of the others."""
    held = sent = cycle = 0
    work = 0
    groups, marks = 20, []
    while len(marks) < groups:
        if held < depth or work + 1 < folds:
            work += 1
            if work == folds:
                held, work = held + 1, 0
        place = sent % (p_px * oc_folds)
        if place >= oc_folds or held > 0:
            held -= place < oc_folds
            sent += 1
            if sent % (p_px * oc_folds) == 0:
                marks.append(cycle)
        cycle += 1
    return (marks[-1] - marks[5]) / (groups - 6)


@pytest.mark.parametrize(("p_px", "oc_folds", "folds"), [(2, 1, 2), (2, 5, 2), (3, 4, 3), (3, 2, 7), (8, 3, 8)])
def test_a_group_of_results_never_holds_the_engine_up(p_px: int, oc_folds: int, folds: int) -> None:
    """Engines whose group takes exactly as long as its pixels need to leave, and slower ones."""
    assert order_interval(p_px, oc_folds, folds, max(2, oc_folds)) == oc_folds * folds


def test_half_a_group_of_results_does() -> None:
    assert order_interval(2, 8, 2, 2) > 8 * 2


def test_internal_fifos_of_every_expand_stage() -> None:
    plan = plan_machine(squeezenet("1.0", 227))
    for stage in plan.stages:
        fifos = {f.name: f for f in internal_fifos(stage)}
        if not isinstance(stage, ExpandStage):
            assert fifos == {}
            continue
        e1, e3 = stage.expand1x1, stage.expand3x3
        assert fifos["centre"].lanes == e3.fold.p_ic and fifos["centre"].depth >= e3.ic_folds
        assert fifos["e1_out"].lanes == e1.fold.p_oc and fifos["e1_out"].depth == e1.oc_folds + ceil(PIPELINE_CYCLES / e1.ic_folds)
        assert fifos["e3_out"].depth == 2 * e3.oc_folds + ceil(PIPELINE_CYCLES / (e3.ic_folds * e3.k_folds))
        assert all(f.depth >= 2 for f in fifos.values())
