"""Bypasses in hardware: found in the graph, bit-exact in RTL and HLS, no slower than predicted, and the FIFO's least depth exact: a beat less stands still."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hls_cases import NetBuilder, equal_at_every_stage, frames_for, write_export, wrong_stages
from residual_nets import add, complex_bypass, float_plain, float_residual, nested, quantized, residual, simple, with_depth
from rtl_machines import lively, random_pixels, require, write
from test_csim_deadlock import STREAMS, threaded

from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.rtl import emit_rtl
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.bypass import full_rate_depth, least_depth, rtl_bypass_depth
from fpga_squeeze.hardware.cost import plan_resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.memory import memory_rows
from fpga_squeeze.hardware.plan import AddStage, FoldPlan
from fpga_squeeze.hardware.search import device_limits, search
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from fpga_squeeze.verify.csim import run_csim

FPS = 100_000.0
NETS = {"simple": simple, "complex": complex_bypass, "residual": residual, "nested": nested}


def machine(name: str, fps: float = FPS) -> tuple[QuantGraph, FoldPlan]:
    plain = NETS[name]()
    qgraph = lively(plain, random_pixels(plain, 2))
    return qgraph, plan_machine(qgraph, 200.0, fps)


def simulate(out: Path, built: tuple[QuantGraph, FoldPlan], simulator: str, frames: int = 3, stalls: str | None = None) -> RtlResult:
    return run_rtl(out, *built, random_pixels(built[0], frames), simulator=simulator, stalls=stalls)


# ---------------------------------------------------------------- structure


def test_branches_are_told_apart_whatever_the_order_of_the_operands() -> None:
    adds = {s.name: s for s in build_skeleton(residual()).stages if isinstance(s, AddStage)}
    assert adds["block1.add"].bypass == "conv1" and not adds["block1.add"].side
    second = adds["block2.add"]
    assert second.bypass == "block1.add" and [e.node for e in second.engines] == ["block2.short"]
    assert second.engines[0].stride == 2 and second.in_shape == (8, 6, 6)
    skewed = build_skeleton(complex_bypass()).stages
    assert next(s for s in skewed if isinstance(s, AddStage)).align == (0, 1), "main operand first"


def test_every_operand_of_a_nested_machine_is_named() -> None:
    _, plan = machine("nested")
    found = {b.name: (b.producer, b.tensor, b.consumer) for b in plan.bypasses}
    assert found == {
        "a_bypass": ("s_axis", "image", "a.add"), "c_bypass": ("b", "b", "c.add"), "d_bypass": ("a.add", "a.add", "d.add"),
        "e_bypass": ("c.add", "c.add", "e.add"),
    }  # fmt: skip


def refused(net: NetBuilder, source: str) -> str:
    with pytest.raises(InputError) as caught:
        build_skeleton(net.finish(net.conv("conv10", source, 3, 1)))
    return str(caught.value)


def test_a_plan_without_its_bypass_or_with_a_shallower_one_is_refused() -> None:
    qgraph, plan = machine("simple")
    with pytest.raises(InputError, match="every addition and every concat has one bypass"):
        verify_plan(replace(plan, bypasses=()), qgraph)
    bypass = plan.bypasses[0]
    with pytest.raises(InputError, match=f"fire2_bypass needs a depth of at least {bypass.depth} beats, got {bypass.depth - 1}"):
        verify_plan(replace(plan, bypasses=(replace(bypass, depth=bypass.depth - 1),)), qgraph)
    with pytest.raises(InputError, match="lanes must divide 8, got 3"):
        verify_plan(replace(plan, stages=tuple(replace(s, lanes=3) if isinstance(s, AddStage) else s for s in plan.stages)), qgraph)


@pytest.mark.parametrize("name", sorted(NETS))
def test_folding_file_gives_the_same_plan_and_emission_the_same_bytes(name: str) -> None:
    qgraph, plan = machine(name)
    again = folding_from_json(folding_to_json(plan), qgraph)
    assert again == plan and again.bypasses == plan.bypasses
    assert emit_rtl(qgraph, plan) == emit_rtl(qgraph, again) and emit_hls(qgraph, plan) == emit_hls(qgraph, again)
    if name == "complex":
        body = json.loads(folding_to_json(plan))
        entry = next(s for s in body["stages"] if s["name"] == "fire2.add")
        assert set(entry) == {"name", "cycles", "lanes", "engine"}
        entry["engine"]["p_oc"] = 99
        with pytest.raises(InputError, match=r"stage fire2\.add: p_oc must be 1 to 12, got 99"):
            folding_from_json(json.dumps(body), qgraph)


def test_a_bypass_that_needs_more_than_the_main_branch_is_refused() -> None:
    """Three pixels at a time on the bypass, one on a main branch of 1x1 convolutions: the adder would wait for pixels that the branch refuses."""
    net = NetBuilder(1)
    x = net.conv("conv1", net.image(3, 8, 8), 4, 1)
    y = net.conv("m2", net.conv("m1", x, 4, 1), 4, 1)
    qgraph = net.finish(net.conv("conv10", add(net, "sum", y, net.conv("side", x, 4, 1)), 3, 1))
    body = json.loads(folding_to_json(plan_machine(qgraph, 200.0, 100_000.0)))
    entry = next(s for s in body["stages"] if s["name"] == "sum")
    entry["engine"]["p_px"] = 3
    with pytest.raises(InputError, match="stage sum: bypass sum_bypass must not need more of conv1"):
        folding_from_json(json.dumps(body), qgraph)


# ---------------------------------------------------------------- memory, resources, search


def test_the_fifo_is_in_the_memory_report_by_name_and_in_the_resources() -> None:
    qgraph, plan = machine("simple")
    row = next(r for r in memory_rows(plan, qgraph) if r.name == "fire2.bypass.fifo")
    bypass = plan.bypasses[0]
    assert (row.kind, row.stage, row.depth, row.width_bits) == ("fifos", "fire2.add", bypass.depth, bypass.out_lanes * 8)
    without = replace(plan, bypasses=())
    assert plan_resources(plan).lut > plan_resources(without).lut
    big_graph = simple(size=60)
    big = plan_machine(big_graph, 200.0, 10_000.0)
    deep = next(r for r in memory_rows(big, big_graph) if r.name == "fire2.bypass.fifo")
    assert deep.bram18 > 0 and deep.lutram_luts == 0, "rows of a map lie in block RAM"
    assert plan_resources(big).bram18 > plan_resources(replace(big, bypasses=())).bram18
    assert ", .STYLE(2)) fire2_bypass_fifo" in emit_rtl(big_graph, big)["rtl/squeezenet.sv"].decode()


@pytest.mark.parametrize("name", ["simple", "complex", "residual"])
def test_a_search_for_a_device_keeps_to_its_limits(name: str) -> None:
    qgraph = NETS[name](24)
    device = find_device("lifcl-40")
    goal = Goal(50.0)
    found = search(qgraph, goal, device)
    limits = device_limits(device, goal)
    for resource in ("dsp", "bram18", "lut", "ff"):
        assert getattr(found.resources, resource) <= getattr(limits, resource), resource
    assert found.plan.bypasses and found.plan.interval_cycles >= found.bound_cycles


# ---------------------------------------------------------------- RTL


@pytest.mark.parametrize(("name", "simulator"), [("simple", "verilator"), ("complex", "verilator"), ("simple", "icarus"), ("complex", "icarus")])
def test_exact_at_the_predicted_interval_under_stalls_and_after_a_reset(name: str, simulator: str, tmp_path: Path) -> None:
    require(simulator)
    built = machine(name)
    stalls = "none,random:1-3,input,output,adversarial,reset,tlast" if simulator == "verilator" else "none,reset"
    result = simulate(write(tmp_path, *built), built, simulator, stalls=stalls)
    assert result.ok, result.first_failure
    assert result.interval_cycles == built[1].interval_cycles
    rows = {row.stage: row.compared for row in result.rows}
    runs = 9 if simulator == "verilator" else 2
    assert rows["fire2.add"] == runs * 3 * np.prod(built[0]["fire2.add"].shape) and rows["fire2.bypass"] > 0
    mark = next(m for m in result.fifo_marks if m.link == "fire2_bypass")
    assert least_depth(built[1], built[1].bypasses[0], rtl=True) < mark.high_water <= mark.depth or name == "complex"


@pytest.mark.parametrize(
    ("name", "fps"),
    [
        ("simple", FPS), ("complex", FPS), pytest.param("residual", FPS, marks=pytest.mark.slow), pytest.param("simple", 500_000.0, marks=pytest.mark.slow),
        pytest.param("nested", FPS, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_least_depth_goes_on_and_one_beat_less_stands_still(name: str, fps: float, tmp_path: Path) -> None:
    """Frames pass with every bypass at its least depth; with one of them a beat below, nothing comes out."""
    require("icarus")
    built = machine(name, fps)
    out = write(tmp_path, *built)
    plan = built[1]
    least = {b.name: least_depth(plan, b, rtl=True) for b in plan.bypasses}
    for bypass, depth in least.items():
        with_depth(out, bypass, depth)
    result = simulate(out, built, "icarus", frames=2)
    assert result.ok, result.first_failure
    for bypass, depth in least.items():
        with_depth(out, bypass, depth - 1)
        stuck = simulate(out, built, "icarus", frames=1)
        assert not stuck.ok and any("deadlock: nothing moved" in fault for fault in stuck.faults), bypass
        with_depth(out, bypass, depth)


@pytest.mark.parametrize("name", [pytest.param("residual", marks=pytest.mark.slow), "nested"])
def test_residual_and_nested_blocks_are_exact_and_no_slower(name: str, tmp_path: Path) -> None:
    require("verilator")
    built = machine(name)
    result = simulate(write(tmp_path, *built), built, "verilator", stalls="none,random:2,adversarial,reset")
    assert result.ok, result.first_failure
    assert result.interval_cycles == built[1].interval_cycles
    for bypass in built[1].bypasses:
        assert rtl_bypass_depth(built[1], bypass) >= full_rate_depth(built[1], bypass)


# ---------------------------------------------------------------- HLS


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("name", ["complex", "nested"])
def test_hls_equals_the_simulator_and_a_wrong_alignment_is_found(name: str, tmp_path: Path) -> None:
    qgraph, plan = machine(name)
    equal_at_every_stage(tmp_path, qgraph, plan)
    if name == "complex":
        wrong = wrong_stages(tmp_path, tmp_path / "hls/fire2_add.cpp", "ALIGN_BYPASS = 1;", "ALIGN_BYPASS = 0;")
        assert wrong == ["fire2.add", "squeezenet"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(("name", "share", "works"), [("simple", 1.0, True), ("residual", 1.0, True), ("simple", 0.25, False)])
def test_hls_processes_with_bounded_streams(name: str, share: float, works: bool, tmp_path: Path) -> None:
    """At the least depth for HLS two frames pass; at a quarter of it the machine is found to stand still."""
    qgraph, plan = machine(name)
    write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2))
    for path in sorted((tmp_path / "hls").glob("*.cpp")):
        text = path.read_text()
        for b in plan.bypasses:
            depth = max(1, int(share * least_depth(plan, b, rtl=False)))
            text = text.replace(f"variable=s_{b.name} depth={b.depth}\n", f"variable=s_{b.name} depth={depth}\n")
        path.write_text(threaded(text, None))
    shutil.copy(STREAMS, tmp_path / "hls/csim/hls_stream.h")
    if works:
        result = run_csim(tmp_path, cxx="g++ -pthread", optimize="-O0", timeout_seconds=100)
        assert result.ok, (result.first_failure, result.faults)
    else:
        with pytest.raises(CheckFailedError, match="deadlock: stream"):
            run_csim(tmp_path, cxx="g++ -pthread", optimize="-O0", timeout_seconds=100)


# ---------------------------------------------------------------- from a float graph


@pytest.mark.parametrize("build", [float_residual, float_plain], ids=["residual", "plain"])
def test_small_networks_built_by_hand_pass_in_hls_and_rtl(build: object, tmp_path: Path) -> None:
    require("verilator")
    graph = build()  # type: ignore[operator]
    qgraph = quantized(graph)
    plan = plan_machine(qgraph, 200.0, 60_000.0)
    write(tmp_path, qgraph, plan)
    result = simulate(tmp_path, (qgraph, plan), "verilator")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles
    if shutil.which("g++"):
        write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2))
        hls = run_csim(tmp_path, optimize="-O0")
        assert hls.ok, (hls.first_failure, hls.faults)
