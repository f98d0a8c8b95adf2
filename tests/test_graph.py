"""Networks that are no chain, in hardware: bit-exact in RTL, HLS and ONNX, at the predicted interval; FIFOs a quarter as deep stand still or are slower."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from graph_nets import NETS, inception_c, random_graph, side_by_side
from hls_cases import NetBuilder, equal_at_every_stage, frames_for, write_export
from residual_nets import PAD
from rtl_machines import lively, random_pixels, require, write
from test_csim_deadlock import STREAMS, threaded
from torch import nn

from fpga_squeeze import passes
from fpga_squeeze.api import export
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.rtl import emit_rtl
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.cost import plan_resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.fifo_rtl import rtl_link_depth
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.memory import memory_rows
from fpga_squeeze.hardware.plan import ConvStage, FoldPlan, JoinStage
from fpga_squeeze.hardware.search import device_limits, search
from fpga_squeeze.hardware.structure import chain_skeleton
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.report.html_pipeline import WIDE, pipeline_svg
from fpga_squeeze.report.machine import machine_json
from fpga_squeeze.report.performance import predicted_latency
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.cosim import RtlResult, run_rtl
from fpga_squeeze.verify.csim import CsimResult, run_csim

FPS = 100_000.0
slow = pytest.mark.slow
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def machine(plain: QuantGraph, fps: float = FPS) -> tuple[QuantGraph, FoldPlan]:
    qgraph = lively(plain, random_pixels(plain, 2))
    return qgraph, plan_machine(qgraph, 200.0, fps)


def simulate(out: Path, built: tuple[QuantGraph, FoldPlan], simulator: str, frames: int = 5, stalls: str | None = None) -> RtlResult:
    return run_rtl(out, *built, random_pixels(built[0], frames), simulator=simulator, stalls=stalls)


def rtl_depths(plan: FoldPlan) -> dict[str, int]:
    """Depth of the FIFO of every link in the RTL."""
    return {link.name: rtl_link_depth(plan, link) for link in plan.links} | {b.name: rtl_bypass_depth(plan, b) for b in plan.bypasses}


def at_interval(result: RtlResult, plan: FoldPlan) -> bool:
    """Whether frames come at the predicted interval, within a cycle: a pixel's share of the schedule need not be whole."""
    return result.interval_cycles is not None and plan.interval_cycles - 1 <= result.interval_cycles <= plan.interval_cycles + 1


# ---------------------------------------------------------------- plan


@pytest.mark.parametrize("name", sorted(NETS))
def test_files_reports_and_costs_know_every_link(name: str) -> None:
    qgraph, plan = machine(NETS[name]())
    assert plan.general
    again = folding_from_json(folding_to_json(plan), qgraph)
    assert again == plan and emit_rtl(qgraph, plan) == emit_rtl(qgraph, again) and emit_hls(qgraph, plan) == emit_hls(qgraph, again)
    links = (*plan.links, *plan.bypasses)
    rows = {row.name: row for row in memory_rows(plan, qgraph)}
    fifos = [row for row in rows.values() if row.kind == "fifos" and row.name.endswith(".fifo")]
    assert len(fifos) == len(links) and len(rows) == len(memory_rows(plan, qgraph))
    for link in links:
        row = next(rows[f"{n}.fifo"] for n in (link.name, f"{link.consumer}.in", f"{link.consumer}.bypass") if f"{n}.fifo" in rows)
        assert row.depth > 0
    network = json.loads(emit_rtl(qgraph, plan)["sim/network.json"])
    labels = [s["stage"] for s in network["streams"]]
    assert len(labels) == len(set(labels)) == len(links), "every stream has a row of its own"
    drawn = machine_json(plan)
    main = len(plan.links)
    sides = [b.producer != a.name for a, b in zip(plan.stages, plan.links[1:-1], strict=False)]
    assert [link["side"] for link in drawn["links"][1 : main - 1]] == sides and all(link["side"] for link in drawn["links"][main:])
    assert pipeline_svg(drawn, plan.stages[0].name, WIDE).count("data-stage=") == len(plan.stages)
    # The longest way, not the sum of all stages.
    assert plan.interval_cycles < predicted_latency(plan) < predicted_latency(replace(plan, general=False))
    if name == "inception_c":
        assert {"p.b.in.fifo", "q.in.in.fifo", "stem.fifo"} <= set(rows)


def test_a_plan_that_reads_other_tensors_or_has_shallower_fifos_is_refused() -> None:
    qgraph, plan = machine(side_by_side())
    b = plan.link_into("b.c1")
    at = plan.links.index(b)

    def changed(**values: object) -> FoldPlan:
        return replace(plan, links=(*plan.links[:at], replace(b, **values), *plan.links[at + 1 :]))  # type: ignore[arg-type]

    for values, message in [
        ({"producer": "a.c1"}, "stage b.c1: link b_c1_in carries stem, which a.c1 does not make"),
        ({"producer": "a.c1", "tensor": "a.c1"}, "stage b.c1: b.c1 reads stem, got a.c1"),
        ({"depth": b.depth - 1}, f"stage b.c1: link b_c1_in needs a depth of at least {b.depth} beats, got {b.depth - 1}"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            verify_plan(changed(**values), qgraph)
    stages, links = list(plan.stages), list(plan.links)
    for listed in (stages, links):
        listed[at], listed[at + 1] = listed[at + 1], listed[at]
    with pytest.raises(InputError, match=r"stage b\.add: link b_c1 must come from a stage before b\.add, got b\.c1"):
        verify_plan(replace(plan, stages=tuple(stages), links=tuple(links)), qgraph)
    with pytest.raises(InputError, match=f"the schedule takes {plan.pace} cycles a frame, the plan says {plan.pace - 1}"):
        verify_plan(replace(plan, pace=plan.pace - 1), qgraph)


def test_several_pixels_at_a_time_where_a_bypass_would_be_and_a_folding_file_that_says_so() -> None:
    """In a chain the branch of 1x1 convolutions is a bypass, and p_px above 1 on it needs more of the stream than the main branch has had."""
    from concat_nets import pairs

    qgraph, plan = machine(pairs())
    assert not plan.general
    body = json.loads(folding_to_json(plan))
    entry = next(s for s in body["stages"] if s["name"] == "p3.cat")
    entry["engine"]["p_px"] = 4
    with pytest.raises(InputError, match=r"stage p3\.cat: bypass .* must not need more of p2\.cat"):
        folding_from_json(json.dumps(body), qgraph)
    # The same network with every layer a stage of its own: any engine may take several.
    from fpga_squeeze.hardware.chain import cheapest_chain
    from fpga_squeeze.hardware.links import assemble
    from fpga_squeeze.hardware.structure import general_skeleton

    skeleton = general_skeleton(qgraph)
    free = assemble(qgraph, skeleton, cheapest_chain(skeleton, 2_000, 3), 200.0, 2_000)
    body = json.loads(folding_to_json(free))
    next(s for s in body["stages"] if s["name"] == "p3.b")["engine"]["p_px"] = 4
    grouped = folding_from_json(json.dumps(body), qgraph)
    assert grouped.general and grouped.link_into("p3.b").tensor == "p2.cat"
    assert next(s for s in grouped.stages if s.name == "p3.b").engines[0].fold.p_px == 4


def test_a_search_for_a_device_keeps_to_its_limits() -> None:
    qgraph = inception_c()
    device, goal = find_device("lifcl-40"), Goal(50.0, 2_000.0)
    found = search(qgraph, goal, device)
    limits = device_limits(device, goal)
    for resource in ("dsp", "bram18", "lut", "ff"):
        assert getattr(found.resources, resource) <= getattr(limits, resource), resource
    assert found.plan.general and found.resources == plan_resources(found.plan, device) and found.plan.interval_cycles <= 25_000
    fastest = search(qgraph, Goal(50.0), device)
    assert fastest.plan.interval_cycles < found.plan.interval_cycles and fastest.bound_cycles <= fastest.plan.interval_cycles


def test_a_rate_that_a_buffer_spoils_is_made_up_by_the_folds_or_refused() -> None:
    """A 5x5 convolution without padding waits for rows of the next frame: alone it would take longer than its multiplications do."""
    plain = random_graph(13)
    plan = plan_machine(plain, 200.0, 20_000.0)
    assert plan.general and max(s.cycles for s in plan.stages) < plan.interval_cycles <= plan.target_cycles == 10_000


def unpadded(size: int = 14) -> QuantGraph:
    """A chain whose later convolutions have no padding: each begins a frame with rows that give it nothing to do."""
    net = NetBuilder(31)
    x = net.conv("a", net.image(3, size, size), 8, 3, padding=PAD)
    return net.finish(net.conv("last", net.conv("c", net.conv("b", x, 8, 3), 8, 3), 10, 1))


# ---------------------------------------------------------------- RTL


@pytest.mark.parametrize("fps", [10_000.0, 60_000.0])
def test_a_chain_whose_convolutions_wait_for_rows_keeps_the_rate_it_promises(fps: float, tmp_path: Path) -> None:
    """With FIFOs of a chain, which say nothing of those rows, it takes a tenth longer than its slowest stage."""
    require("verilator")
    qgraph, plan = machine(unpadded(), fps)
    assert plan.general and plan.interval_cycles <= plan.target_cycles == 200e6 // fps
    result = simulate(write(tmp_path, qgraph, plan), (qgraph, plan), "verilator")
    assert result.ok and at_interval(result, plan), (result.interval_cycles, plan.interval_cycles)
    chain = assemble(qgraph, chain_skeleton(qgraph), tuple(replace(s, module=s.name) for s in plan.stages), 200.0, plan.target_cycles)
    assert not chain.general and chain.interval_cycles == max(s.cycles for s in plan.stages)
    result = simulate(write(tmp_path / "chain", qgraph, chain), (qgraph, chain), "verilator")
    assert result.ok and result.interval_cycles is not None and result.interval_cycles > 1.05 * plan.interval_cycles


def test_padding_and_strides_that_leave_no_rows_to_wait_for_stay_a_chain() -> None:
    net = NetBuilder(32)
    x = net.conv("a", net.image(3, 16, 16), 4, 3)
    x = net.conv("halve", net.conv("same", x, 4, 3, padding=PAD), 4, 2, 2)
    assert not machine(net.finish(net.conv("last", net.conv("down", x, 4, 3, 2, padding=PAD), 3, 1)))[1].general


@pytest.mark.parametrize(
    ("name", "simulator"),
    [
        ("side_by_side", "verilator"), *(pytest.param(name, "verilator", marks=slow) for name in ("inception_c", "itself", "overtaking")),
        *(pytest.param(name, "icarus", marks=slow) for name in NETS),
    ],
)  # fmt: skip
def test_exact_at_the_predicted_interval_under_stalls_and_after_a_reset(name: str, simulator: str, tmp_path: Path) -> None:
    require(simulator)
    qgraph, plan = machine(NETS[name]())
    stalls = "none,random:1-2,input,output,adversarial,reset" if simulator == "verilator" else "none,reset"
    frames = 3
    result = simulate(write(tmp_path, qgraph, plan), (qgraph, plan), simulator, frames, stalls)
    assert result.ok, result.first_failure
    assert at_interval(result, plan), (result.interval_cycles, plan.interval_cycles)
    compared = {row.stage: row.compared for row in result.rows}
    runs = 7 if simulator == "verilator" else 2
    for stage in plan.stages:
        if isinstance(stage, JoinStage):
            assert compared[stage.name] == runs * frames * np.prod(stage.out_shape)


def with_depths(out: Path, depths: dict[str, int]) -> None:
    """Give FIFOs of an RTL folder other depths."""
    path = out / "rtl/squeezenet.sv"
    text = path.read_text()
    for name, depth in depths.items():
        text, count = re.subn(rf"\.DEPTH\(\d+\)(, \.STYLE\(\d\))?\) {name}_fifo ", rf".DEPTH({depth})\1) {name}_fifo ", text)
        assert count == 1
    path.write_text(text)


def test_a_quarter_of_a_depth_stands_still_and_half_of_one_is_slower(tmp_path: Path) -> None:
    """Of two residual blocks the longer one makes the shorter one wait: its sums, and the tensor that both have an identity of."""
    require("icarus")
    qgraph, plan = machine(side_by_side())
    out = write(tmp_path, qgraph, plan)
    depths = rtl_depths(plan)
    deep = {name: depth for name, depth in depths.items() if depth >= 40}
    assert set(deep) == {"b_add", "a_add_bypass", "b_add_bypass"}
    assert at_interval(simulate(out, (qgraph, plan), "icarus", 3), plan)
    for name, depth in deep.items():
        with_depths(out, deep | {name: depth // 4})
        stuck = simulate(out, (qgraph, plan), "icarus", 1)
        assert not stuck.ok and any("deadlock: nothing moved" in fault for fault in stuck.faults), name
    with_depths(out, deep | {"b_add": deep["b_add"] // 2})
    result = simulate(out, (qgraph, plan), "icarus", 3)
    assert result.ok and result.interval_cycles is not None and result.interval_cycles > 1.2 * plan.interval_cycles


# ---------------------------------------------------------------- HLS


@slow
@needs_gcc
@pytest.mark.parametrize("name", sorted(NETS))
def test_hls_equals_the_simulator(name: str, tmp_path: Path) -> None:
    equal_at_every_stage(tmp_path, *machine(NETS[name]()))


def bounded(out: Path, qgraph: QuantGraph, plan: FoldPlan, divisor: int = 1) -> CsimResult:
    """C simulation with a thread a process and every stream at its depth, those between stages at a part of it."""
    write_export(out, qgraph, plan, frames_for(qgraph, 2))
    for path in sorted((out / "hls").glob("*.cpp")):
        text = path.read_text()
        for link in (*plan.links, *plan.bypasses):
            text = text.replace(f"variable=s_{link.name} depth={link.depth}\n", f"variable=s_{link.name} depth={max(1, link.depth // divisor)}\n")
        path.write_text(threaded(text, None))
    shutil.copy(STREAMS, out / "hls/csim/hls_stream.h")
    return run_csim(out, cxx="g++ -pthread", optimize="-O0", timeout_seconds=100)


@needs_gcc
@pytest.mark.parametrize("name", [pytest.param(name, marks=slow) if name != "side_by_side" else name for name in NETS])
def test_hls_processes_with_bounded_streams(name: str, tmp_path: Path) -> None:
    result = bounded(tmp_path, *machine(NETS[name]()))
    assert result.ok, (result.first_failure, result.faults)


@slow
@needs_gcc
@pytest.mark.parametrize("name", ["side_by_side", "overtaking"])
def test_hls_streams_a_quarter_as_deep_stand_still(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match="deadlock: stream"):
        bounded(tmp_path, *machine(NETS[name]()), divisor=4)


# ---------------------------------------------------------------- random graphs


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_random_graphs_fold_export_and_simulate_alike(first: int) -> None:
    general = 0
    for seed in range(first, first + 20):
        qgraph = random_graph(seed)
        plan = plan_machine(qgraph, 200.0, (2_000.0, 50_000.0)[seed % 2])
        general += plan.general
        assert folding_from_json(folding_to_json(plan), qgraph) == plan
        frames = frames_for(qgraph, 1)
        reference, fast = run_reference(qgraph, frames[0]), FastSimulator(qgraph).trace(frames)
        for name, values in reference.items():
            assert np.array_equal(values, fast[name].reshape(values.shape) if name in fast else values), (seed, name)
        files = emit_hls(qgraph, plan) | emit_rtl(qgraph, plan)
        assert plan_resources(plan).lut > 0 and memory_rows(plan, qgraph) and len(files) > len(plan.stages)
    assert general >= 18, "most random graphs are no chain"


@pytest.mark.parametrize(
    ("seed", "fps", "simulator"),
    [
        (5, 50_000.0, "verilator"),
        *((seed, fps, "verilator") for seed, fps in [(13, 50_000.0), (20, 50_000.0), (33, 400_000.0), (39, 400_000.0), (63, 300_000.0)]),
        *((seed, 100_000.0, "icarus") for seed in (24, 52)),
    ],
)  # fmt: skip
@slow
def test_random_graphs_in_rtl(seed: int, fps: float, simulator: str, tmp_path: Path) -> None:
    require(simulator)
    qgraph, plan = machine(random_graph(seed), fps)
    assert plan.general
    stalls = "none,random:2,adversarial,reset" if simulator == "verilator" else None
    result = simulate(write(tmp_path, qgraph, plan), (qgraph, plan), simulator, 10, stalls)
    assert result.ok, result.first_failure
    # The interval between the last two: in the first frames FIFOs still fill, and hide what a stage waits for.
    assert at_interval(result, plan), (result.interval_cycles, plan.interval_cycles)


@slow
@needs_gcc
@pytest.mark.parametrize("seed", [1, 4, 13, 20, 33])
def test_random_graphs_in_hls_with_bounded_streams(seed: int, tmp_path: Path) -> None:
    result = bounded(tmp_path, *machine(random_graph(seed), 50_000.0))
    assert result.ok, (result.first_failure, result.faults)


# ---------------------------------------------------------------- from a file


class Residual(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, kernel, 1, kernel // 2), nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.b(torch.relu(self.a(x))) + x)


class Split(nn.Module):
    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.reduce, self.a, self.b = nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, 3, 3, 1, 1), nn.Conv2d(middle, 4, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.reduce(x))
        return torch.cat([torch.relu(self.a(y)), torch.relu(self.b(y))], 1)


class Branching(nn.Module):
    """Two residual blocks side by side, summed; three branches of which two fork again; two strided convolutions that overtake each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3, 1, 1), Residual(4, 3), Residual(4, 1)
        self.p, self.q, self.project = Split(4, 3), Split(4, 4), nn.Conv2d(4, 2, 1)
        self.even, self.odd, self.classify = nn.Conv2d(16, 4, 2, 2), nn.Conv2d(16, 5, 3, 2, 1), nn.Conv2d(9, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.one(x) + self.two(x))
        x = torch.cat([self.p(x), self.q(x), torch.relu(self.project(nn.functional.max_pool2d(x, 3, 1, 1)))], 1)
        x = torch.cat([torch.relu(self.even(x)), torch.relu(self.odd(x))], 1)
        return torch.flatten(nn.functional.adaptive_avg_pool2d(self.classify(x), 1), 1)


def stored(path: Path) -> Path:
    torch.manual_seed(1)
    model, example = Branching().eval(), (torch.zeros(1, 3, 12, 12),)
    if path.suffix == ".pt2":
        torch.export.save(torch.export.export(model, example), path)
    else:
        torch.onnx.export(model, example, str(path), dynamo=False, opset_version=13)
    return path


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pt2", marks=slow)])
def test_branching_networks_load_and_fold(suffix: str, tmp_path: Path) -> None:
    loaded = load_model(stored(tmp_path / f"net{suffix}"), LoadOptions())
    lowered = passes.lower(loaded.graph, loaded.preprocess)
    frames = np.random.default_rng(7).integers(0, 256, (4, 3, 12, 12), dtype=np.uint8)
    qgraph = quantize(lowered, calibrate(lowered, frames), QuantOptions())
    plan = plan_machine(qgraph, 200.0, 50_000.0)
    assert plan.general and plan.interval_cycles <= 4_000
    assert sum(isinstance(s, JoinStage) for s in plan.stages) == 8 and sum(isinstance(s, ConvStage) for s in plan.stages) == 15


@slow
def test_a_branching_network_passes_every_check(tmp_path: Path) -> None:
    require("verilator")
    design = export(stored(tmp_path / "net.pt2"), calibration="random", out=tmp_path / "out", target_fps=50_000.0)
    assert design.plan.general
    verification = design.verify(hls=True, rtl=True, onnx=True)
    assert verification.ok, (verification.faults, [row for row in verification.checks if not row.ok])
    assert {"one.a", "two.a.in", "q.b.in"} <= {row.stage for row in verification.checks if row.implementation == "verilator"}
    assert verification.rtl is not None and at_interval(verification.rtl, design.plan)


class _PreActivation(torch.nn.Module):
    """A residual network of pre-activation blocks whose second block concatenates a rectified branch with one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(6)
        self.inner = torch.nn.Conv2d(6, 6, 3, padding=1)
        self.left, self.right = torch.nn.Conv2d(6, 4, 1), torch.nn.Conv2d(6, 3, 3, padding=1)
        self.last = torch.nn.Conv2d(7, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(torch.nn.functional.max_pool2d(x, 2))
        x = x + self.inner(torch.relu(self.norm(x)))
        return self.last(torch.cat([torch.relu(self.left(x)), self.right(x)], 1)).mean((2, 3))


def test_layers_that_stand_alone_are_machines_too(tmp_path: Path, run_cli: RunCli) -> None:
    """Batch normalization and ReLU on values that are read otherwise too, a pool of the image, a Concat of both signs: from ONNX to the simulators."""
    torch.manual_seed(4)
    model = _PreActivation()
    model.norm.running_mean, model.norm.running_var = torch.randn(6) * 0.3, torch.rand(6) + 0.5
    torch.onnx.export(model.eval(), (torch.rand(1, 3, 16, 16),), str(tmp_path / "net.onnx"), dynamo=False, opset_version=17)
    result = run_cli("export", tmp_path / "net.onnx", "--calibration", "random", "--preprocess", "none", "-o", tmp_path / "o", "--target-fps", "20000")
    assert result.code == 0, result.err
    result = run_cli("verify", tmp_path / "o", "--hls", "--rtl", "--onnx", "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["ok"] and {c["implementation"] for c in body["checks"]} >= {"hls", "verilator", "onnx"}
    assert abs(body["rtl"]["interval_cycles"] / body["rtl"]["predicted_interval_cycles"] - 1) < 0.02
