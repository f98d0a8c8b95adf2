"""folding.json: the folds of a plan as a file that can be edited and fed back.

{"clock_mhz", "target_cycles", "stages": [{"name", "cycles", and by kind: "engine" | "expand1x1", "expand3x3", "out_lanes" | "lanes"}]}; an addition
or a concat has "lanes" and, with a convolution on its bypass, "engine" too, with anything more "side": a list of such entries, in stream order. An engine
is {"p_oc", "p_ic", "p_k", "p_px", "packing", "pack_shift", "weight_storage", "loaded", "weight_coding"}; from "p_px" on they may be left out (1, "none", 0,
"auto", false, "dense"). "weight_storage" says in what the weights lie, "weight_coding" how they are stored there (hardware/weight_storage.py); the rest of
a coding follows from the weights.
The stages are those of the chain with bypasses, where the graph is one, or every layer one of its own (docs/bypass.md): either list may be given.
`cycles` is information for the reader: it follows from the folds and is computed again when the file is read.
"""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import Any, cast

from fpga_squeeze.errors import InputError, NotAheadError
from fpga_squeeze.hardware.engine import WeightCoding
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.plan import ConvStage, Engine, EngineFold, ExpandStage, FoldPlan, JoinStage, SideStage, Stage
from fpga_squeeze.hardware.structure import build_skeleton, general_skeleton, loadable
from fpga_squeeze.hardware.weight_choice import coded
from fpga_squeeze.hardware.weight_storage import DENSE, KINDS
from fpga_squeeze.quantize.qgraph import QuantGraph


def folding_to_json(plan: FoldPlan) -> str:
    """The folds of `plan` as JSON text; same plan, same bytes."""
    document = {"clock_mhz": plan.clock_mhz, "target_cycles": plan.target_cycles, "stages": [_stage_entry(s) for s in plan.stages]}
    return json.dumps(document, indent=2) + "\n"


def folding_from_json(text: str, qgraph: QuantGraph) -> FoldPlan:
    """The verified plan that `text` describes for `qgraph`.

    Raises InputError that names the stage and the field for anything missing, unknown, out of order or not legal.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as e:
        raise InputError(f"folding.json: line {e.lineno}: {e.msg}; expected the JSON that an export writes") from e
    _keys("the top level", document, {"clock_mhz", "target_cycles", "stages"})
    clock = document["clock_mhz"]
    if isinstance(clock, bool) or not isinstance(clock, int | float) or not 0 < clock < inf:
        raise InputError(f"folding.json: clock_mhz must be a positive number, got {clock!r}")
    target = _positive("the top level", "target_cycles", document["target_cycles"])
    skeleton = build_skeleton(qgraph)
    entries = document["stages"]
    got = [e.get("name") if isinstance(e, dict) else None for e in entries] if isinstance(entries, list) else None
    names = [s.name for s in skeleton.stages]
    general = skeleton if skeleton.general else general_skeleton(qgraph)
    if got != names:
        if got != [s.name for s in general.stages]:
            raise InputError(f"folding.json: stages must be {', '.join(names)}, in this order; got {got}")
        skeleton = general
    stages = tuple(coded(_folded(s, e), qgraph) for s, e in zip(skeleton.stages, entries, strict=True))
    try:
        return assemble(qgraph, skeleton, stages, float(clock), target)
    except NotAheadError:
        if names != [s.name for s in general.stages]:
            raise
        # The same stages as no chain: what their search found (hardware/search.py).
        stages = tuple(coded(_folded(s, e), qgraph) for s, e in zip(general.stages, entries, strict=True))
        return assemble(qgraph, general, stages, float(clock), target)


def _stage_entry(stage: Stage) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": stage.name, "cycles": stage.cycles}
    if isinstance(stage, ConvStage):
        entry["engine"] = _fold_entry(stage.engine)
    elif isinstance(stage, ExpandStage):
        entry |= {"expand1x1": _fold_entry(stage.expand1x1), "expand3x3": _fold_entry(stage.expand3x3), "out_lanes": stage.out_lanes}
    else:
        entry["lanes"] = stage.lanes
        if isinstance(stage, JoinStage):
            only = _lone(stage)
            entry |= {"engine": _fold_entry(only.engine)} if only else {"side": [_stage_entry(s) for s in stage.side]} if stage.side else {}
    return entry


def _lone(stage: JoinStage) -> ConvStage | None:
    """The convolution that is all there is on a bypass."""
    only = stage.side[0] if len(stage.side) == 1 else None
    return only if isinstance(only, ConvStage) else None


def _fold_entry(engine: Engine) -> dict[str, int | str | bool]:
    fold = engine.fold
    coding: dict[str, int | str | bool] = {"weight_coding": engine.coding.kind} if engine.coding else {}
    return {
        "p_oc": fold.p_oc, "p_ic": fold.p_ic, "p_k": fold.p_k, "p_px": fold.p_px, "packing": engine.packing, "pack_shift": engine.pack_shift,
        "weight_storage": engine.weight_storage, "loaded": engine.loaded, **coding,
    }  # fmt: skip


def _folded(stage: Stage, entry: dict[str, Any]) -> Stage:
    own = {"engine"} if isinstance(stage, ConvStage) else {"expand1x1", "expand3x3", "out_lanes"} if isinstance(stage, ExpandStage) else {"lanes"}
    only = _lone(stage) if isinstance(stage, JoinStage) else None
    if isinstance(stage, JoinStage) and stage.side:
        own = {"lanes", "engine" if only else "side"}
    _keys(f"stage {stage.name}", entry, {"name", *own}, optional={"cycles"})
    if isinstance(stage, ConvStage):
        return replace(stage, engine=_engine(stage.name, "engine", stage.engine, entry))
    if isinstance(stage, ExpandStage):
        e1 = _engine(stage.name, "expand1x1", stage.expand1x1, entry)
        e3 = _engine(stage.name, "expand3x3", stage.expand3x3, entry)
        return replace(stage, expand1x1=e1, expand3x3=e3, out_lanes=_positive(f"stage {stage.name}", "out_lanes", entry["out_lanes"]))
    lanes = _positive(f"stage {stage.name}", "lanes", entry["lanes"])
    if isinstance(stage, JoinStage):
        return replace(stage, lanes=lanes, side=_side(stage, only, entry))
    return replace(stage, lanes=lanes)


def _side(stage: JoinStage, only: ConvStage | None, entry: dict[str, Any]) -> tuple[SideStage, ...]:
    if only is not None:
        return (replace(only, engine=_engine(stage.name, "engine", only.engine, entry)),)
    if not stage.side:
        return ()
    names = [s.name for s in stage.side]
    got = [e.get("name") if isinstance(e, dict) else None for e in entry["side"]] if isinstance(entry["side"], list) else None
    if got != names:
        raise InputError(f"folding.json: stage {stage.name}: side must be {', '.join(names)}, in this order; got {got}")
    return tuple(cast(SideStage, _folded(s, e)) for s, e in zip(stage.side, entry["side"], strict=True))


def _engine(name: str, key: str, engine: Engine, entry: dict[str, Any]) -> Engine:
    where = f"stage {name}, {key}"
    _keys(where, entry[key], {"p_oc", "p_ic", "p_k"}, optional={"p_px", "packing", "pack_shift", "weight_storage", "loaded", "weight_coding"})
    given = {"p_px": 1, "packing": "none", "pack_shift": 0, "weight_storage": "auto", "loaded": False, "weight_coding": DENSE, **entry[key]}
    p_oc, p_ic, p_k, p_px = (_positive(where, k, given[k]) for k in ("p_oc", "p_ic", "p_k", "p_px"))
    for k, kind in (("packing", str), ("pack_shift", int), ("weight_storage", str), ("loaded", bool), ("weight_coding", str)):
        if type(given[k]) is not kind:
            raise InputError(f"folding.json: {where}: {k} must be {kind.__name__}, got {given[k]!r}")
    folded = replace(
        engine, fold=EngineFold(p_oc, p_ic, p_k, p_px), packing=given["packing"], pack_shift=given["pack_shift"], weight_storage=given["weight_storage"]
    )
    if given["weight_coding"] != DENSE:
        if given["weight_coding"] not in KINDS:
            raise InputError(f"folding.json: {where}: weight_coding must be one of {DENSE}, {', '.join(KINDS)}, got {given['weight_coding']!r}")
        folded = replace(folded, coding=WeightCoding(given["weight_coding"], 0))
    return loadable(folded) if given["loaded"] else folded


def _keys(where: str, value: object, required: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    if not isinstance(value, dict):
        raise InputError(f"folding.json: {where}: expected an object, got {type(value).__name__}")
    odd = sorted(set(value) - required - optional)
    missing = sorted(required - set(value))
    if odd or missing:
        raise InputError(f"folding.json: {where}: expected the keys {', '.join(sorted(required))}; missing {missing or 'none'}, unknown {odd or 'none'}")


def _positive(where: str, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"folding.json: {where}: {key} must be a positive integer, got {value!r}")
    return value
