"""Joining folded stages into a plan: links and bypasses with their names, lanes and depths."""

from __future__ import annotations

import re
from dataclasses import replace

from fpga_squeeze.hardware.bypass import hls_bypass_depth, side_fifo_depth
from fpga_squeeze.hardware.fifo import link_depth
from fpga_squeeze.hardware.flow import hls_flow_depth, schedule_pace
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.plan import FoldPlan, JoinStage, Link, Stage
from fpga_squeeze.hardware.structure import Skeleton, bypass_label, bypass_lanes, stage_in_lanes, stage_out_lanes
from fpga_squeeze.quantize.qgraph import QuantGraph


def assemble(qgraph: QuantGraph, skeleton: Skeleton, stages: tuple[Stage, ...], clock_mhz: float, target_cycles: int) -> FoldPlan:
    """Join folded stages by links with derived depths; verified. Raises InputError when the folds are not legal."""
    if skeleton.general:
        plan = _general(qgraph, skeleton, stages, clock_mhz, target_cycles)
        verify_plan(plan, qgraph)
        return plan
    names = _link_names((qgraph.input.name, *skeleton.tensors))
    links = []
    for i, name in enumerate(names):
        producer = stages[i - 1] if i else None
        consumer = stages[i] if i < len(stages) else None
        tensor = qgraph[skeleton.tensors[i - 1]] if i else qgraph.input
        out_lanes = stage_in_lanes(consumer) if consumer else 1
        in_lanes = stage_out_lanes(producer) if producer else tensor.shape[0]
        ends = (producer.name if producer else "s_axis", consumer.name if consumer else "m_axis")
        links.append(Link(name, *ends, tensor.name, tensor.shape, tensor.fmt, in_lanes, out_lanes, link_depth(producer, consumer, tensor.shape, out_lanes)))
    plan = FoldPlan(stages, tuple(links), clock_mhz, target_cycles)
    bypasses = _bypasses(plan)
    plan = replace(plan, stages=tuple(_with_side_depth(plan, s, bypasses) for s in plan.stages))
    plan = replace(plan, bypasses=tuple(replace(b, depth=hls_bypass_depth(plan, b)) for b in bypasses))
    verify_plan(plan, qgraph)
    return plan


def _general(qgraph: QuantGraph, skeleton: Skeleton, stages: tuple[Stage, ...], clock_mhz: float, target_cycles: int) -> FoldPlan:
    """A plan whose stages read what they read in the graph.

    The first link of a tensor is called after it; a further one after the stage that reads it: b2.conv1.in, or b2.add.bypass for a second operand.
    """
    made = {qgraph.input.name: "s_axis", **{tensor: s.name for tensor, s in zip(skeleton.tensors, stages, strict=True)}}
    lanes = {qgraph.input.name: qgraph.input.shape[0], **{tensor: stage_out_lanes(s) for tensor, s in zip(skeleton.tensors, stages, strict=True)}}
    inputs = [(source, s.name, stage_in_lanes(s), f"{s.name}.in") for source, s in zip(skeleton.sources, stages, strict=True)]
    ends = [*inputs, (qgraph.output, "m_axis", 1, "")]
    ends += [(s.bypass, s.name, bypass_lanes(s), f"{s.name}.bypass") for s in stages if isinstance(s, JoinStage)]
    labels: list[str] = []
    for tensor, _, _, label in ends:
        labels.append(label if tensor in labels else tensor)
    links = []
    for (tensor, consumer, out_lanes, _), name in zip(ends, _link_names(tuple(labels)), strict=True):
        node = qgraph[tensor]
        links.append(Link(name, made[tensor], consumer, tensor, node.shape, node.fmt, lanes[tensor], out_lanes, 1))
    main = len(stages) + 1
    plan = FoldPlan(stages, tuple(links[:main]), clock_mhz, target_cycles, tuple(links[main:]), general=True)
    plan = replace(plan, pace=schedule_pace(plan))
    deep = [replace(link, depth=hls_flow_depth(plan, link)) for link in links]
    return replace(plan, links=tuple(deep[:main]), bypasses=tuple(deep[main:]))


def _bypasses(plan: FoldPlan) -> tuple[Link, ...]:
    """A link into every join, named after its module (fire3.add: fire3_bypass) or its concat (d1.cat: d1_cat_bypass), from the stage that makes the tensor."""
    stages = [s for s in plan.stages if isinstance(s, JoinStage)]
    taken = tuple(link.name for link in plan.links)
    names = _link_names((*taken, *(f"{bypass_label(s)}.bypass" for s in stages)))[len(taken) :]
    found = []
    for stage, name in zip(stages, names, strict=True):
        origin = next(link for link in plan.links if link.tensor == stage.bypass)
        link = Link(name, origin.producer, stage.name, origin.tensor, origin.shape, origin.fmt, origin.in_lanes, bypass_lanes(stage), 1)
        found.append(link)
    return tuple(found)


def _with_side_depth(plan: FoldPlan, stage: Stage, bypasses: tuple[Link, ...]) -> Stage:
    if not isinstance(stage, JoinStage):
        return stage
    depth = side_fifo_depth(plan, next(b for b in bypasses if b.consumer == stage.name))
    return stage if stage.side_depth == depth else replace(stage, side_depth=depth)


def _link_names(tensors: tuple[str, ...]) -> tuple[str, ...]:
    """Tensor names as identifiers, unique (a number is appended where two would meet)."""
    names: list[str] = []
    for tensor in tensors:
        base = re.sub(r"\W", "_", tensor, flags=re.ASCII)
        base = base if base[:1].isalpha() or base[:1] == "_" else f"t_{base}"
        name, n = base, 2
        while name in names:
            name, n = f"{base}_{n}", n + 1
        names.append(name)
    return tuple(names)
