"""General concats and long bypasses in hardware: bit-exact in RTL, HLS and ONNX, at the predicted interval; the FIFO's least depth is exact where derived."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from concat_nets import NETS, random_dag
from hls_cases import equal_at_every_stage, frames_for, write_export, wrong_stages
from hypothesis import given, settings
from hypothesis import strategies as st
from residual_nets import with_depth
from rtl_machines import lively, random_pixels, require, write
from test_csim_deadlock import STREAMS, threaded
from torch import nn

from fpga_squeeze import passes
from fpga_squeeze.api import export
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.rtl import emit_rtl
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.bypass import full_rate_depth, least_depth, rtl_bypass_depth
from fpga_squeeze.hardware.cost import plan_resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.memory import memory_rows
from fpga_squeeze.hardware.plan import ConcatStage, FoldPlan, JoinStage
from fpga_squeeze.hardware.search import device_limits, search
from fpga_squeeze.hardware.structure import bypass_label
from fpga_squeeze.inspect_stage import _nodes, _what
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from fpga_squeeze.verify.csim import run_csim

FPS = 100_000.0
slow = pytest.mark.slow


def machine(name: str, fps: float = FPS) -> tuple[QuantGraph, FoldPlan]:
    plain = NETS[name]()
    qgraph = lively(plain, random_pixels(plain, 2))
    return qgraph, plan_machine(qgraph, 200.0, fps)


def with_lanes(qgraph: QuantGraph, plan: FoldPlan, lanes: int) -> FoldPlan:
    """`plan` with every concat on so many lanes, whether they divide its channels or not."""
    body = json.loads(folding_to_json(plan))
    for entry, stage in zip(body["stages"], plan.stages, strict=True):
        if isinstance(stage, ConcatStage):
            entry["lanes"] = lanes
    return folding_from_json(json.dumps(body), qgraph)


def simulate(out: Path, built: tuple[QuantGraph, FoldPlan], simulator: str, frames: int = 3, stalls: str | None = None) -> RtlResult:
    return run_rtl(out, *built, random_pixels(built[0], frames), simulator=simulator, stalls=stalls)


# ---------------------------------------------------------------- plan


@pytest.mark.parametrize("name", sorted(NETS))
def test_folding_file_memory_and_cost_know_every_part(name: str) -> None:
    qgraph, plan = machine(name)
    again = folding_from_json(folding_to_json(plan), qgraph)
    assert again == plan and again.bypasses == plan.bypasses
    assert emit_rtl(qgraph, plan) == emit_rtl(qgraph, again) and emit_hls(qgraph, plan) == emit_hls(qgraph, again)
    rows = {row.name: row for row in memory_rows(plan, qgraph)}
    for stage in plan.stages:
        if isinstance(stage, JoinStage):
            assert rows[f"{bypass_label(stage)}.bypass.fifo"].depth == plan.bypass_into(stage.name).depth
    for stage in plan.stages:
        if isinstance(stage, JoinStage) and stage.side:
            assert {f"{e.node}.weights" for e in stage.engines} <= set(rows)
            bare = replace(plan, stages=tuple(replace(s, side=(), side_depth=0) if s is stage else s for s in plan.stages))
            assert sum(s.cycles for s in bare.stages) <= sum(s.cycles for s in plan.stages)
        assert _what(stage) and set(_nodes(stage)) <= set(qgraph.by_name)
    assert {n for s in plan.stages for n in _nodes(s)} == set(qgraph.by_name) - {"image"}
    if name == "chains":
        assert rows["i1.pool.rows"].kind == "line_buffers" and rows["down.cat.side.fifo"].kind == "fifos"
        body = json.loads(folding_to_json(plan))
        entry = next(s for s in body["stages"] if s["name"] == "i1.cat")
        assert [list(s) for s in entry["side"]] == [["name", "cycles", "lanes"], ["name", "cycles", "engine"]]
        entry["side"][1]["engine"]["p_oc"] = 99
        with pytest.raises(InputError, match=r"stage i1\.cat: p_oc must be 1 to 3, got 99"):
            folding_from_json(json.dumps(body), qgraph)
        entry["side"] = entry["side"][:1]
        with pytest.raises(InputError, match=r"stage i1\.cat: side must be i1\.pool, i1\.project, in this order; got \['i1\.pool'\]"):
            folding_from_json(json.dumps(body), qgraph)


def test_a_plan_that_joins_other_tensors_is_refused() -> None:
    qgraph, plan = machine("chains")

    def changed(name: str, **values: object) -> FoldPlan:
        return replace(plan, stages=tuple(replace(s, **values) if s.name == name else s for s in plan.stages))  # type: ignore[arg-type]

    stage = next(s for s in plan.stages if s.name == "i1.cat")
    assert isinstance(stage, ConcatStage)
    for values, message in [
        ({"lanes": 10}, r"stage i1\.cat: lanes must be 1 to 9, got 10"),
        ({"main_first": True}, r"stage i1\.cat: i1\.cat begins with i1\.project"),
        ({"side": stage.side[::-1]}, r"stage i1\.cat: "),
        ({"side": ()}, r"layer i1\.pool: every layer must be computed by exactly one stage"),
        ({"side_depth": 0}, r"stage i1\.cat: side_depth must be at least"),
    ]:
        with pytest.raises(InputError, match=message):
            verify_plan(changed("i1.cat", **values), qgraph)


@pytest.mark.parametrize("name", sorted(NETS))
def test_a_search_for_a_device_keeps_to_its_limits(name: str) -> None:
    qgraph = NETS[name]()
    device, goal = find_device("lifcl-40"), Goal(50.0, 2_000.0)
    found = search(qgraph, goal, device)
    limits = device_limits(device, goal)
    for resource in ("dsp", "bram18", "lut", "ff"):
        assert getattr(found.resources, resource) <= getattr(limits, resource), resource
    assert found.plan.bypasses and found.resources == plan_resources(found.plan, device)


# ---------------------------------------------------------------- RTL


@pytest.mark.parametrize(
    ("name", "lanes", "simulator"),
    [
        ("dense", 0, "verilator"), ("chains", 0, "verilator"), pytest.param("pairs", 0, "verilator", marks=slow), ("dense", 3, "icarus"),
        *(pytest.param(name, lanes, "verilator", marks=slow) for name in NETS for lanes in (2, 3, 5)),
        *(pytest.param(name, 0, "icarus", marks=slow) for name in NETS),
    ],
)  # fmt: skip
def test_exact_at_the_predicted_interval_under_stalls_and_after_a_reset(name: str, lanes: int, simulator: str, tmp_path: Path) -> None:
    require(simulator)
    qgraph, plan = machine(name)
    plan = with_lanes(qgraph, plan, lanes) if lanes else plan
    stalls = "none,random:1-2,input,output,adversarial,reset" if simulator == "verilator" else "none,reset"
    result = simulate(write(tmp_path, qgraph, plan), (qgraph, plan), simulator, stalls=stalls)
    assert result.ok, result.first_failure
    assert result.interval_cycles == plan.interval_cycles
    compared = {row.stage: row.compared for row in result.rows}
    runs = 7 if simulator == "verilator" else 2
    for stage in plan.stages:
        if isinstance(stage, JoinStage):
            assert compared[stage.name] == runs * 3 * np.prod(stage.out_shape)
    for bypass in plan.bypasses:
        assert rtl_bypass_depth(plan, bypass) >= full_rate_depth(plan, bypass)


@pytest.mark.parametrize(
    ("name", "lanes", "fps"),
    [("dense", 0, FPS), pytest.param("dense", 3, FPS, marks=slow), pytest.param("dense", 0, 500_000.0, marks=slow), pytest.param("pairs", 0, FPS, marks=slow)],
)
def test_the_least_depth_goes_on_and_one_beat_less_stands_still(name: str, lanes: int, fps: float, tmp_path: Path) -> None:
    """Frames pass with every bypass at its least depth; with one of them a beat below, nothing comes out."""
    require("icarus")
    qgraph, plan = machine(name, fps)
    plan = with_lanes(qgraph, plan, lanes) if lanes else plan
    out = write(tmp_path, qgraph, plan)
    least = {b.name: least_depth(plan, b, rtl=True) for b in plan.bypasses}
    for bypass, depth in least.items():
        with_depth(out, bypass, depth)
    result = simulate(out, (qgraph, plan), "icarus", frames=2)
    assert result.ok, result.first_failure
    for bypass, depth in least.items():
        if depth == 1:
            continue
        with_depth(out, bypass, depth - 1)
        stuck = simulate(out, (qgraph, plan), "icarus", frames=1)
        assert not stuck.ok and any("deadlock: nothing moved" in fault for fault in stuck.faults), bypass
        with_depth(out, bypass, depth)


@pytest.mark.slow
def test_pools_and_chains_on_the_bypass_go_on_at_the_bound_and_stand_still_far_below(tmp_path: Path) -> None:
    require("icarus")
    qgraph, plan = machine("chains")
    out = write(tmp_path, qgraph, plan)
    least = {b.name: least_depth(plan, b, rtl=True) for b in plan.bypasses}
    for bypass, depth in least.items():
        with_depth(out, bypass, depth)
    result = simulate(out, (qgraph, plan), "icarus", frames=2)
    assert result.ok, result.first_failure
    with_depth(out, "s_bypass", least["s_bypass"] // 16)
    stuck = simulate(out, (qgraph, plan), "icarus", frames=1)
    assert not stuck.ok and any("deadlock: nothing moved" in fault for fault in stuck.faults)


# ---------------------------------------------------------------- HLS


needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@needs_gcc
@pytest.mark.parametrize(("name", "lanes"), [("dense", 3), pytest.param("pairs", 5, marks=slow), pytest.param("chains", 0, marks=slow)])
def test_hls_equals_the_simulator_and_a_wrong_order_is_found(name: str, lanes: int, tmp_path: Path) -> None:
    qgraph, plan = machine(name)
    plan = with_lanes(qgraph, plan, lanes) if lanes else plan
    equal_at_every_stage(tmp_path, qgraph, plan)
    if name == "dense":
        wrong = wrong_stages(tmp_path, tmp_path / "hls/lib/concat_pack.h", "back.lane[i - REST]", "back.lane[i]")
        assert wrong == ["d1.cat", "d2.cat", "squeezenet"]


@needs_gcc
@pytest.mark.parametrize("name", ["chains", pytest.param("dense", marks=slow), pytest.param("pairs", marks=slow)])
def test_hls_processes_with_bounded_streams(name: str, tmp_path: Path) -> None:
    """A thread a process, every stream at its depth, the bypasses at the least for HLS."""
    qgraph, plan = machine(name)
    write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2))
    for path in sorted((tmp_path / "hls").glob("*.cpp")):
        text = path.read_text()
        for b in plan.bypasses:
            text = text.replace(f"variable=s_{b.name} depth={b.depth}\n", f"variable=s_{b.name} depth={least_depth(plan, b, rtl=False)}\n")
        path.write_text(threaded(text, None))
    shutil.copy(STREAMS, tmp_path / "hls/csim/hls_stream.h")
    result = run_csim(tmp_path, cxx="g++ -pthread", optimize="-O0", timeout_seconds=100)
    assert result.ok, (result.first_failure, result.faults)


# ---------------------------------------------------------------- random graphs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2_000.0, 20_000.0]))
def test_random_graphs_of_the_supported_form_fold_export_and_simulate_alike(seed: int, fps: float) -> None:
    qgraph = random_dag(seed)
    plan = plan_machine(qgraph, 200.0, fps)
    assert folding_from_json(folding_to_json(plan), qgraph) == plan
    frames = frames_for(qgraph, 1)
    reference, fast = run_reference(qgraph, frames[0]), FastSimulator(qgraph).trace(frames)
    for name, values in reference.items():
        assert np.array_equal(values, fast[name].reshape(values.shape) if name in fast else values), name
    files = emit_hls(qgraph, plan) | emit_rtl(qgraph, plan)
    assert plan_resources(plan).lut > 0 and memory_rows(plan, qgraph) and len(files) > len(plan.stages)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101, 103, 104, 105])
def test_random_graphs_in_rtl(seed: int, tmp_path: Path) -> None:
    require("verilator")
    plain = random_dag(seed)
    qgraph = lively(plain, random_pixels(plain, 2))
    plan = plan_machine(qgraph, 200.0, 50_000.0)
    result = simulate(write(tmp_path, qgraph, plan), (qgraph, plan), "verilator", stalls="none,random:2,adversarial,reset")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles


# ---------------------------------------------------------------- from a file


class Wide(nn.Module):
    """An Inception block of four branches, a pool, then three layers of a DenseNet: every Concat but one has three operands or four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layer(3, 5, 3)
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), layer(5, 3, 1))
        self.branches = nn.ModuleList([layer(5, 4, 1), nn.Sequential(layer(5, 3, 1), layer(3, 5, 3)), nn.Sequential(layer(5, 2, 1), layer(2, 4, 5)), pooled])
        self.pool, self.reduce = nn.MaxPool2d(2, 2), layer(16, 4, 1)
        self.growth = nn.ModuleList([layer(4, 3, 3), layer(7, 3, 3), layer(10, 3, 3)])
        self.classify = nn.Conv2d(13, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([branch(x) for branch in self.branches], 1)
        features = [self.reduce(self.pool(x))]
        for grow in self.growth:
            features.append(grow(torch.cat(features, 1) if len(features) > 1 else features[0]))
        return torch.flatten(nn.functional.adaptive_avg_pool2d(self.classify(torch.cat(features, 1)), 1), 1)


def layer(into: int, out: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(into, out, kernel, 1, kernel // 2), nn.BatchNorm2d(out), nn.ReLU())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_inception_and_densenet_blocks_load_and_fold(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, example = Wide().eval(), (torch.zeros(1, 3, 16, 16),)
    path = tmp_path / f"wide{suffix}"
    if suffix == ".pt2":
        torch.export.save(torch.export.export(model, example), path)
    else:
        torch.onnx.export(model, example, str(path), dynamo=False, opset_version=13)
    loaded = load_model(path, LoadOptions())
    lowered = passes.lower(loaded.graph, loaded.preprocess)
    frames = np.random.default_rng(7).integers(0, 256, (4, 3, 16, 16), dtype=np.uint8)
    qgraph = quantize(lowered, calibrate(lowered, frames), QuantOptions())
    plan = plan_machine(qgraph, 200.0, 50_000.0)
    joins = [s for s in plan.stages if isinstance(s, ConcatStage)]
    assert len(joins) == 9 and plan.interval_cycles <= 4_000 and sorted(len(s.side) for s in joins) == [0, 0, 0, 0, 0, 0, 1, 2, 2]


@pytest.mark.slow
def test_inception_and_densenet_blocks_pass_every_check(tmp_path: Path) -> None:
    require("verilator")
    torch.manual_seed(1)
    torch.export.save(torch.export.export(Wide().eval(), (torch.zeros(1, 3, 16, 16),)), tmp_path / "wide.pt2")
    design = export(tmp_path / "wide.pt2", calibration="random", out=tmp_path / "out", target_fps=50_000.0)
    verification = design.verify(hls=True, rtl=True, onnx=True)
    assert verification.ok, (verification.faults, [row for row in verification.checks if not row.ok])
    assert verification.rtl is not None and verification.rtl.interval_cycles is not None
    assert verification.rtl.interval_cycles <= 1.01 * design.plan.interval_cycles
