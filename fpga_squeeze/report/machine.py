"""machine.json: the pipeline as data, stages and the links between them, for the report page and for other readers of an export."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo import internal_fifos
from fpga_squeeze.hardware.plan import Engine, FoldPlan, Link, Stage


def act_bits(machine: dict[str, Any]) -> list[int]:
    """Bits of the activations of a machine.json, ascending: of all that engines make, the class scores included."""
    return sorted({e["out_format"]["bits"] for s in machine["stages"] for e in s["engines"]})


def index_bits(machine: dict[str, Any]) -> list[int]:
    """Bits of the codebook indices that its engines store, ascending; empty without a codebook."""
    return sorted({e["stored_value_bits"] for s in machine["stages"] for e in s["engines"] if "codebook" in e.get("weight_coding", "")})


def machine_json(plan: FoldPlan) -> dict[str, Any]:
    """{"clock_mhz", "interval_cycles", "stages": [...], "links": [...]}.

    A link that is no neighbour's (a bypass) has "side": true; its ends are the stage whose stream is forked and the one that reads it. Depths: beats of
    `out_lanes`.
    """
    before = {stage.name: other.name for other, stage in pairwise(plan.stages)}
    links = [_link(link, side=plan.general and link.producer != before.get(link.consumer, link.producer)) for link in plan.links]
    links += [_link(link, side=True) for link in plan.bypasses]
    return {
        "clock_mhz": plan.clock_mhz, "interval_cycles": plan.interval_cycles, "stages": [_stage(plan, s) for s in plan.stages], "links": links,
    }  # fmt: skip


def _stage(plan: FoldPlan, stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name, "module": stage.module, "kind": type(stage).__name__.removesuffix("Stage"), "cycles": stage.cycles,
        "multipliers": sum(e.fold.multipliers for e in stage.engines), "in_shape": list(plan.link_into(stage.name).shape),
        "out_shape": list(plan.link_from(stage.name).shape), "engines": [_engine(e) for e in stage.engines],
        "fifos": [{"name": f.name, "bits": f.lanes * f.bits, "depth": f.depth} for f in internal_fifos(stage)],
    }  # fmt: skip


def _engine(e: Engine) -> dict[str, Any]:
    return {
        "node": e.node, "kernel": e.kernel, "stride": e.stride, "in_shape": list(e.in_shape), "out_shape": list(e.out_shape), "macs": e.macs,
        "cycles": e.cycles, "multipliers": e.fold.multipliers, "p_oc": e.fold.p_oc, "p_ic": e.fold.p_ic, "p_k": e.fold.p_k, "p_px": e.fold.p_px,
        "weight_bits": e.weight_bits, "bias_bits": e.bias_bits, "acc_bits": e.acc_bits, "packing": e.packing, "weight_storage": e.weight_storage,
        "loaded": e.loaded, "in_format": _format(e.in_fmt), "out_format": _format(e.out_fmt),
        **({"weight_coding": e.coding.kind, "stored_value_bits": e.coding.value_bits} if e.coding else {}),
    }  # fmt: skip


def _link(link: Link, side: bool) -> dict[str, Any]:
    return {
        "name": link.name, "producer": link.producer, "consumer": link.consumer, "tensor": link.tensor, "shape": list(link.shape), "side": side,
        "format": _format(link.fmt), "in_lanes": link.in_lanes, "out_lanes": link.out_lanes, "width_bits": link.out_lanes * link.fmt.bits, "depth": link.depth,
    }  # fmt: skip


def _format(fmt: TensorFormat) -> dict[str, Any]:
    return {"bits": fmt.bits, "frac": fmt.frac, "signed": fmt.signed}
