"""FIFO depths: derived figures by hand, and a cycle model that shows that the derived depths lose no cycle where smaller ones do."""

from __future__ import annotations

from math import ceil

from machines import squeezenet, tiny

from fpga_squeeze.hardware.fifo import PIPELINE_CYCLES, internal_fifos, link_depth
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import ExpandStage, PoolStage


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
