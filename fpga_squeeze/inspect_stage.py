"""One stage of an export taken apart: its folding, memories and numbers, and the C++ and SystemVerilog that were generated for it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fpga_squeeze import jobs, pipeline
from fpga_squeeze.emit.idents import identifier
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import AddStage, ConvStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, JoinStage, Link, PoolStage, Stage


@dataclass(frozen=True)
class Source:
    """A generated file, or the part of it that is the stage's. `language`: "cpp" or "systemverilog"; `path` is relative to the export."""

    path: str
    language: str
    text: str


@dataclass(frozen=True)
class StageView:
    """`engines`: folds and formats of each convolution; `numbers`: cycles, multipliers, resources; `memories`: rows of the memory budget;
    `streams`: the link in and the link out; `layers`: SQNR of its layers as measured at export."""

    name: str
    kind: str
    what: str
    engines: tuple[dict[str, Any], ...]
    numbers: dict[str, Any]
    memories: tuple[dict[str, Any], ...]
    streams: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    sources: tuple[Source, ...]

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


def view_stages(out: Path) -> tuple[StageView, ...]:
    """Every stage in stream order, without sources. Raises InputError when `out` is no export."""
    opened = pipeline.open_export(out)
    plan, reports = pipeline.open_plan(opened), jobs.report(out)
    return tuple(_view(stage, plan, reports, ()) for stage in plan.stages)


def view_stage(out: Path, name: str) -> StageView:
    """One stage with its generated sources.

    Raises:
        InputError: no export there, no stage of this name (the known ones are listed), or a generated file is gone.
    """
    opened = pipeline.open_export(out)
    plan, reports = pipeline.open_plan(opened), jobs.report(out)
    stage = next((s for s in plan.stages if s.name == name), None)
    if stage is None:
        raise InputError(f"stage {name!r}: no such stage; known: {', '.join(s.name for s in plan.stages)}")
    return _view(stage, plan, reports, _sources(out, stage, plan))


def _view(stage: Stage, plan: FoldPlan, reports: dict[str, Any], sources: tuple[Source, ...]) -> StageView:
    nodes = _nodes(stage)
    memory = (reports.get("memory_budget") or {}).get("rows", [])
    links: tuple[Link, ...] = (plan.link_into(stage.name), plan.link_from(stage.name))
    if plan.general:
        # A second operand, and every reader: what is next to a stage in the list need not be what it is joined to.
        links = tuple(link for link in (*plan.links, *plan.bypasses) if stage.name in (link.producer, link.consumer))
    layers = (reports.get("layers") or {}).get("layers", [])
    resources = next((dict(r) for r in (reports.get("resources") or {}).get("stages", []) if r["stage"] == stage.name), {})
    resources.pop("stage", None)
    multipliers = sum(e.fold.multipliers for e in stage.engines)
    macs = sum(e.macs for e in stage.engines)
    interval = plan.interval_cycles
    numbers = {
        "cycles": stage.cycles, "interval_cycles": interval, "busy": round(stage.cycles / interval, 4), "multipliers": multipliers, "macs": macs,
        "mac_efficiency": round(macs / (multipliers * interval), 4) if multipliers else None, **resources,
    }  # fmt: skip
    return StageView(
        stage.name, type(stage).__name__.removesuffix("Stage"), _what(stage), tuple(_engine(e) for e in stage.engines), numbers,
        tuple(row for row in memory if row["stage"] == stage.name), tuple(_link(link) for link in links),
        tuple(row for row in layers if row["name"] in nodes), sources,
    )  # fmt: skip


def _nodes(stage: Stage) -> tuple[str, ...]:
    """Layers of the network that the stage computes."""
    if isinstance(stage, ExpandStage):
        return (stage.expand1x1.node, stage.expand3x3.node, stage.concat)
    if isinstance(stage, JoinStage):
        return (*(name for s in stage.side for name in _nodes(s)), stage.node)
    return (stage.engine.node,) if isinstance(stage, ConvStage) else (stage.node,) if hasattr(stage, "node") else (stage.name,)


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(str(n) for n in shape)


def _what(stage: Stage) -> str:
    if isinstance(stage, ExpandStage):
        return f"1x1 and {stage.expand3x3.kernel}x{stage.expand3x3.kernel} convolutions on one line buffer, concatenated"
    if isinstance(stage, ConvStage):
        e = stage.engine
        return f"{e.kernel}x{e.kernel} convolution, stride {e.stride}, {_shape(e.in_shape)} -> {_shape(e.out_shape)}"
    if isinstance(stage, PoolStage):
        return f"{stage.kernel}x{stage.kernel} max pool, stride {stage.stride}, {_shape(stage.in_shape)} -> {_shape(stage.out_shape)}"
    if isinstance(stage, GlobalSumStage):
        return f"sum of each channel, {_shape(stage.in_shape)} -> {stage.in_shape[0]} class sums"
    if isinstance(stage, JoinStage):
        side = "".join(f"; on the bypass: {_what(s)}" for s in stage.side)
        return f"{'sum' if isinstance(stage, AddStage) else 'channels'} of the main branch and the bypass from {stage.bypass}, {_shape(stage.out_shape)}{side}"
    return type(stage).__name__.removesuffix("Stage")


def _format(bits: int, frac: int, signed: bool) -> str:
    return f"{'s' if signed else 'u'}{bits} * 2^{-frac}"


def _engine(e: Engine) -> dict[str, Any]:
    f = e.fold
    return {
        "layer": e.node, "kernel": e.kernel, "stride": e.stride, "in_shape": list(e.in_shape), "out_shape": list(e.out_shape),
        "p_oc": f.p_oc, "p_ic": f.p_ic, "p_k": f.p_k, "p_px": f.p_px, "multipliers": f.multipliers,
        "oc_folds": e.oc_folds, "ic_folds": e.ic_folds, "k_folds": e.k_folds, "cycles": e.cycles,
        "packing": e.packing, "weight_storage": e.weight_storage, "loaded": e.loaded,
        "in_format": _format(e.in_fmt.bits, e.in_fmt.frac, e.in_fmt.signed), "out_format": _format(e.out_fmt.bits, e.out_fmt.frac, e.out_fmt.signed),
        "weight_bits": e.weight_bits, "bias_bits": e.bias_bits, "acc_bits": e.acc_bits, "shift": [e.shift_min, e.shift_max],
        "weight_rows": e.weight_depth, "weight_row_bits": e.weight_word_bits,
        **({"weight_coding": e.coding.kind, "stored_weight_bits": e.stored_weight_bits} if e.coding else {}),
    }  # fmt: skip


def _link(link: Link) -> dict[str, Any]:
    return {
        "name": link.name, "from": link.producer, "to": link.consumer, "tensor": link.tensor, "shape": list(link.shape),
        "format": _format(link.fmt.bits, link.fmt.frac, link.fmt.signed), "in_lanes": link.in_lanes, "out_lanes": link.out_lanes, "depth": link.depth,
    }  # fmt: skip


def _sources(out: Path, stage: Stage, plan: FoldPlan) -> tuple[Source, ...]:
    module = identifier(stage.module)
    shared = sum(s.module == stage.module for s in plan.stages) > 1
    cpp = _read(out, f"hls/{module}.cpp")
    if shared:
        cpp = stage_blocks(cpp, (stage.name, *_nodes(stage)))
    rtl = f"rtl/{identifier(stage.name)}.sv"
    return Source(f"hls/{module}.cpp", "cpp", cpp), Source(rtl, "systemverilog", _read(out, rtl))


def stage_blocks(cpp: str, names: tuple[str, ...]) -> str:
    """The paragraphs of a C++ file whose first line declares something named after one of `names`.

    >>> print(stage_blocks("struct a_cfg {\\n};\\n\\nstruct b_cfg {\\n};\\n\\nvoid b_read() {\\n}\\n", ("b",)))
    struct b_cfg {
    };
    <BLANKLINE>
    void b_read() {
    }
    """
    own = re.compile(rf"(?:{'|'.join(re.escape(identifier(n)) for n in names)})(?:_[A-Za-z]+)*")
    declared = re.compile(r"^(?:struct|using|void|static|constexpr)\s+(?P<name>\w+)")
    kept = []
    for paragraph in cpp.split("\n\n"):
        match = declared.match(paragraph.lstrip("\n"))
        if match is not None and own.fullmatch(match["name"]):
            kept.append(paragraph.strip("\n"))
    return "\n\n".join(kept)


def _read(out: Path, name: str) -> str:
    try:
        return (out / name).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out / name}: cannot be read ({error.strerror}); export again") from error
