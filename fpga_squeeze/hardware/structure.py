"""QuantGraph -> stages in stream order, not folded yet (every engine 1 x 1 x 1, every stream one lane): a chain with bypasses, or stages that read any earlier
one. Refuses by name what no stage covers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import cast

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import signed_bits
from fpga_squeeze.hardware.branches import Bypass, expand_pair, no_join, split_branches
from fpga_squeeze.hardware.need import Beats, compose
from fpga_squeeze.hardware.plan import (
    AddStage,
    ConcatStage,
    ConvStage,
    Engine,
    EngineFold,
    ExpandStage,
    GlobalSumStage,
    JoinStage,
    PoolStage,
    SideStage,
    Stage,
)
from fpga_squeeze.hardware.schedule import pixel_need
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QMaxPool, QNode, QuantGraph


@dataclass(frozen=True)
class Skeleton:
    """Unfolded stages in stream order; the tensor each one produces, and the one it reads on its main input, index for index.

    `general`: no chain; a stage may read any earlier stage's tensor, and no stage lies on a bypass.
    """

    stages: tuple[Stage, ...]
    tensors: tuple[str, ...]
    sources: tuple[str, ...]
    general: bool = False

    def producer(self, index: int) -> int | None:
        """Index of the stage that makes what stage `index` reads on its main input; None for the image."""
        return self.tensors.index(self.sources[index]) if self.sources[index] in self.tensors else None

    def adjacent(self, index: int) -> bool:
        """Stage `index` reads the stage before it; the first one, the image."""
        return self.producer(index) == (index - 1 if index else None)


def build_skeleton(qgraph: QuantGraph) -> Skeleton:
    """The chain with bypasses where the graph is one and its stages alone decide how fast it is, else the general form.

    Raises InputError, naming the layer, for what neither covers.
    """
    try:
        chain = chain_skeleton(qgraph)
    except InputError:
        return general_skeleton(qgraph)
    waits = any(_waits_for_rows(engine) for stage in chain.stages[1:] for engine in stage.engines)
    return general_skeleton(qgraph) if waits else chain


def _waits_for_rows(engine: Engine) -> bool:
    """At the start of a frame it reads more rows before it computes than later, and no padding gives it work meanwhile: behind a stage no faster the two
    take longer than either, which only the schedule of the general form shows. The image comes as fast as it is taken."""
    top, _, bottom, _ = engine.padding
    return top + bottom < engine.kernel - engine.stride


def chain_skeleton(qgraph: QuantGraph) -> Skeleton:
    """Follow the stream from the image to the class sums and turn every node into (a part of) a stage.

    Where a tensor has several readers the main branch is followed (hardware/branches.py); a bypass becomes part of the join at which the two meet
    (docs/bypass.md).

    Raises InputError, naming the layer, for branches that are neither a Fire's expand pair nor a bypass, and an output that is no global sum.
    """
    _check_concats(qgraph)
    stages: list[Stage] = []
    tensors: list[str] = []
    covered = {qgraph.input.name}
    opened: dict[str, Bypass] = {}
    tensor = qgraph.input.name
    while tensor != qgraph.output:
        readers, found = split_branches(qgraph, tensor, frozenset(opened), lambda names: _look_ahead(qgraph, names))
        opened |= found
        stage, tensor, nodes = _next_stage(qgraph, tensor, readers, opened)
        stages.append(stage)
        tensors.append(tensor)
        covered |= nodes
    _check_end(qgraph, stages)
    left = [n.name for n in qgraph.nodes if n.name not in covered]
    if left:
        raise InputError(f"layer {left[0]}: not on the way from the image to {qgraph.output}; every layer must feed the output")
    fires = {s.module for s in stages if isinstance(s, ExpandStage)}
    forked = {b.source for b in opened.values()}
    named = tuple(
        replace(s, module=_prefix(s.name))
        if isinstance(s, ConvStage) and _prefix(s.name) in fires and "." in s.name and s.engine.node not in forked else s
        for s in stages
    )  # fmt: skip
    return Skeleton(named, tuple(tensors), (qgraph.input.name, *tensors[:-1]))


def general_skeleton(qgraph: QuantGraph) -> Skeleton:
    """Every layer a stage of its own, in the graph's order, whoever reads what; a Fire's expand pair stays one stage.

    The main input of a join is the operand that is made last. Raises InputError, naming the layer, for a layer that nothing reads, a Concat of other than two
    tensors or of different formats, and an output that is no global sum.
    """
    _check_concats(qgraph)
    unread = next((n.name for n in qgraph.nodes if n.name != qgraph.output and not qgraph.consumers(n.name)), None)
    if unread is not None:
        raise InputError(f"layer {unread}: nothing reads its result and it is not the output {qgraph.output}; every layer must feed the output")
    pairs = {}
    for n in qgraph.nodes:
        pair = expand_pair(qgraph, qgraph.consumers(n.name))
        if pair:
            pairs[qgraph.consumers(pair[0].name)[0].name] = pair
    inside = {n.name for pair in pairs.values() for n in pair}
    position = {n.name: i for i, n in enumerate(qgraph.nodes)}
    stages: list[Stage] = []
    tensors: list[str] = []
    sources: list[str] = []
    for n in qgraph.nodes[1:]:
        if n.name in inside:
            continue
        source = n.inputs[0]
        if n.name in pairs:
            stage, source = _expand(qgraph, pairs[n.name])[0], pairs[n.name][0].inputs[0]
        elif isinstance(n.op, QAdd | QConcat):
            # Of equals the first: a tensor joined with itself is read twice.
            source = max(n.inputs, key=lambda name: position[name])
            other = n.inputs[1] if n.inputs[0] == source else n.inputs[0]
            whole = Bypass(other, (), n.name)
            stage = _add(qgraph, n, n.op, source, whole) if isinstance(n.op, QAdd) else _concat(qgraph, n, source, whole)
        elif isinstance(n.op, QGlobalSum):
            stage = _global_sum(qgraph, n)
        else:
            stage = simple_stage(qgraph, n)
        # A module of its own: what stands before a stage here need not be what it reads.
        stages.append(replace(stage, module=stage.name))
        tensors.append(n.name)
        sources.append(source)
    _check_end(qgraph, stages)
    return Skeleton(tuple(stages), tuple(tensors), tuple(sources), general=True)


def _check_concats(qgraph: QuantGraph) -> None:
    wide = next((n for n in qgraph.nodes if isinstance(n.op, QConcat) and len(n.inputs) != 2), None)
    if wide is not None:
        raise InputError(f"layer {wide.name}: concatenates {len(wide.inputs)} tensors, a join takes 2; concatenate two at a time")


def _check_end(qgraph: QuantGraph, stages: list[Stage]) -> None:
    if not stages or not isinstance(stages[-1], GlobalSumStage):
        raise InputError(f"layer {qgraph.output}: the machine ends in a global sum over the map; got {type(qgraph[qgraph.output].op).__name__}")
    early = next((s.name for s in stages[:-1] if isinstance(s, GlobalSumStage)), None)
    if early is not None:
        raise InputError(f"layer {early}: a global sum is only supported as the last layer")


def make_engine(qgraph: QuantGraph, node: QNode) -> Engine:
    """The engine of a QConv node, folded 1 x 1 x 1; sizes come from its integers. Raises InputError when `node` is no convolution."""
    op = node.op
    if not isinstance(op, QConv):
        raise InputError(f"layer {node.name}: expected a convolution, got {type(op).__name__}")
    source = qgraph[node.inputs[0]]
    return Engine(
        node=node.name, in_shape=source.shape, out_shape=node.shape, kernel=op.kernel, stride=op.stride, padding=op.padding,
        pad_value=op.pad_value, fold=EngineFold(1, 1, 1), in_fmt=source.fmt, out_fmt=node.fmt, weight_bits=op.weight_bits,
        bias_bits=signed_bits(int(op.bias.min()), int(op.bias.max())), acc_bits=op.acc_bits, shift_min=int(op.shift.min()), shift_max=int(op.shift.max()),
    )  # fmt: skip


SPARE_SHIFTS = 6
"""Shifts that a loaded engine takes beyond those of the model it was planned for, on either side."""


def loadable(engine: Engine) -> Engine:
    """`engine` with weights, biases and shifts loaded over the load port, wide enough for any other model of the same shapes and formats:
    accumulator for the largest sum that the weight and activation widths allow plus a bias as large; shifts SPARE_SHIFTS further on either side.
    """
    products = engine.in_shape[0] * engine.kernel**2
    largest = products * (1 << engine.weight_bits >> 1) * max(engine.in_fmt.qmax, -engine.in_fmt.qmin)
    bias_bits = signed_bits(-largest, largest)
    low, high = (engine.shift_min, engine.shift_max) if not engine.loaded else (engine.shift_min + SPARE_SHIFTS, engine.shift_max - SPARE_SHIFTS)
    return replace(
        engine, loaded=True, acc_bits=bias_bits + 1, bias_bits=bias_bits, shift_min=low - SPARE_SHIFTS, shift_max=high + SPARE_SHIFTS,
    )  # fmt: skip


def all_loaded(stage: Stage) -> Stage:
    """The stage with every engine `loadable`."""
    if isinstance(stage, ConvStage):
        return replace(stage, engine=loadable(stage.engine))
    if isinstance(stage, ExpandStage):
        return replace(stage, expand1x1=loadable(stage.expand1x1), expand3x3=loadable(stage.expand3x3))
    if isinstance(stage, JoinStage):
        return replace(stage, side=tuple(cast(SideStage, all_loaded(s)) for s in stage.side))
    return stage


def narrowed(stage: Stage, bits: int) -> Stage:
    """The stage with weights of at most `bits` bits (bias and shift widths kept: they hardly count)."""
    if isinstance(stage, ConvStage):
        return replace(stage, engine=replace(stage.engine, weight_bits=min(bits, stage.engine.weight_bits)))
    if isinstance(stage, ExpandStage):
        e1, e3 = (replace(e, weight_bits=min(bits, e.weight_bits)) for e in stage.engines)
        return replace(stage, expand1x1=e1, expand3x3=e3)
    if isinstance(stage, JoinStage):
        return replace(stage, side=tuple(cast(SideStage, narrowed(s, bits)) for s in stage.side))
    return stage


def line_buffer_banks(engine: Engine) -> tuple[int, int]:
    """(banks, words a bank) of one copy of the circular line buffer: p_k = 1 reads one word a cycle from one bank; p_k = K reads K rows at once, a bank
    a row; p_k = K*K also K neighbouring columns, so column x of a row sits in bank x mod K. A pixel-buffered engine has none: (0, 0). An engine with
    p_px > 1 has p_px copies."""
    rows, width = engine.buffer_rows, engine.in_shape[2]
    if engine.pixel_buffered:
        return 0, 0
    if engine.fold.p_k == 1:
        return 1, rows * width * engine.ic_folds
    if engine.fold.p_k == engine.kernel:
        return rows, width * engine.ic_folds
    return rows * engine.kernel, ceil(width / engine.kernel) * engine.ic_folds


def stage_in_lanes(stage: Stage) -> int:
    """Channels a beat that `stage` takes in (a join: of its main stream)."""
    if isinstance(stage, ConvStage):
        return stage.engine.fold.p_ic
    if isinstance(stage, ExpandStage):
        return stage.expand3x3.fold.p_ic
    return stage.lanes


def stage_out_lanes(stage: Stage) -> int:
    """Channels a beat that `stage` sends out (a global sum sends one class sum a beat)."""
    if isinstance(stage, ConvStage):
        return stage.engine.fold.p_oc
    if isinstance(stage, ExpandStage):
        return stage.out_lanes
    return stage.lanes if isinstance(stage, PoolStage | JoinStage) else 1


def bypass_lanes(stage: JoinStage) -> int:
    """Channels a beat of the FIFO of the bypass that ends in `stage`."""
    return stage_in_lanes(stage.side[0]) if stage.side else stage.lanes


def bypass_label(stage: JoinStage) -> str:
    """What a bypass is called after: the module of its addition (fire3.add: fire3), or its concat, of which a module may have several."""
    return stage.node if isinstance(stage, ConcatStage) else _prefix(stage.node)


def _next_stage(qgraph: QuantGraph, tensor: str, readers: tuple[QNode, ...], opened: dict[str, Bypass]) -> tuple[Stage, str, set[str]]:
    """The stage of the main branch that reads `tensor`, the tensor it makes and the nodes it covers."""
    if not readers:
        raise InputError(f"layer {tensor}: nothing reads its result and it is not the output {qgraph.output}")
    if len(readers) > 1:
        return _expand(qgraph, readers)
    node = readers[0]
    op = node.op
    if isinstance(op, QGlobalSum):
        return _global_sum(qgraph, node), node.name, {node.name}
    if isinstance(op, QAdd | QConcat):
        bypass = opened.get(node.name)
        if bypass is None or bypass.operand == tensor:
            raise no_join(node, tensor)
        stage = _add(qgraph, node, op, tensor, bypass) if isinstance(op, QAdd) else _concat(qgraph, node, tensor, bypass)
        return stage, node.name, {node.name, *bypass.nodes}
    return simple_stage(qgraph, node), node.name, {node.name}


def _global_sum(qgraph: QuantGraph, node: QNode) -> GlobalSumStage:
    source = qgraph[node.inputs[0]]
    return GlobalSumStage(node.name, node.name, node.name, source.shape, source.fmt, node.fmt, 1)


def simple_stage(qgraph: QuantGraph, node: QNode) -> SideStage:
    """The stage of a convolution or a max pool, what a bypass may hold. Raises InputError for any other node."""
    op = node.op
    if isinstance(op, QMaxPool):
        source = qgraph[node.inputs[0]]
        return PoolStage(node.name, node.name, node.name, source.shape, node.shape, op.kernel, op.stride, op.padding, source.fmt, 1)
    return ConvStage(node.name, node.name, make_engine(qgraph, node))


def _look_ahead(qgraph: QuantGraph, names: tuple[str, ...]) -> Beats:
    """Pixels of the branching tensor that each output pixel of a chain of convolutions and pools needs, int64 (OH * OW,)."""
    need: Beats | None = None
    for name in reversed(names):
        own = pixel_need(simple_stage(qgraph, qgraph[name]))
        need = own if need is None else compose(own, need)
    assert need is not None
    return need


def _add(qgraph: QuantGraph, node: QNode, op: QAdd, tensor: str, bypass: Bypass) -> AddStage:
    align = op.align if node.inputs[0] == tensor else (op.align[1], op.align[0])
    main, other_fmt = qgraph[tensor], qgraph[bypass.operand].fmt
    side = tuple(simple_stage(qgraph, qgraph[name]) for name in bypass.nodes)
    return AddStage(node.name, node.name, node.name, bypass.source, main.shape, main.fmt, other_fmt, node.fmt, align, op.shift, 1, side)


def _concat(qgraph: QuantGraph, node: QNode, tensor: str, bypass: Bypass) -> ConcatStage:
    main, other = qgraph[tensor], qgraph[bypass.operand]
    if not (main.fmt == other.fmt == node.fmt):
        raise InputError(f"layer {node.name}: both operands must have the concat's format {node.fmt}, got {main.fmt} and {other.fmt}")
    side = tuple(simple_stage(qgraph, qgraph[name]) for name in bypass.nodes)
    return ConcatStage(node.name, node.name, node.name, bypass.source, main.shape, other.shape, node.fmt, node.inputs[0] == tensor, 1, side)


def _expand(qgraph: QuantGraph, readers: tuple[QNode, ...]) -> tuple[Stage, str, set[str]]:
    concat = qgraph.consumers(readers[0].name)[0]
    e1, e3 = (make_engine(qgraph, qgraph[name]) for name in concat.inputs)
    if not (e1.out_fmt == e3.out_fmt == concat.fmt):
        raise InputError(f"layer {concat.name}: both expand branches must have the concat's format {concat.fmt}, got {e1.out_fmt} and {e3.out_fmt}")
    module = _prefix(concat.name)
    return ExpandStage(f"{module}.expand", module, e1, e3, concat.name, 1), concat.name, {e1.node, e3.node, concat.name}


def _prefix(name: str) -> str:
    return name.rpartition(".")[0] or name
