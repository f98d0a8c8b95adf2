"""FIFO depths of the RTL: with the derived depth nothing is lost, and with one beat less something is, in machines whose stages are equally slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hls_cases import NetBuilder
from rtl_machines import random_pixels, require, write
from test_rtl_expand import Fold, run_expand

from fpga_squeeze.emit import rtl_context
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo_rtl import queued_pixels, rtl_link_depth
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.plan import ConvStage, EngineFold, FoldPlan, GlobalSumStage, Link, PoolStage
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.cosim import run_rtl


def interval(folder: Path, machine: tuple[QuantGraph, FoldPlan], frames: int) -> int:
    """Measured cycles between frames; every value must be right too."""
    qgraph, plan = machine
    result = run_rtl(write(folder, qgraph, plan), qgraph, plan, random_pixels(qgraph, frames), simulator="icarus")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None
    return result.interval_cycles


def shallower(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Emit link `name` one beat below the derived depth."""
    monkeypatch.setattr(rtl_context, "rtl_link_depth", lambda plan, link: rtl_link_depth(plan, link) - (link.name == name))


@pytest.mark.parametrize(("channels", "cycles"), [(4, 1156), (8, 2312)])
def test_behind_a_pool_one_beat_less_costs_cycles(channels: int, cycles: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("icarus")
    net = NetBuilder(1)
    x = net.conv("conv1", net.image(1, 17, 17), channels, 3, padding=(1, 1, 1, 1))
    qgraph = net.finish(net.conv("conv2", net.pool("pool1", x, 3, 2), 18, 1))
    plan = plan_machine(qgraph, 200.0, 200e6 / cycles)
    conv2 = next(s for s in plan.stages if s.name == "conv2")
    assert conv2.cycles >= 0.99 * plan.interval_cycles, "the machine must be equally slow on both sides of the pool"
    derived = interval(tmp_path / "derived", (qgraph, plan), 4)
    assert derived <= 1.002 * plan.interval_cycles
    shallower(monkeypatch, "pool1")
    assert interval(tmp_path / "shallow", (qgraph, plan), 4) > derived


def test_a_link_is_a_register_slice_its_second_beat_buys_no_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in which every link moves a beat a cycle: four pixels of four channels, then four class sums."""
    require("icarus")
    net = NetBuilder(2)
    x = net.conv("conv1", net.image(3, 2, 2), 4, 1)
    qgraph = net.finish(net.conv("conv2", x, 4, 1))
    # A search leaves the global sum time to send the sums after the frame; here it sends them beside the next one.
    skeleton = build_skeleton(qgraph)
    conv1, conv2 = (replace(s, engine=replace(s.engine, fold=EngineFold(4, s.engine.in_shape[0], 1))) for s in skeleton.stages if isinstance(s, ConvStage))
    stages = (conv1, conv2, *(replace(s, lanes=4) for s in skeleton.stages if isinstance(s, GlobalSumStage)))
    plan = assemble(qgraph, skeleton, stages, 200.0, 4)
    links: tuple[Link, ...] = plan.links
    assert [link.name for link in links] == ["image", "conv1", "conv2", "pool10"]
    derived = interval(tmp_path / "derived", (qgraph, plan), 12)
    assert derived == 4
    for link in links:
        with monkeypatch.context() as patch:
            shallower(patch, link.name)
            assert interval(tmp_path / link.name, (qgraph, plan), 12) == derived, link.name


@pytest.mark.parametrize(("channels", "e1", "e3", "depths"), [
    ((8, 8, 8), (1, 8, 1), (2, 4, 9), {"E1_DEPTH": 3, "E3_DEPTH": 4}),
    ((8, 16, 16), (1, 8, 1), (2, 4, 9), {"E1_DEPTH": 5, "E3_DEPTH": 8}),
])  # fmt: skip
def test_inside_an_expand_pair_one_beat_less_costs_cycles(channels: tuple[int, int, int], e1: Fold, e3: Fold, depths: dict[str, int]) -> None:
    """Both engines and the output equally slow: 8 or 16 cycles a pixel each."""
    require("icarus")
    derived = run_expand(channels, e1, e3, 2, only="back_to_back")
    assert derived.measured("ratio") == 1.0
    for name, depth in depths.items():
        assert run_expand(channels, e1, e3, 2, only="back_to_back", depths={name: depth}).measured("ratio") == 1.0, name
        assert run_expand(channels, e1, e3, 2, only="back_to_back", depths={name: depth - 1}).measured("ratio") > 1.0, name


def test_a_centre_fifo_one_word_less_costs_cycles_where_words_become_narrower() -> None:
    """Four words of two channels a pixel, taken a channel at a time; both engines 48 cycles a pixel."""
    require("icarus")
    for depth, lost in ((3, False), (2, True)):
        result = run_expand((8, 16, 16), (3, 1, 1), (4, 2, 3), 1, only="back_to_back", depths={"CENTRE_DEPTH": depth, "E1_DEPTH": 9, "E3_DEPTH": 16})
        assert (result.measured("ratio") > 1.0) == lost, depth


def test_queue_behind_a_pool_by_hand() -> None:
    """32 x 32 to 16 x 16: sixteen pixels in a burst every second row. A consumer as slow as the pool has done eight of them when the burst ends and
    holds two more, so six or seven wait; one of twice the speed keeps up with the burst."""
    fmt = TensorFormat(8, 0, signed=False)
    pool = PoolStage("p", "p", "p", (4, 32, 32), (4, 16, 16), 2, 2, (0, 0, 0, 0), fmt, 4)
    assert queued_pixels(pool, 1.0) in (6, 7)
    assert queued_pixels(pool, 0.5) == 0
