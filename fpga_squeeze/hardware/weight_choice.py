"""How each engine of a machine stores its weights: chosen once the folds are known, and on a device among what its search weighs.

The rule of "auto": an engine takes, of the codings that store less than its plain rows do and are worth their logic, the one that stores least. Worth it is a
coding whose logic, in LUTs, is no more than what it saves. Without a device every 16,384 stored bits that are saved, an 18 Kb block full of bytes, are worth
BLOCK_LUTS; with one the blocks that are saved count, each as many LUTs as the device has for one, and the whole machine must stay within its limits.

On a device the search for folds looks at coded weights too (`storages`): where blocks are short it spends LUTs on decoders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import cast

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.cost import Resources, plan_resources
from fpga_squeeze.hardware.cost_mvu import mvu_resources
from fpga_squeeze.hardware.cost_weights import decoder_resources, weight_memory_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import ConvStage, Engine, ExpandStage, FoldPlan, JoinStage, SideStage, Stage
from fpga_squeeze.hardware.weight_storage import DENSE, KINDS, MAX_INDEX_BITS, coding_of
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

WEIGHT_STORAGES = ("dense", "auto", "smallest", "codebook", "sparse")
"""dense: rows as they are. codebook, sparse: every engine that stores less so. smallest: any coding that stores less. auto: the rule above."""

BLOCK_LUTS = 406
"""LUTs that a block's worth of stored weights may cost where no device is named: a K26 has as many for each of its blocks, a ZCU102 150."""

BLOCK_BITS = 16_384
"""What a block holds of fields whose width is a power of two."""


def coded(stage: Stage, qgraph: QuantGraph) -> Stage:
    """The stage with the coding of every engine that names one derived from the weights. Raises InputError when they do not allow it."""
    return with_engines(stage, lambda e: replace(e, coding=coding_of(e.coding.kind, e, _weights(qgraph, e))) if e.coding else e)


def with_engines(stage: Stage, change: Callable[[Engine], Engine]) -> Stage:
    """The stage with every engine changed."""
    if isinstance(stage, ConvStage):
        return replace(stage, engine=change(stage.engine))
    if isinstance(stage, ExpandStage):
        return replace(stage, expand1x1=change(stage.expand1x1), expand3x3=change(stage.expand3x3))
    if isinstance(stage, JoinStage):
        return replace(stage, side=tuple(cast(SideStage, with_engines(s, change)) for s in stage.side))
    return stage


Coder = Callable[[Engine], tuple[Engine, ...]]
"""An engine as it is folded -> the forms that a search may take."""


def storages(qgraph: QuantGraph, storage: str) -> Coder | None:
    """What a search looks at: with "auto" weights as they are and, in block RAM, coded so that they take least; with a coding by name, or the smallest,
    those coded so wherever they take less. None with "dense". What was found is kept: many folds differ in what no memory shows."""
    if storage == DENSE:
        return None
    known: dict[tuple[object, ...], Engine | None] = {}
    ops = {n.name: n.op for n in qgraph.nodes if isinstance(n.op, QConv)}
    hopeful = {name: _few(op) or bool((op.weight == 0).mean() > LEAST_ZEROS) for name, op in ops.items()}

    def coder(engine: Engine) -> tuple[Engine, ...]:
        plain = storage == "auto" and (engine.weight_storage != "bram" or engine.weight_depth < LEAST_WORDS)
        if plain or not hopeful[engine.node]:
            return (engine,)
        fold = engine.fold
        key = (engine.node, fold.p_oc, fold.p_ic, fold.p_k, engine.weight_storage)
        if key not in known:
            smaller = [e for e in _codings(engine, qgraph, storage) if e.stored_weight_bits < engine.stored_weight_bits]
            known[key] = min(smaller, key=lambda e: e.stored_weight_bits, default=None)
        best = known[key]
        if best is None:
            return (engine,)
        coded_engine = replace(engine, coding=best.coding)
        return (engine, coded_engine) if storage == "auto" else (coded_engine,)

    return coder


LEAST_ZEROS = 0.125
"""Below this share of zeros a bitmap beside 8-bit weights takes more than it saves; narrower weights need a larger one."""

LEAST_WORDS = 128
"""Shallower memories are a part of a block each: a search does not look at their codings."""


def _few(op: QConv) -> bool:
    return len(np.unique(op.weight)) <= 1 << MAX_INDEX_BITS


def with_storage(plan: FoldPlan, qgraph: QuantGraph, storage: str, device: Device | None = None, limits: Resources | None = None) -> FoldPlan:
    """`plan` with the weights stored as `storage`, one of WEIGHT_STORAGES, says; loaded weights and what is coded already stay as they are. `limits`: what
    the machine may take.

    Raises InputError when a coding is asked for by name and no engine stores less so.
    """
    if storage == DENSE:
        return plan
    every = [e for stage in plan.stages for e in stage.engines]
    # What the search gave indices may take even less as a bitmap.
    dense = [replace(e, coding=None) for e in every if not e.loaded and (e.coding is None or storage == "smallest")]
    chosen: dict[str, Engine] = {}
    for engine in dense:
        smaller = [e for e in _codings(engine, qgraph, storage) if e.stored_weight_bits < engine.stored_weight_bits]
        if storage == "auto":
            smaller = [e for e in smaller if saving(engine, e, device) >= 0]
        if smaller:
            chosen[engine.node] = min(smaller, key=lambda e: e.stored_weight_bits)
    if storage not in ("auto", "smallest") and not chosen and not any(e.coding for e in every):
        why = "loaded weights may be any" if not dense else "they have too many distinct values" if storage == "codebook" else "they have too few zeros"
        raise InputError(f"--weight-storage {storage}: no layer's weights take less room so ({why}); leave the option out")
    result = _applied(plan, chosen)
    if storage == "auto" and limits is not None:
        by_gain = sorted(chosen, key=lambda node: (saving(_engine(plan, node), chosen[node], device), node))
        while by_gain and _over(plan_resources(result, device), limits):
            del chosen[by_gain.pop(0)]
            result = _applied(plan, chosen)
    return result


def saving(dense: Engine, other: Engine, device: Device | None) -> float:
    """What `other` saves against `dense`, in LUTs: memory less decoder."""
    before, after = mvu_resources(dense, device), mvu_resources(other, device)
    if device is not None:
        return (before.bram18 - after.bram18) * (device.lut / max(1, device.bram18)) + before.lut - after.lut
    # The memories are counted by their bits, so what of them lies in LUTs is left out.
    memory = weight_rom_luts(dense) - weight_rom_luts(other)
    return (dense.stored_weight_bits - other.stored_weight_bits) / BLOCK_BITS * BLOCK_LUTS + before.lut - after.lut - memory


def weight_rom_luts(engine: Engine) -> int:
    """LUTs of an engine's weight memory that hold weights."""
    return weight_memory_resources(engine, None).lut - decoder_resources(engine, None).lut


def _codings(engine: Engine, qgraph: QuantGraph, storage: str) -> list[Engine]:
    found = []
    for kind in KINDS:
        if storage in ("auto", "smallest") or kind.startswith(storage):
            try:
                found.append(replace(engine, coding=coding_of(kind, engine, _weights(qgraph, engine))))
            except InputError:  # too many distinct weights: this coding is none of the choices
                continue
    return found


def _applied(plan: FoldPlan, chosen: dict[str, Engine]) -> FoldPlan:
    return replace(plan, stages=tuple(with_engines(s, lambda e: chosen.get(e.node, e)) for s in plan.stages))


def _engine(plan: FoldPlan, node: str) -> Engine:
    return next(e for stage in plan.stages for e in stage.engines if e.node == node)


def _over(taken: Resources, limits: Resources) -> bool:
    return any(getattr(taken, f.name) > getattr(limits, f.name) for f in fields(Resources))


def _weights(qgraph: QuantGraph, engine: Engine) -> QConv:
    op = qgraph[engine.node].op
    if not isinstance(op, QConv):
        raise InputError(f"layer {engine.node}: the plan has a convolution engine for it, the network {type(op).__name__}; plan it again")
    return op
