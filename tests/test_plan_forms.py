"""Every form that a plan can ask for, as RTL of a whole network: ceil folds, several pixels, packed products, storage; bit-exact, no cycle lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.dsp_packing import pack_shift
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.plan import ConvStage, Engine, EngineFold, ExpandStage, FoldPlan, Stage
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.cosim import run_rtl
from tests.machines import tiny
from tests.rtl_machines import digits, lively, random_pixels, require, write

Change = Callable[[Engine], Engine]


def changed(qgraph: QuantGraph, plan: FoldPlan, change: Change) -> FoldPlan:
    """`plan` with every engine changed, joined and checked again."""

    def stage(s: Stage) -> Stage:
        if isinstance(s, ConvStage):
            return replace(s, engine=change(s.engine))
        if isinstance(s, ExpandStage):
            return replace(s, expand1x1=change(s.expand1x1), expand3x3=change(s.expand3x3))
        return s

    return assemble(qgraph, build_skeleton(qgraph), tuple(stage(s) for s in plan.stages), plan.clock_mhz, plan.target_cycles)


def pixels(count: int) -> Change:
    """`count` pixels at a time where the map is wide enough."""
    return lambda e: replace(e, fold=replace(e.fold, p_px=min(count, e.out_shape[2])))


def packed(kind: str, wide: int) -> Change:
    """Two products in a multiplier with a port of `wide` bits, where the formats and folds allow it."""

    def change(e: Engine) -> Engine:
        shift = pack_shift(e.weight_bits, e.in_fmt, (wide, 18), kind, wide == 18)
        pairs = e.fold.p_oc if kind == "channels" else e.fold.p_px
        return replace(e, packing=kind, pack_shift=shift) if shift and pairs > 1 else e

    return change


def stored(storage: str) -> Change:
    """Weights in `storage`."""
    return lambda e: replace(e, weight_storage=storage)


def widened(most: int) -> Change:
    """p_oc of at least 2 and one that leaves a short last fold where there are channels enough; kept within expand1x1's speed by p_ic."""
    return lambda e: replace(e, fold=EngineFold(min(e.out_shape[0], max(most, e.fold.p_oc)), e.fold.p_ic, e.fold.p_k, e.fold.p_px))


FORMS: dict[str, tuple[Change, ...]] = {
    "ceil folds": (widened(3),),
    "two pixels": (pixels(2), stored("lut")),
    "three pixels": (pixels(3), stored("bram")),
    "channels packed, DSP48E2": (widened(3), packed("channels", 27)),
    "pixels packed, DSP48E1": (pixels(2), packed("pixels", 25)),
    "pixels packed, 18 x 18, a third pixel alone": (pixels(3), packed("pixels", 18)),
}


def form(qgraph: QuantGraph, fps: float, name: str) -> FoldPlan:
    """The plan for `fps` in the form `name`."""
    plan = plan_machine(qgraph, 200.0, fps)
    for change in FORMS[name]:
        plan = changed(qgraph, plan, change)
    return plan


@pytest.fixture(scope="module")
def small() -> QuantGraph:
    plain = tiny(seed=3)
    return lively(plain, random_pixels(plain, 2))


@pytest.mark.parametrize("name", FORMS)
def test_a_small_network_is_bit_exact_and_loses_no_cycle(name: str, small: QuantGraph, tmp_path: Path) -> None:
    require("icarus")
    plan = form(small, 250_000.0, name)
    result = run_rtl(write(tmp_path, small, plan), small, plan, random_pixels(small, 5), simulator="icarus", stalls="none,random:1,adversarial")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles + 1


def test_the_digits_network_packed_and_by_pixels(tmp_path: Path) -> None:
    """The real network: pairs of pixels packed in every engine whose map and formats allow it."""
    require("verilator")
    qgraph, plan, frames = digits(15_000.0, 4)
    plan = changed(qgraph, changed(qgraph, plan, pixels(2)), packed("pixels", 27))
    assert sum(e.packing == "pixels" for s in plan.stages for e in s.engines) > 8
    result = run_rtl(write(tmp_path, qgraph, plan), qgraph, plan, frames, simulator="verilator")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles


@pytest.mark.parametrize(("change", "message"), [
    (lambda e: replace(e, fold=replace(e.fold, p_px=9)), "p_px must be 1 to"),
    (lambda e: replace(e, packing="channels", pack_shift=19, fold=replace(e.fold, p_oc=1)), "packing channels needs p_oc of at least 2"),
    (lambda e: replace(e, packing="pixels", pack_shift=30, fold=replace(e.fold, p_px=2)), "pack_shift must be 8 to"),
    (lambda e: replace(e, weight_storage="uram"), "uram has no initial contents"),
    (lambda e: replace(e, pack_shift=19), "pack_shift belongs to a packing"),
])  # fmt: skip
def test_a_form_that_cannot_be_built_is_refused(change: Change, message: str, small: QuantGraph) -> None:
    plan = plan_machine(small, 200.0, 100_000.0)
    with pytest.raises(InputError, match=message):
        changed(small, plan, change)
