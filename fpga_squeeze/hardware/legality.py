"""Legality of a FoldPlan: what the emitters rely on, checked once for every plan, searched or edited by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from fpga_squeeze.errors import InputError, NotAheadError
from fpga_squeeze.fixed_point import signed_bits
from fpga_squeeze.hardware.bypass import bypass_ahead, hls_bypass_depth, side_fifo_depth
from fpga_squeeze.hardware.devices import MULTIPLIER_BITS
from fpga_squeeze.hardware.dsp_packing import MAX_BITS
from fpga_squeeze.hardware.fifo import link_depth
from fpga_squeeze.hardware.flow import hls_flow_depth, schedule_pace
from fpga_squeeze.hardware.plan import ConcatStage, ConvStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, JoinStage, PoolStage, Stage
from fpga_squeeze.hardware.structure import bypass_lanes, loadable, stage_in_lanes, stage_out_lanes
from fpga_squeeze.hardware.weight_storage import coding_of
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QNode, QuantGraph

STORAGES = ("auto", "lut", "bram", "uram")

MAX_P_PX = 8
"""Most pixels an engine takes at once: a line buffer is copied for each."""


def verify_plan(plan: FoldPlan, qgraph: QuantGraph) -> None:
    """Raise InputError, naming the stage, unless `plan` is legal for `qgraph`.

    Folds are no larger than their dimensions; packing and storage are possible ones; lanes agree with the links; shapes and formats are the graph's;
    every convolution is computed exactly once; links join the stages in order from s_axis to m_axis with unique names (in a general plan each from an
    earlier stage, as the graph has it); depths are no less than derived.
    """
    for stage in plan.stages:
        _verify_stage(stage, qgraph)
    _verify_cover(plan, qgraph)
    if plan.general:
        _verify_reads(plan, qgraph)
        pace = schedule_pace(plan)
        _require(plan.pace == pace, plan.stages[0].name, f"the schedule takes {pace} cycles a frame, the plan says {plan.pace}")
    _verify_links(plan, qgraph)
    _verify_bypasses(plan, qgraph)


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise InputError(f"stage {where}: {message}")


def _divides(where: str, label: str, lanes: int, channels: int) -> None:
    _require(isinstance(lanes, int) and lanes >= 1 and channels % lanes == 0, where, f"{label} must divide {channels}, got {lanes}")


def _verify_stage(stage: Stage, qgraph: QuantGraph) -> None:
    for engine in stage.engines:
        _verify_engine(stage.name, engine, qgraph)
    if isinstance(stage, JoinStage):
        for own in stage.side:
            if isinstance(own, PoolStage):
                _verify_stage(own, qgraph)
        _verify_join(stage, qgraph[stage.node])
    if isinstance(stage, ConvStage | JoinStage):
        return
    if isinstance(stage, ExpandStage):
        e1, e3 = stage.expand1x1, stage.expand3x3
        _require(e1.in_shape == e3.in_shape and e1.out_shape[1:] == e3.out_shape[1:], stage.name, "both expand engines must share input and output size")
        a, b = e1.fold.p_ic, e3.fold.p_ic
        _require(a % b == 0 or b % a == 0, stage.name, f"p_ic of the two expand engines must divide one another, got {a} and {b}")
        same = f"p_px of the two expand engines must be the same, got {e1.fold.p_px} and {e3.fold.p_px}"
        _require(e1.fold.p_px == e3.fold.p_px, stage.name, same)
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


def _verify_join(stage: JoinStage, node: QNode) -> None:
    op = node.op
    if isinstance(stage, ConcatStage):
        _require(isinstance(op, QConcat), stage.name, f"{stage.node} is no concat")
        _require(stage.out_shape == node.shape and stage.fmt == node.fmt, stage.name, "shape or format differ from the graph's concat")
        _at_most(stage.name, "lanes", stage.lanes, stage.out_shape[0])
        return
    _require(isinstance(op, QAdd), stage.name, f"{stage.node} is no addition")
    assert isinstance(op, QAdd)
    same = stage.in_shape == node.shape and stage.out_fmt == node.fmt and stage.shift == op.shift and sorted(stage.align) == sorted(op.align)
    _require(same, stage.name, "shape, format, alignment or shift differ from the graph's addition")
    _divides(stage.name, "lanes", stage.lanes, stage.in_shape[0])


def _verify_engine(where: str, engine: Engine, qgraph: QuantGraph) -> None:
    node = qgraph[engine.node]
    op = node.op
    _require(isinstance(op, QConv), where, f"{engine.node} is no convolution")
    assert isinstance(op, QConv)
    source = qgraph[node.inputs[0]]
    same = (engine.in_shape, engine.out_shape, engine.in_fmt, engine.out_fmt) == (source.shape, node.shape, source.fmt, node.fmt)
    same = same and (engine.kernel, engine.stride, engine.padding, engine.pad_value) == (op.kernel, op.stride, op.padding, op.pad_value)
    same = same and engine.weight_bits == op.weight_bits
    _require(same, where, f"engine {engine.node} differs from the graph's convolution in shape, format or geometry")
    numbers = (engine.acc_bits, engine.bias_bits, engine.shift_min, engine.shift_max)
    acc_bits, bias_bits, low, high = _numbers(op)
    if engine.loaded:
        wide = loadable(replace(engine, loaded=False, shift_min=low, shift_max=high))
        expected = (wide.acc_bits, wide.bias_bits, wide.shift_min, wide.shift_max)
    else:
        expected = (acc_bits, bias_bits, low, high)
    _require(numbers == expected, where, f"engine {engine.node}: accumulator, bias and shift ranges must be {expected}, got {numbers}")
    _at_most(where, "p_oc", engine.fold.p_oc, engine.out_shape[0])
    _at_most(where, "p_ic", engine.fold.p_ic, engine.in_shape[0])
    _at_most(where, "p_px", engine.fold.p_px, min(MAX_P_PX, engine.out_shape[2]))
    allowed = sorted({1, engine.kernel, engine.kernel**2})
    _require(engine.fold.p_k in allowed, where, f"p_k must be one of {', '.join(map(str, allowed))}, got {engine.fold.p_k}")
    _require(engine.weight_storage in STORAGES, where, f"weight_storage must be one of {', '.join(STORAGES)}, got {engine.weight_storage!r}")
    uram_ok = engine.weight_storage != "uram" or engine.loaded
    _require(uram_ok, where, "weight_storage uram has no initial contents; set loaded to true (weights come over the load port)")
    if engine.coding is not None:
        _require(not engine.loaded, where, f"weight_coding {engine.coding.kind} holds the weights of one model; loaded weights are stored as they are (dense)")
        # What is stored follows from the weights, so it is the same or it is wrong.
        same = engine.coding == coding_of(engine.coding.kind, engine, op)
        _require(same, where, f"engine {engine.node}: its {engine.coding.kind} weight memory is not that of the graph's weights; plan it again")
    _verify_packing(where, engine)


def _numbers(op: QConv) -> tuple[int, int, int, int]:
    bias_bits = signed_bits(int(op.bias.min()), int(op.bias.max()))
    return op.acc_bits, bias_bits, int(op.shift.min()), int(op.shift.max())


def _verify_packing(where: str, engine: Engine) -> None:
    kinds = ("none", "channels", "pixels")
    _require(engine.packing in kinds, where, f"packing must be one of {', '.join(kinds)}, got {engine.packing!r}")
    if engine.packing == "none":
        _require(engine.pack_shift == 0, where, f"pack_shift belongs to a packing; without one 0 was expected, got {engine.pack_shift}")
        return
    form = f"{'signed' if engine.in_fmt.signed else 'unsigned'} {engine.in_fmt.bits}-bit activations and {engine.weight_bits}-bit weights"
    possible = not engine.in_fmt.signed and max(engine.in_fmt.bits, engine.weight_bits) <= MAX_BITS
    _require(possible, where, f"packing needs unsigned activations and weights of at most {MAX_BITS} bits, engine {engine.node} has {form}")
    pairs = engine.fold.p_oc if engine.packing == "channels" else engine.fold.p_px
    what = "p_oc" if engine.packing == "channels" else "p_px"
    _require(pairs >= 2, where, f"packing {engine.packing} needs {what} of at least 2, got {pairs}")
    # The 24-bit accumulate of the widest multiplier's wide port, 27 bits, bounds the shift; below 8 bits there is nothing to separate.
    low, high = 8, max(wide for wide, _ in MULTIPLIER_BITS.values()) - 3
    _require(low <= engine.pack_shift <= high, where, f"pack_shift must be {low} to {high}, got {engine.pack_shift}")


def _at_most(where: str, label: str, value: int, most: int) -> None:
    _require(isinstance(value, int) and 1 <= value <= most, where, f"{label} must be 1 to {most}, got {value}")


def _verify_cover(plan: FoldPlan, qgraph: QuantGraph) -> None:
    computed = sorted(e.node for s in plan.stages for e in s.engines)
    computed += sorted(s.node for s in plan.stages if isinstance(s, PoolStage | GlobalSumStage | JoinStage))
    computed += [p.node for s in plan.stages if isinstance(s, JoinStage) for p in s.side if isinstance(p, PoolStage)]
    computed += [s.concat for s in plan.stages if isinstance(s, ExpandStage)]
    expected = sorted(n.name for n in qgraph.nodes[1:])
    if sorted(computed) != expected:
        odd = sorted(set(computed) ^ set(expected)) or sorted(n for n in set(computed) if computed.count(n) > 1)
        raise InputError(f"layer {odd[0]}: every layer must be computed by exactly one stage")
    names = [s.name for s in plan.stages]
    _require(len(set(names)) == len(names), next((n for n in names if names.count(n) > 1), ""), "the name is used twice")


def _verify_reads(plan: FoldPlan, qgraph: QuantGraph) -> None:
    """In a general plan every stage reads what its layer reads, and every link carries what its producer makes."""
    order = ["s_axis", *(s.name for s in plan.stages), "m_axis"]
    made = {"s_axis": qgraph.input.name, **{s.name: _tensor(s) for s in plan.stages}}
    for link in (*plan.links, *plan.bypasses):
        _require(made.get(link.producer) == link.tensor, link.consumer, f"link {link.name} carries {link.tensor}, which {link.producer} does not make")
        earlier = order.index(link.producer) < order.index(link.consumer) if link.consumer in order else False
        _require(earlier, link.consumer, f"link {link.name} must come from a stage before {link.consumer}, got {link.producer}")
    for stage, link in zip(plan.stages, plan.links, strict=False):
        reads = qgraph[stage.engines[0].node if isinstance(stage, ExpandStage) else _tensor(stage)].inputs
        _require(link.tensor in reads, stage.name, f"{_tensor(stage)} reads {' and '.join(reads)}, got {link.tensor}")
        _require(not isinstance(stage, JoinStage) or not stage.side, stage.name, "a general plan has no stages on a bypass")


def _tensor(stage: Stage) -> str:
    """The layer whose result leaves `stage`."""
    return stage.concat if isinstance(stage, ExpandStage) else stage.engine.node if isinstance(stage, ConvStage) else stage.node


def _verify_links(plan: FoldPlan, qgraph: QuantGraph) -> None:
    ends = ["s_axis", *(s.name for s in plan.stages), "m_axis"]
    _require(len(plan.links) == len(plan.stages) + 1, "links", f"expected {len(plan.stages) + 1} links, got {len(plan.links)}")
    names = [link.name for link in plan.links]
    _require(len(set(names)) == len(names) and all(n.isidentifier() for n in names), "links", "link names must be unique identifiers")
    for i, (link, (before, after)) in enumerate(zip(plan.links, pairwise(ends), strict=True)):
        if plan.general and i < len(plan.stages):
            before = link.producer
        ends_ok = (link.producer, link.consumer) == (before, after)
        _require(ends_ok, after, f"link {link.name} must run from {before} to {after}, got {link.producer} to {link.consumer}")
        node = qgraph[link.tensor]
        _require(link.shape == node.shape and link.fmt == node.fmt, after, f"link {link.name} differs from tensor {link.tensor} in shape or format")
        producer = plan.stages[ends.index(before) - 1] if before != "s_axis" else None
        consumer = plan.stages[i] if i < len(plan.stages) else None
        made = stage_out_lanes(producer) if producer else link.shape[0]
        taken = stage_in_lanes(consumer) if consumer else 1
        lanes = (link.in_lanes, link.out_lanes)
        _require(lanes == (made, taken), after, f"link {link.name} must carry {made} lanes in and {taken} out, got {lanes[0]} and {lanes[1]}")
        least = hls_flow_depth(plan, link) if plan.general else link_depth(producer, consumer, link.shape, link.out_lanes)
        _require(link.depth >= least, after, f"link {link.name} needs a depth of at least {least} beats, got {link.depth}")
    first = plan.links[0]
    whole = first.out_lanes == first.shape[0]
    _require(whole, plan.stages[0].name, f"the image comes one pixel a beat: {first.shape[0]} input lanes expected, got {first.out_lanes}")


def _verify_bypasses(plan: FoldPlan, qgraph: QuantGraph) -> None:
    """A bypass a side operand: which tensors a join reads, and that its main operand never needs less of the stream than the bypass."""
    joins = [s for s in plan.stages if isinstance(s, JoinStage)]
    _require(sorted(b.consumer for b in plan.bypasses) == sorted(s.name for s in joins), "bypasses", "every addition and every concat has one bypass")
    names = [link.name for link in (*plan.links, *plan.bypasses)]
    _require(len(set(names)) == len(names) and all(n.isidentifier() for n in names), "bypasses", "link names must be unique identifiers")
    for stage in joins:
        bypass = plan.bypass_into(stage.name)
        where = stage.name
        origin = next((link for link in (*plan.links, *plan.bypasses) if link.tensor == stage.bypass), None)
        ends = [s.name for s in plan.stages]
        before = origin is not None and (origin.producer == "s_axis" or ends.index(origin.producer) < ends.index(where))
        _require(before, where, f"the bypass from {stage.bypass} must leave the main stream before the join")
        assert origin is not None
        same = (bypass.producer, bypass.tensor, bypass.shape, bypass.fmt, bypass.in_lanes) == (
            origin.producer, origin.tensor, origin.shape, origin.fmt, origin.in_lanes,
        )  # fmt: skip
        _require(same, where, f"bypass {bypass.name} must be the stream {origin.name}, forked")
        _require(bypass.out_lanes == bypass_lanes(stage), where, f"bypass {bypass.name} must carry {bypass_lanes(stage)} lanes out, got {bypass.out_lanes}")
        side = [s.node if isinstance(s, PoolStage) else s.engine.node for s in stage.side]
        steps = zip([stage.bypass, *side], side, strict=False)
        _require(all(qgraph[after].inputs == (before,) for before, after in steps), where, f"the bypass from {stage.bypass} is not {', '.join(side)}")
        operands = (plan.link_into(where).tensor, [stage.bypass, *side][-1])
        inputs = qgraph[stage.node].inputs
        _require(sorted(operands) == sorted(inputs), where, f"{stage.node} joins {' and '.join(inputs)}")
        if isinstance(stage, ConcatStage):
            _require(stage.main_first == (inputs[0] == operands[0]), where, f"{stage.node} begins with {inputs[0]}")
        ahead = plan.general or bypass_ahead(plan, bypass)
        result = "pixel" if isinstance(stage, ConcatStage) else "sum"
        more = f"bypass {bypass.name} must not need more of {bypass.tensor} for a {result} than the main branch does; p_px 1 on the bypass needs least"
        if not ahead:
            raise NotAheadError(f"stage {where}: {more}")
        behind = side_fifo_depth(plan, bypass)
        _require(stage.side_depth >= behind, where, f"side_depth must be at least {behind} beats, got {stage.side_depth}")
        least = hls_bypass_depth(plan, bypass)
        _require(bypass.depth >= least, where, f"bypass {bypass.name} needs a depth of at least {least} beats, got {bypass.depth}")
