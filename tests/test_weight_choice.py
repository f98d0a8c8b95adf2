"""Which storage an engine takes, from the option through folding.json and the reports to machines that compute the same."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig, load_config
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.rtl import emit_rtl
from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.hardware import weight_choice
from fpga_squeeze.hardware.cost import stage_resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import folding_from_json, folding_to_json, plan_machine
from fpga_squeeze.hardware.goal import Goal
from fpga_squeeze.hardware.legality import verify_plan
from fpga_squeeze.hardware.memory import memory_rows
from fpga_squeeze.hardware.plan import ConvStage, FoldPlan
from fpga_squeeze.hardware.search import search
from fpga_squeeze.hardware.structure import all_loaded
from fpga_squeeze.hardware.weight_choice import saving, storages, with_engines, with_storage
from fpga_squeeze.hardware.weight_storage import kind_of, with_coding
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.verify.cosim import run_rtl
from fpga_squeeze.verify.csim import run_csim
from fpga_squeeze.verify.lint import lint
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from tests.hls_cases import write_export, wrong_stages
from tests.machines import tiny
from tests.rtl_machines import REAL_DATA, lively, random_pixels, require, write

KINDS = ("codebook", "sparse", "sparse-codebook")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def thinned(qgraph: QuantGraph, keep: float, step: int, seed: int = 0) -> QuantGraph:
    """The graph with a share `keep` of its weights, rounded towards zero to multiples of `step`; the others zero."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in qgraph.nodes:
        if isinstance(node.op, QConv):
            weight = np.sign(node.op.weight) * (np.abs(node.op.weight) // step * step) * (rng.random(node.op.weight.shape) < keep)
            node = replace(node, op=replace(node.op, weight=weight.astype(np.int32)))
        nodes.append(node)
    return QuantGraph(tuple(nodes), qgraph.output)


@pytest.fixture(scope="module")
def small() -> QuantGraph:
    """A small network with 40% of its weights and few distinct ones."""
    plain = thinned(tiny(seed=3), 0.4, 30)
    return lively(plain, random_pixels(plain, 2))


def stored(qgraph: QuantGraph, plan: FoldPlan, kind: str) -> FoldPlan:
    """`plan` with every engine's weights coded as `kind`, or another one each."""
    turns = {e.node: KINDS[i % len(KINDS)] if kind == "by turns" else kind for i, e in enumerate(e for s in plan.stages for e in s.engines)}
    stages = tuple(with_engines(s, lambda e: with_coding(e, turns[e.node], weights(qgraph, e.node))) for s in plan.stages)
    result = replace(plan, stages=stages)
    verify_plan(result, qgraph)
    return result


def weights(qgraph: QuantGraph, node: str) -> QConv:
    op = qgraph[node].op
    assert isinstance(op, QConv)
    return op


def kinds(plan: FoldPlan) -> dict[str, str]:
    return {e.node: kind_of(e) for s in plan.stages for e in s.engines}


# ---------------------------------------------------------------- machines


MACHINES = ["by turns", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)]
"""Every engine another coding; slow: all the same."""


@pytest.mark.parametrize("kind", MACHINES)
def test_rtl_of_a_small_network_is_bit_exact_and_loses_no_cycle(kind: str, small: QuantGraph, tmp_path: Path) -> None:
    require("icarus")
    plan = stored(small, plan_machine(small, 200.0, 250_000.0), kind)
    result = run_rtl(write(tmp_path, small, plan), small, plan, random_pixels(small, 5), simulator="icarus", stalls="none,random:1,adversarial,reset")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles + 1


@needs_compiler
@pytest.mark.parametrize("kind", MACHINES)
def test_c_simulation_is_bit_exact(kind: str, small: QuantGraph, tmp_path: Path) -> None:
    plan = stored(small, plan_machine(small, 200.0, 250_000.0), kind)
    frames = random_pixels(small, 3)
    result = run_csim(write_export(tmp_path, small, plan, frames), optimize="-O0")
    compared = [len(frames) * int(np.prod(small[link.tensor].shape)) for link in plan.links[1:]]
    assert [row.compared for row in result.rows] == [*compared, compared[-1]]
    assert all(row.mismatches == 0 for row in result.rows)


@needs_compiler
def test_c_simulation_notices_one_wrong_stored_value(small: QuantGraph, tmp_path: Path) -> None:
    plan = stored(small, plan_machine(small, 200.0, 250_000.0), "sparse")
    folder = write_export(tmp_path, small, plan, random_pixels(small, 2))
    text = (folder / "hls/weights/conv10.h").read_text()
    declared = re.search(r"conv10_values.* = \{\n    \{\n        \{(\d+)", text)
    assert declared is not None
    wrong = declared.group(0).removesuffix(declared.group(1)) + str(int(declared.group(1)) ^ 64)
    assert "conv10" in wrong_stages(folder, folder / "hls/weights/conv10.h", declared.group(0), wrong)


def test_other_forms_are_emitted_as_before(small: QuantGraph) -> None:
    """Nothing of a machine without coded weights depends on there being such weights, but for the files of the library."""
    plan = plan_machine(small, 200.0, 250_000.0)
    content = emit_hls(small, plan) | emit_rtl(small, plan)
    assert with_storage(plan, small, "dense") is plan
    own = {name: text for name, text in content.items() if "/lib/" not in name and name != "rtl/files.f"}
    assert not any(word in text for text in own.values() for word in (b"CODING", b"VALUE_BITS", b"codebook", b"bitmap", b"weight_reader"))
    assert "hls/lib/weight_reader.h" not in content
    coded = emit_hls(small, stored(small, plan, "sparse")) | emit_rtl(small, stored(small, plan, "sparse"))
    assert "hls/lib/weight_reader.h" in coded and "rtl/weights/conv10_values_000.hex" in coded and "rtl/weights/conv10_bitmap.hex" in coded
    assert not any(name.endswith("_weights.hex") for name in coded)


@pytest.mark.parametrize("storage", ["auto", "lut", "bram"])
def test_generated_sources_are_clean(storage: str, small: QuantGraph, tmp_path: Path) -> None:
    """Pragmas name what is there; with a storage the coded memories are bound to it."""
    plan = stored(small, plan_machine(small, 200.0, 250_000.0), "by turns")
    stages = tuple(with_engines(s, lambda e: replace(e, weight_storage=storage)) for s in plan.stages)
    plan = stored(small, replace(plan, stages=stages), "by turns")
    for path, data in emit_hls(small, plan).items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    assert lint(tmp_path / "hls") == ()
    text = "".join(p.read_text() for p in (tmp_path / "hls").glob("*.cpp"))
    impl = {"auto": None, "lut": "lutram", "bram": "bram"}[storage]
    assert (f"_values type=rom_1p impl={impl}" in text) == (impl is not None)
    assert "_weights type=rom_1p" not in text


# ---------------------------------------------------------------- memories


@pytest.mark.parametrize("kind", ["dense", *KINDS])
def test_every_stored_bit_is_in_the_budget(kind: str, small: QuantGraph) -> None:
    plan = plan_machine(small, 200.0, 250_000.0)
    plan = stored(small, plan, kind)
    rows = memory_rows(plan, small)
    engines = [e for s in plan.stages for e in s.engines]
    assert sum(r.bits for r in rows if r.kind == "weights") == sum(e.stored_weight_bits for e in engines)
    names = {r.name for r in rows if r.stage == "conv10"}
    expected = {"dense": {"weights"}, "codebook": {"indices", "codebook"}, "sparse": {"bitmap", "values", "values.fifo"},
                "sparse-codebook": {"bitmap", "values", "values.fifo", "codebook"}}[kind]  # fmt: skip
    assert {f"conv10.{n}" for n in expected} <= names
    assert ("conv10.weights" in names) == (kind == "dense")
    content = emit_rtl(small, plan)
    memories = [text for name, text in content.items() if name.endswith(("weights.hex", "indices.hex", "bitmap.hex")) or "_values_" in name]
    digits = sum(4 * len(text.replace(b"\n", b"")) for text in memories)
    tables = sum(r.bits for r in rows if r.name.endswith(".codebook"))
    stored_bits = sum(e.stored_weight_bits for e in engines) - tables
    assert stored_bits <= digits < stored_bits + 3 * sum(text.count(b"\n") for text in memories) + 1, "a row is rounded up to whole digits"


# ---------------------------------------------------------------- choice


def test_auto_takes_what_is_worth_its_decoder(small: QuantGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_machine(small, 200.0, 250_000.0)
    assert with_storage(plan, small, "auto") == plan, "memories as small as these are worth no decoder"
    monkeypatch.setattr(weight_choice, "BLOCK_LUTS", 10**9)
    everything = with_storage(plan, small, "auto")
    for stage, before in zip(everything.stages, plan.stages, strict=True):
        for chosen, engine in zip(stage.engines, before.engines, strict=True):
            smallest = min(with_coding(engine, kind, weights(small, engine.node)).stored_weight_bits for kind in ("dense", *KINDS))
            assert chosen.stored_weight_bits == smallest
    monkeypatch.setattr(weight_choice, "BLOCK_LUTS", 0)
    cheap = with_storage(plan, small, "auto")
    for stage, before in zip(cheap.stages, plan.stages, strict=True):
        for chosen, engine in zip(stage.engines, before.engines, strict=True):
            assert chosen.coding is None or saving(engine, chosen, None) >= 0


def test_by_name_every_engine_that_gets_smaller(small: QuantGraph) -> None:
    plan = plan_machine(small, 200.0, 250_000.0)
    for storage in ("codebook", "sparse"):
        coded = with_storage(plan, small, storage)
        for stage, before in zip(coded.stages, plan.stages, strict=True):
            for chosen, engine in zip(stage.engines, before.engines, strict=True):
                assert kind_of(chosen) == "dense" or (kind_of(chosen).startswith(storage) and chosen.stored_weight_bits < engine.stored_weight_bits)
    assert set(kinds(with_storage(plan, small, "codebook")).values()) == {"codebook"}


def test_on_a_device_the_whole_machine_stays_within_its_limits(small: QuantGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    device = find_device("zcu102")
    assert device is not None
    plan = plan_machine(small, 200.0, 250_000.0)
    monkeypatch.setattr(weight_choice, "saving", lambda dense, other, device: dense.stored_weight_bits - other.stored_weight_bits)
    free = with_storage(plan, small, "auto", device)
    dense = sum(stage_resources(s, device).lut for s in plan.stages)
    need = sum(stage_resources(s, device).lut for s in free.stages)
    assert need > dense
    limits = replace(weight_choice.plan_resources(free, device), lut=weight_choice.plan_resources(free, device).lut - 1)
    fewer = with_storage(plan, small, "auto", device, limits)
    assert 0 < sum(k != "dense" for k in kinds(fewer).values()) < sum(k != "dense" for k in kinds(free).values())
    assert weight_choice.plan_resources(fewer, device).lut <= limits.lut


def test_storages_by_name_that_save_nothing_are_refused() -> None:
    plain = tiny(seed=3)
    plan = plan_machine(plain, 200.0, 250_000.0)
    with pytest.raises(InputError, match=r"--weight-storage codebook: no layer's weights take less room so \(they have too many distinct values\)"):
        with_storage(plan, plain, "codebook")
    with pytest.raises(InputError, match="too few zeros"):
        with_storage(plan, plain, "sparse")
    assert with_storage(plan, plain, "auto") == plan


def test_loaded_weights_stay_as_they_are(small: QuantGraph) -> None:
    plan = plan_machine(small, 200.0, 250_000.0)
    loaded = replace(plan, stages=tuple(all_loaded(s) for s in plan.stages))
    assert with_storage(loaded, small, "auto") == loaded
    with pytest.raises(InputError, match="loaded weights may be any"):
        with_storage(loaded, small, "sparse")


# ---------------------------------------------------------------- folding.json


def test_folding_json_carries_the_choice(small: QuantGraph) -> None:
    plan = with_storage(plan_machine(small, 200.0, 250_000.0), small, "codebook")
    text = folding_to_json(plan)
    assert folding_from_json(text, small) == plan
    assert "weight_coding" not in folding_to_json(plan_machine(small, 200.0, 250_000.0))
    edited = text.replace('"weight_coding": "codebook"', '"weight_coding": "sparse"')
    assert set(kinds(folding_from_json(edited, small)).values()) == {"sparse"}


@pytest.mark.parametrize(("value", "message"), [
    ("zip", "folding.json: stage conv1, engine: weight_coding must be one of dense, codebook, sparse, sparse-codebook, got 'zip'"),
    (3, "weight_coding must be str, got 3"),
    ("codebook", "layer conv1: [0-9]+ distinct weights, a codebook beside 8-bit weights holds at most 64"),
])  # fmt: skip
def test_codings_that_are_refused(value: object, message: str) -> None:
    plain = tiny(seed=3)
    document = json.loads(folding_to_json(plan_machine(plain, 200.0, 250_000.0)))
    document["stages"][0]["engine"]["weight_coding"] = value
    with pytest.raises(InputError, match=message):
        folding_from_json(json.dumps(document), plain)


def test_a_loaded_engine_cannot_be_coded(small: QuantGraph) -> None:
    document = json.loads(folding_to_json(plan_machine(small, 200.0, 250_000.0)))
    document["stages"][0]["engine"] |= {"weight_coding": "sparse", "loaded": True}
    with pytest.raises(InputError, match="weight_coding sparse holds the weights of one model; loaded weights are stored as they are"):
        folding_from_json(json.dumps(document), small)


def test_a_coding_of_other_weights_is_not_legal(small: QuantGraph) -> None:
    plan = stored(small, plan_machine(small, 200.0, 250_000.0), "sparse")
    first = plan.stages[0]
    assert isinstance(first, ConvStage) and first.engine.coding is not None
    wrong = replace(first, engine=replace(first.engine, coding=replace(first.engine.coding, words=first.engine.coding.words + 1)))
    with pytest.raises(InputError, match="its sparse weight memory is not that of the graph's weights"):
        verify_plan(replace(plan, stages=(wrong, *plan.stages[1:])), small)


# ---------------------------------------------------------------- export


@pytest.fixture(scope="module")
def pruned_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded network's file with 30% of its weights left."""
    state = torch.load(embedded_model_path(), weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for tensor in state.values():
        if tensor.ndim == 4:
            tensor *= torch.rand(tensor.shape, generator=generator) < 0.3
    path = tmp_path_factory.mktemp("pruned") / "squeezenet_digits.pt"
    torch.save(state, path)
    return path


def export(model: Path, out: Path, **options: object) -> pipeline.ExportResult:
    config = ExportConfig(arch="squeezenet_digits", target_fps=20_000.0, **options)  # type: ignore[arg-type]
    return pipeline.export(model, out, str(embedded_images("calibration")), config)


@pytest.mark.slow
@needs_compiler
def test_the_pruned_digits_network_end_to_end(pruned_digits: Path, tmp_path: Path) -> None:
    """Export, build.toml again, C simulation and RTL of the whole network, every value equal."""
    require("verilator")
    dense = export(pruned_digits, tmp_path / "dense")
    sparse = export(pruned_digits, tmp_path / "sparse", weight_storage="sparse")
    assert sum(k != "dense" for k in kinds(sparse.plan).values()) >= 8
    assert sparse.budget.by_kind["weights"] < 0.6 * dense.budget.by_kind["weights"]
    config = load_config(tmp_path / "sparse/model/build.toml")
    assert config.weight_storage == "sparse"
    again = pipeline.export(pruned_digits, tmp_path / "again", str(embedded_images("calibration")), config)
    assert again.plan == sparse.plan
    assert (tmp_path / "again/rtl/squeezenet.sv").read_bytes() == (tmp_path / "sparse/rtl/squeezenet.sv").read_bytes()
    names = {row["name"] for row in json.loads((tmp_path / "sparse/report/memory_budget.json").read_text())["rows"]}
    assert {"conv10.bitmap", "conv10.values", "conv10.values.fifo"} <= names
    assert "weight_coding" in (tmp_path / "sparse/report/machine.json").read_text()
    opened = pipeline.open_export(tmp_path / "sparse")
    plan = pipeline.open_plan(opened)
    assert plan == sparse.plan
    assert all(row.mismatches == 0 for row in run_csim(tmp_path / "sparse", optimize="-O0").rows)
    frames = np.repeat(sparse.images.pixels[:2], 2, axis=0)
    result = run_rtl(tmp_path / "sparse", opened.qgraph, plan, frames, simulator="verilator")
    assert result.ok, result.first_failure
    assert result.interval_cycles is not None and result.interval_cycles <= 1.01 * plan.interval_cycles


def test_folding_fed_back_keeps_its_storage(pruned_digits: Path, tmp_path: Path) -> None:
    first = export(pruned_digits, tmp_path / "first", weight_storage="sparse")
    path = tmp_path / "first/model/folding.json"
    assert export(pruned_digits, tmp_path / "second", folding=str(path)).plan == first.plan
    with pytest.raises(InputError, match="distinct weights, a codebook beside 8-bit weights holds at most 64"):
        path.write_text(path.read_text().replace('"weight_coding": "sparse"', '"weight_coding": "codebook"'))
        export(pruned_digits, tmp_path / "third", folding=str(path))
    assert not (tmp_path / "third").exists()


def test_budgets_count_what_is_stored(pruned_digits: Path, tmp_path: Path) -> None:
    """A budget between the two is kept by the sparse machine only."""
    dense = export(pruned_digits, tmp_path / "dense").budget.total_bytes
    sparse = export(pruned_digits, tmp_path / "sparse", weight_storage="sparse").budget.total_bytes
    between = str((dense + sparse) // 2)
    with pytest.raises(CheckFailedError, match="over the budget"):
        export(pruned_digits, tmp_path / "no", budget=between)
    assert export(pruned_digits, tmp_path / "yes", weight_storage="sparse", budget=between).budget.fits


def test_a_weight_budget_is_checked_against_what_is_stored(pruned_digits: Path, tmp_path: Path) -> None:
    """The last check is of the real memories: what sparse ones take of the same widths is less than rows would."""
    widest = sum(e.weight_depth * e.weight_word_bits for s in export(pruned_digits, tmp_path / "plain").plan.stages for e in s.engines)
    limit = widest // 8 * 7 // 10
    result = export(pruned_digits, tmp_path / "out", weight_storage="sparse", weight_budget=str(limit))
    engines = [e for s in result.plan.stages for e in s.engines]
    assert any(e.coding for e in engines)
    assert sum(e.stored_weight_bits for e in engines) <= 8 * limit
    assert sum(e.stored_weight_bits for e in engines) < sum(e.weight_depth * e.weight_word_bits for e in engines)


def test_an_unknown_storage_is_refused() -> None:
    with pytest.raises(InputError, match="--weight-storage: one of dense, auto, smallest, codebook, sparse was expected, got 'zip'"):
        ExportConfig(weight_storage="zip")


# ---------------------------------------------------------------- search


def test_a_search_on_a_device_weighs_codings(small: QuantGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name every engine in the bitstream is coded that takes less so; the plan is legal and within the device's limits."""
    device = find_device("zcu102")
    goal = Goal(target_fps=20_000.0, weights="rom", weight_storage="codebook")
    found = search(small, goal, device)
    verify_plan(found.plan, small)
    assert set(kinds(found.plan).values()) == {"codebook"}
    assert set(kinds(search(small, replace(goal, weight_storage="dense"), device).plan).values()) == {"dense"}
    # Blocks of which there are hardly any: the search then takes codings by itself.
    monkeypatch.setattr(weight_choice, "LEAST_WORDS", 1)
    offered = storages(small, "auto")
    assert offered is not None
    engine = replace(plan_machine(small, 200.0, 20_000.0).stages[-2].engines[0], weight_storage="bram")
    plain, coded_engine = offered(engine)
    assert plain is engine and coded_engine.stored_weight_bits < engine.stored_weight_bits
    assert coded_engine.coding == with_coding(engine, kind_of(coded_engine), weights(small, engine.node)).coding
    assert offered(replace(engine, weight_storage="lut")) == (replace(engine, weight_storage="lut"),)


def test_weights_with_few_zeros_are_not_looked_at() -> None:
    plain = tiny(seed=3)
    offered = storages(plain, "auto")
    assert offered is not None
    engine = replace(plan_machine(plain, 200.0, 20_000.0).stages[-2].engines[0], weight_storage="bram")
    assert offered(engine) == (engine,)
    assert storages(plain, "dense") is None


@pytest.mark.slow
@pytest.mark.skipif(REAL_DATA is None, reason="needs FPGA_SQUEEZE_DATA")
def test_v1_0_fits_a_kv260s_blocks_in_sparse_memories_only(tmp_path: Path) -> None:
    """Published weights, in the bitstream: refused as they are, 0.70 MB at most with a bitmap."""
    model = Path(str(REAL_DATA)) / "squeezenet1_0_imagenet.pt"
    config = ExportConfig(device="kv260", weights="rom", clock_mhz=300.0)
    with pytest.raises(CheckFailedError, match="18 Kb blocks"):
        pipeline.export(model, tmp_path / "dense", "random", config)
    result = pipeline.export(model, tmp_path / "auto", "random", replace(config, weight_storage="auto"))
    assert result.budget.by_kind["weights"] <= 700_000
    default = pipeline.export(model, tmp_path / "default", "random", ExportConfig(weight_storage="auto"))
    assert default.budget.by_kind["weights"] <= 700_000
