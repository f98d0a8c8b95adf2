"""Legality of a FoldPlan: what the emitters rely on, checked once for every plan, searched or edited by hand."""

from __future__ import annotations

from itertools import pairwise

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.fifo import link_depth
from fpga_squeeze.hardware.plan import ConvStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, PoolStage, Stage
from fpga_squeeze.hardware.structure import stage_in_lanes, stage_out_lanes
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph


def verify_plan(plan: FoldPlan, qgraph: QuantGraph) -> None:
    """Raise InputError, naming the stage, unless `plan` is legal for `qgraph`.

    Folds divide their dimensions; lanes divide their channels and agree with the links; shapes and formats are the graph's; every convolution is
    computed exactly once; links join the stages in order from s_axis to m_axis with unique names; depths are no less than derived.
    """
    for stage in plan.stages:
        _verify_stage(stage, qgraph)
    _verify_cover(plan, qgraph)
    _verify_links(plan, qgraph)


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise InputError(f"stage {where}: {message}")


def _divides(where: str, label: str, lanes: int, channels: int) -> None:
    _require(isinstance(lanes, int) and lanes >= 1 and channels % lanes == 0, where, f"{label} must divide {channels}, got {lanes}")


def _verify_stage(stage: Stage, qgraph: QuantGraph) -> None:
    for engine in stage.engines:
        _verify_engine(stage.name, engine, qgraph)
    if isinstance(stage, ConvStage):
        return
    if isinstance(stage, ExpandStage):
        e1, e3 = stage.expand1x1, stage.expand3x3
        _require(e1.in_shape == e3.in_shape and e1.out_shape[1:] == e3.out_shape[1:], stage.name, "both expand engines must share input and output size")
        a, b = e1.fold.p_ic, e3.fold.p_ic
        _require(a % b == 0 or b % a == 0, stage.name, f"p_ic of the two expand engines must divide one another, got {a} and {b}")
        slow = f"expand1x1 must not be slower than expand3x3, got {e1.cycles} and {e3.cycles} cycles; raise p_oc or p_ic of expand1x1"
        _require(e1.cycles <= e3.cycles, stage.name, slow)
        _divides(stage.name, "out_lanes", stage.out_lanes, e1.out_shape[0])
        _divides(stage.name, "out_lanes", stage.out_lanes, e3.out_shape[0])
        return
    node = qgraph[stage.node]
    source = qgraph[node.inputs[0]]
    _require(stage.in_shape == source.shape, stage.name, f"input shape {stage.in_shape} differs from the graph's {source.shape}")
    _divides(stage.name, "lanes", stage.lanes, stage.in_shape[0])
    if isinstance(stage, PoolStage):
        _require(stage.out_shape == node.shape and stage.fmt == node.fmt, stage.name, "output shape or format differs from the graph's")


def _verify_engine(where: str, engine: Engine, qgraph: QuantGraph) -> None:
    node = qgraph[engine.node]
    op = node.op
    _require(isinstance(op, QConv), where, f"{engine.node} is no convolution")
    assert isinstance(op, QConv)
    source = qgraph[node.inputs[0]]
    same = (engine.in_shape, engine.out_shape, engine.in_fmt, engine.out_fmt) == (source.shape, node.shape, source.fmt, node.fmt)
    same = same and (engine.kernel, engine.stride, engine.padding, engine.pad_value) == (op.kernel, op.stride, op.padding, op.pad_value)
    same = same and (engine.weight_bits, engine.acc_bits) == (op.weight_bits, op.acc_bits)
    _require(same, where, f"engine {engine.node} differs from the graph's convolution in shape, format or geometry")
    _divides(where, "p_oc", engine.fold.p_oc, engine.out_shape[0])
    _divides(where, "p_ic", engine.fold.p_ic, engine.in_shape[0])
    allowed = sorted({1, engine.kernel, engine.kernel**2})
    _require(engine.fold.p_k in allowed, where, f"p_k must be one of {', '.join(map(str, allowed))}, got {engine.fold.p_k}")


def _verify_cover(plan: FoldPlan, qgraph: QuantGraph) -> None:
    computed = sorted(e.node for s in plan.stages for e in s.engines)
    computed += sorted(s.node for s in plan.stages if isinstance(s, PoolStage | GlobalSumStage))
    computed += [s.concat for s in plan.stages if isinstance(s, ExpandStage)]
    expected = sorted(n.name for n in qgraph.nodes[1:])
    if sorted(computed) != expected:
        odd = sorted(set(computed) ^ set(expected)) or sorted(n for n in set(computed) if computed.count(n) > 1)
        raise InputError(f"layer {odd[0]}: every layer must be computed by exactly one stage")
    names = [s.name for s in plan.stages]
    _require(len(set(names)) == len(names), next((n for n in names if names.count(n) > 1), ""), "the name is used twice")


def _verify_links(plan: FoldPlan, qgraph: QuantGraph) -> None:
    ends = ["s_axis", *(s.name for s in plan.stages), "m_axis"]
    _require(len(plan.links) == len(plan.stages) + 1, "links", f"expected {len(plan.stages) + 1} links, got {len(plan.links)}")
    names = [link.name for link in plan.links]
    _require(len(set(names)) == len(names) and all(n.isidentifier() for n in names), "links", "link names must be unique identifiers")
    for i, (link, (before, after)) in enumerate(zip(plan.links, pairwise(ends), strict=True)):
        ends_ok = (link.producer, link.consumer) == (before, after)
        _require(ends_ok, after, f"link {link.name} must run from {before} to {after}, got {link.producer} to {link.consumer}")
        node = qgraph[link.tensor]
        _require(link.shape == node.shape and link.fmt == node.fmt, after, f"link {link.name} differs from tensor {link.tensor} in shape or format")
        producer = plan.stages[i - 1] if i else None
        consumer = plan.stages[i] if i < len(plan.stages) else None
        made = stage_out_lanes(producer) if producer else link.shape[0]
        taken = stage_in_lanes(consumer) if consumer else 1
        lanes = (link.in_lanes, link.out_lanes)
        _require(lanes == (made, taken), after, f"link {link.name} must carry {made} lanes in and {taken} out, got {lanes[0]} and {lanes[1]}")
        least = link_depth(producer, consumer, link.shape, link.out_lanes)
        _require(link.depth >= least, after, f"link {link.name} needs a depth of at least {least} beats, got {link.depth}")
    first = plan.links[0]
    whole = first.out_lanes == first.shape[0]
    _require(whole, plan.stages[0].name, f"the image comes one pixel a beat: {first.shape[0]} input lanes expected, got {first.out_lanes}")
