"""C simulation of what a plan can ask for beyond plain folds: ceil folds, several pixels at a time, two products to a multiplier, storage, loading.

The digits network with its trained weights and real frames, each stage equal to the golden simulator.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hls_cases import NetBuilder, frames_for, hand_plan, refold, write_export
from numpy.typing import NDArray

from fpga_squeeze import pipeline
from fpga_squeeze.emit import golden
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.devices import MULTIPLIER_BITS
from fpga_squeeze.hardware.dsp_packing import pack_shift
from fpga_squeeze.hardware.plan import Engine, EngineFold, FoldPlan
from fpga_squeeze.hardware.structure import loadable
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.csim import CsimResult, run_csim

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

OUT = Path(__file__).parent.parent / "hls_out" / "squeezenet_digits"


@cache
def digits() -> tuple[QuantGraph, FoldPlan, NDArray[np.uint8]]:
    """The committed export of the embedded network: integers, plan and two of its frames."""
    opened = pipeline.open_export(OUT)
    return opened.qgraph, pipeline.open_plan(opened), golden.read_frames(OUT, opened.qgraph)[:2]


def simulate(folder: Path, qgraph: QuantGraph, plan: FoldPlan, frames: NDArray[np.uint8]) -> CsimResult:
    """Result of the C simulation; every stage compared every value."""
    result = run_csim(write_export(folder, qgraph, plan, frames), optimize="-O0")
    compared = [len(frames) * int(np.prod(qgraph[link.tensor].shape)) for link in plan.links[1:]]
    assert [row.compared for row in result.rows] == [*compared, compared[-1]]
    return result


def uneven(engine: Engine, p_px: int = 1) -> Engine:
    """Folds of which hardly one divides its dimension; the whole kernel, a column or a tap at a time, by turns."""
    wide = engine.kernel == 1
    p_k = (1, engine.kernel, engine.kernel**2)[engine.out_shape[0] // 16 % 3]
    fold = EngineFold(5 if wide else 3, min(3, engine.in_shape[0]), 1 if wide else p_k, min(p_px, engine.out_shape[2]))
    return replace(engine, fold=fold)


def packed(engine: Engine, packing: str, family: str) -> Engine:
    """The engine with pairs as they fit the multipliers of a device family."""
    shift = pack_shift(engine.weight_bits, engine.in_fmt, MULTIPLIER_BITS[family], packing, overlap_allowed=True)
    assert shift > 0
    return replace(engine, packing=packing, pack_shift=shift)


@needs_compiler
def test_ceil_folds(tmp_path: Path) -> None:
    qgraph, plan, frames = digits()
    folded = refold(plan, qgraph, uneven)
    padded = [e for s in folded.stages for e in s.engines if e.out_shape[0] % e.fold.p_oc and e.in_shape[0] % e.fold.p_ic]
    assert {e.kernel for e in padded} == {1, 3}
    result = simulate(tmp_path, qgraph, folded, frames)
    assert result.ok, result.first_failure


@needs_compiler
@pytest.mark.parametrize("p_px", [2, 3])
def test_several_pixels_at_a_time(tmp_path: Path, p_px: int) -> None:
    """Maps of 14 x 14, 7 x 7 and 3 x 3: groups within a row, across a row's end, and short ones at a frame's end."""
    qgraph, plan, frames = digits()
    folded = refold(plan, qgraph, lambda e: uneven(e, p_px))
    short = [e for s in folded.stages for e in s.engines if e.out_shape[1] * e.out_shape[2] % p_px]
    assert {e.kernel for e in short} == {1, 3}
    result = simulate(tmp_path, qgraph, folded, frames)
    assert result.ok, result.first_failure


@needs_compiler
@pytest.mark.parametrize(
    ("family", "packing", "p_px", "shift"),
    [("zynqmp", "channels", 1, 19), ("zynqmp", "pixels", 3, 18), ("zynq7000", "pixels", 2, 16), ("ecp5", "channels", 2, 10), ("ecp5", "pixels", 2, 9)],
)
def test_two_products_to_a_multiplier(tmp_path: Path, family: str, packing: str, p_px: int, shift: int) -> None:
    """Odd channels and pixels left over, products added before they are taken apart (DSP48E2), overlapping fields (ECP5)."""
    qgraph, plan, frames = digits()
    folded = refold(plan, qgraph, lambda e: packed(uneven(e, p_px), packing, family))
    assert {e.pack_shift for s in folded.stages for e in s.engines} == {shift}
    result = simulate(tmp_path, qgraph, folded, frames)
    assert result.ok, result.first_failure


@needs_compiler
@pytest.mark.parametrize(
    ("packing", "shift", "old", "new"),
    [
        ("channels", 19, "(high << SHIFT)", "(high << (SHIFT - 1))"),
        ("pixels", 9, "(high << SHIFT)", "(high << (SHIFT + 1))"),
        ("channels", 10, "over_low = low_product & OVERLAP_MASK", "over_low = low_product & (OVERLAP_MASK >> 1)"),
    ],
)
def test_a_wrong_shift_in_a_pair_is_noticed(tmp_path: Path, packing: str, shift: int, old: str, new: str) -> None:
    net = NetBuilder(21)
    qgraph = net.finish(net.conv("conv1", net.image(3, 5, 5), 4, 3))
    plan = hand_plan(qgraph, {"conv1": (2, 3, 9, 2)}, one_module=True)
    stage = plan.stages[0]
    plan = replace(plan, stages=(replace(stage, engine=replace(stage.engines[0], packing=packing, pack_shift=shift)), *plan.stages[1:]))  # type: ignore[call-arg]
    write_export(tmp_path, qgraph, plan, frames_for(qgraph, 1))
    assert run_csim(tmp_path, optimize="-O0").ok
    header = tmp_path / "hls/lib/mvu_pair.h"
    text = header.read_text()
    assert text.count(old) == 1
    header.write_text(text.replace(old, new))
    result = run_csim(tmp_path, optimize="-O0")
    assert not result.ok and result.rows[0].mismatches > 0


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_groups(tmp_path: Path, seed: int) -> None:
    """Random kernels, strides, pads, formats and folds, groups of up to eight pixels, with a Fire."""
    choose = random.Random(seed)
    net = NetBuilder(seed)
    x = net.image(choose.choice([1, 3]), choose.randint(8, 14), choose.randint(8, 14))
    folds: dict[str, tuple[int, ...]] = {}
    for i in range(6):
        c, h, w = net.nodes[-1].shape
        fmt = TensorFormat(choose.choice([4, 8, 8, 11, 16]), 4, signed=choose.random() < 0.3)
        name, oc, k = f"n{i}", choose.randint(1, 9), min(choose.choice([1, 2, 3, 3, 4, 5]), h, w)
        if i == 3:
            x = net.fire(name, x, 4, 6, 6, fmt=fmt)
            p_px = choose.randint(1, min(8, w))
            folds[f"{name}.squeeze"] = (3, choose.randint(1, c), 1, choose.randint(1, min(8, w)))
            folds[f"{name}.expand1x1"] = (choose.randint(1, 6), choose.choice([1, 2, 3, 4]), 1, p_px)
            folds[f"{name}.expand3x3"] = (choose.randint(1, 6), choose.choice([1, 2, 3, 4]), choose.choice([1, 3, 9]), p_px)
            continue
        pad = (choose.randint(0, min(k, 2)), choose.randint(0, 2), choose.randint(0, 2), choose.randint(0, 2))
        x = net.conv(name, x, oc, k, choose.randint(1, 2), pad, weight_bits=choose.choice([2, 5, 8, 16]), fmt=fmt, pad_values=True)
        width = net.nodes[-1].shape[2]
        folds[name] = (choose.randint(1, oc), choose.randint(1, c), choose.choice([1, k, k * k]), choose.randint(1, min(8, width)))
    qgraph = net.finish(x)
    plan = hand_plan(qgraph, folds, {"n3.concat": choose.choice([1, 2, 3])}, one_module=True)
    result = simulate(tmp_path, qgraph, plan, frames_for(qgraph, 2, seed))
    assert result.ok, result.first_failure


def kernels(plan: FoldPlan, qgraph: QuantGraph) -> str:
    return emit_hls(qgraph, plan)["hls/net.cpp"].decode()


@pytest.mark.parametrize(("storage", "impl"), [("lut", "lutram"), ("bram", "bram"), ("uram", "uram"), ("auto", None)])
def test_storage_is_bound_as_planned(storage: str, impl: str | None) -> None:
    qgraph, plan, _ = digits()
    text = kernels(refold(plan, qgraph, lambda e: replace(loadable(e) if storage == "uram" else e, weight_storage=storage)), qgraph)
    bound = [line for line in text.splitlines() if "BIND_STORAGE" in line and "_weights " in line]
    assert len(bound) == (sum(len(s.engines) for s in plan.stages) if impl else 0)
    assert all(line.endswith(f"type=rom_1p impl={impl}") for line in bound)


@needs_compiler
def test_loaded_engines_keep_their_weights_and_say_so(tmp_path: Path) -> None:
    """Wider accumulators, biases and shifts than these weights need, and the same result."""
    qgraph, plan, frames = digits()
    loaded = refold(plan, qgraph, lambda e: replace(loadable(e), weight_storage="uram"))
    result = simulate(tmp_path, qgraph, loaded, frames[:1])
    assert result.ok, result.first_failure
    said = "the port exists in the RTL only"
    assert said in (tmp_path / "hls/weights/conv1.h").read_text()
    assert said.encode() not in emit_hls(qgraph, plan)["hls/weights/conv1.h"]


def test_pairs_that_no_multiplier_computes_are_refused() -> None:
    net = NetBuilder(22)
    signed = net.conv("conv1", net.image(3, 5, 5), 4, 3, fmt=TensorFormat(8, 4, signed=True))
    qgraph = net.finish(net.conv("conv2", signed, 4, 1))
    plan = hand_plan(qgraph, {"conv2": (2, 1, 1)})
    stage = plan.stages[1]
    pair = replace(stage, engine=replace(stage.engines[0], packing="channels", pack_shift=19))  # type: ignore[call-arg]
    with pytest.raises(InputError, match="layer conv2: packing channels needs unsigned activations"):
        emit_hls(qgraph, replace(plan, stages=(plan.stages[0], pair, *plan.stages[2:])))
    wide = replace(plan.stages[0], engine=replace(plan.stages[0].engines[0], fold=EngineFold(1, 1, 1, 4)))  # type: ignore[call-arg]
    with pytest.raises(InputError, match="p_px must be 1 to 3"):
        emit_hls(qgraph, replace(plan, stages=(wide, *plan.stages[1:])))
