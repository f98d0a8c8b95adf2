"""fsq_weight_store and engines with coded weights: every word at its time, bit for bit, in both simulators."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fpga_squeeze.emit.rtl_parameters import CODINGS
from fpga_squeeze.emit.weights import pack_fields, stored_rows
from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.engine import WeightCoding
from fpga_squeeze.hardware.weight_storage import coding_of
from sim import harness
from sim.conv_case import ConvCase, ConvSpec
from tests.test_rtl_mvu import SOURCES
from tests.test_weight_storage import layer

STORE = [harness.LIB / f"fsq_{name}.sv" for name in ("weight_store", "sparse_group", "codebook", "parameter_memory", "lut_rom", "memory")]
KINDS = ("codebook", "sparse", "sparse-codebook")


def lanes_of(words: int, lanes: int, keep: float, values: tuple[int, ...] = (), seed: int = 1) -> Int64:
    """int64 (words, lanes): a share `keep` of them not zero."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(np.array(values or [v for v in range(-128, 128) if v]), (words, lanes))
    return np.asarray(chosen * (rng.random((words, lanes)) < keep), dtype=np.int64)


def coded(lanes: Int64, kind: str, bits: int) -> tuple[dict[str, Any], dict[str, str], WeightCoding]:
    """Parameters and files of coded weights, of fsq_mvu and (but for WEIGHT_FILE) of fsq_weight_store."""
    engine, op = layer(lanes, bits)
    coding = coding_of(kind, engine, op)
    mask = (1 << bits) - 1
    table = sum((v & mask) << (i * bits) for i, v in enumerate(coding.codebook))
    parameters: dict[str, Any] = {"CODING": CODINGS[kind], "WEIGHT_FILE": "stored.hex"}
    if coding.codebook:
        parameters |= {"INDEX_BITS": coding.value_bits, "CODEBOOK": table}
    if coding.sparse:
        parameters |= {"GROUP": coding.group, "READ": coding.read, "COLUMNS": coding.columns, "VALUE_WORDS": coding.words, "VALUE_FILE": "values"}
    files = {}
    for stored in stored_rows(replace(engine, coding=coding), op):
        names = [f"values_{g:03d}.hex" for g in range(len(stored.memories))] if stored.kind == "values" else ["stored.hex"]
        files.update({name: "".join(f"{row:x}\n" for row in rows) for name, rows in zip(names, stored.memories, strict=True)})
    return parameters, files, coding


def run_store(lanes: Int64, kind: str, simulator: str, files: dict[str, str] | None = None, rounds: int = 3) -> harness.BenchResult:
    """The bench on `lanes`; `files` instead of the right ones."""
    parameters, own, coding = coded(lanes, kind, 8)
    parameters = {("FILE" if k == "WEIGHT_FILE" else k): v for k, v in parameters.items()}
    parameters |= {"LANES": lanes.shape[1], "DEPTH": lanes.shape[0], "BITS": 8}
    case = {"words": pack_fields(lanes, 8, "words"), "latency": 2 + coding.latency, "rounds": rounds}
    return harness.run_bench("fsq_weight_store", STORE, "sim.bench_weight_store", parameters, simulator, seed=1,
                             env={"FSQ_STORE": json.dumps(case)}, data=files or own)  # fmt: skip


FEW = (-90, -41, -3, 5, 60)
STORES = {
    "a third, groups of 8": (lanes_of(70, 24, 0.33), "sparse"),
    "two lanes that nothing reads": (lanes_of(33, 22, 0.5), "sparse"),
    "columns that are no power of two": (lanes_of(60, 6, 0.7), "sparse"),
    "one word": (lanes_of(1, 9, 0.5), "sparse"),
    "one lane": (lanes_of(40, 1, 0.4), "sparse"),
    "no zero": (lanes_of(20, 8, 1.0), "sparse"),
    "zeros only": (lanes_of(20, 8, 0.0), "sparse"),
    "bursts": (np.concatenate([lanes_of(20, 8, 1.0), lanes_of(60, 8, 0.05)]), "sparse"),
    "indices": (lanes_of(20, 5, 0.8, FEW), "codebook"),
    "two values": (lanes_of(9, 3, 1.0, (-128, 127)), "codebook"),
    "64 values": (lanes_of(40, 8, 1.0, tuple(range(-32, 32))), "codebook"),
    "indices of few": (lanes_of(50, 16, 0.3, FEW), "sparse-codebook"),
}


@pytest.mark.parametrize("name", STORES)
def test_every_word_comes_at_its_time(name: str) -> None:
    harness.require("icarus")
    lanes, kind = STORES[name]
    result = run_store(lanes, kind, "icarus")
    assert result.tests == 2
    assert result.measured("ready") <= 300


def test_a_deep_memory_on_verilator() -> None:
    """Longer than the columns hold: values are read while words go out, round after round."""
    harness.require("verilator")
    assert run_store(lanes_of(900, 12, 0.33), "sparse", "verilator").tests == 2


@pytest.mark.parametrize(("kind", "name", "bit"), [
    ("codebook", "stored.hex", 1), ("sparse", "values_000.hex", 3), ("sparse", "values_001.hex", 0), ("sparse-codebook", "values_000.hex", 0),
])  # fmt: skip
def test_one_flipped_stored_bit_is_noticed(kind: str, name: str, bit: int) -> None:
    harness.require("icarus")
    lanes = lanes_of(40, 16, 0.4, FEW)
    files = coded(lanes, kind, 8)[1]
    rows = files[name].split()
    rows[len(rows) // 2] = f"{int(rows[len(rows) // 2], 16) ^ (1 << bit):x}"
    with pytest.raises(harness.SimulationError, match="was expected"):
        run_store(lanes, kind, "icarus", files | {name: "\n".join(rows) + "\n"})


def test_one_flipped_bit_of_the_bitmap_is_noticed() -> None:
    harness.require("icarus")
    lanes = lanes_of(40, 16, 0.4)
    files = coded(lanes, "sparse", 8)[1]
    first, rest = files["stored.hex"].split("\n", 1)
    with pytest.raises(harness.SimulationError, match=r"was expected|is empty"):
        run_store(lanes, "sparse", "icarus", files | {"stored.hex": f"{int(first, 16) ^ 1:x}\n{rest}"})


def test_a_memory_read_too_slowly_is_fatal() -> None:
    """The columns run empty when fewer values are read than words take: the module says so instead of sending stale ones."""
    harness.require("icarus")
    lanes = np.full((400, 8), 3, dtype=np.int64)
    parameters, files, coding = coded(lanes, "sparse", 8)
    assert (coding.groups, coding.read) == (2, 4)
    slow = {f"values_{g:03d}.hex": "0303\n" * 800 for g in range(2)}
    parameters = {("FILE" if k == "WEIGHT_FILE" else k): v for k, v in parameters.items()} | {"READ": 2, "VALUE_WORDS": 800}
    case = {"words": pack_fields(lanes, 8, "words"), "latency": 5, "rounds": 1}
    with pytest.raises(harness.SimulationError, match="is empty, READ=2 is too few"):
        harness.run_bench("fsq_weight_store", STORE, "sim.bench_weight_store", parameters | {"LANES": 8, "DEPTH": 400, "BITS": 8}, "icarus", seed=1,
                          env={"FSQ_STORE": json.dumps(case)}, data=files | slow)  # fmt: skip


NONE = (0, 0, 0, 0)
ENGINES = {
    "taps and channels": (ConvSpec((4, 4), (3, 4), 3, 1, (1, 1, 1, 1), (2, 3, 9), keep=0.4), "sparse"),
    "no fold": (ConvSpec((4, 4), (7, 3), 1, 1, NONE, (3, 7, 1), keep=0.5), "sparse"),
    "channels packed": (ConvSpec((4, 4), (18, 6), 1, 1, NONE, (4, 9, 1), pack=1, pack_shift=19, keep=0.35), "sparse"),
    "pixels packed": (ConvSpec((4, 4), (9, 4), 1, 1, NONE, (3, 9, 1), p_px=2, pack=2, pack_shift=18, keep=0.35, step=32), "sparse-codebook"),
    "16-bit weights": (ConvSpec((4, 4), (5, 4), 1, 1, NONE, (2, 5, 1), weight_bits=16, act_bits=16, act_signed=True, keep=0.5), "sparse"),
    "channels packed, indices": (ConvSpec((4, 4), (6, 9), 1, 1, NONE, (5, 3, 1), pack=1, pack_shift=19, step=32), "codebook"),
    "4-bit weights": (ConvSpec((4, 4), (6, 5), 1, 1, NONE, (2, 2, 1), weight_bits=4, step=4), "codebook"),
}


def run_engine(spec: ConvSpec, kind: str, simulator: str, flip: str = "") -> harness.BenchResult:
    """fsq_mvu with the weights of `spec` coded; `flip`: a file of which one bit is wrong."""
    case = ConvCase(spec)
    width = spec.fold[0] * spec.fold[1] * spec.fold[2]
    mask = (1 << spec.weight_bits) - 1
    words = [[word >> (i * spec.weight_bits) & mask for i in range(width)] for word in case.weight_words()]
    lanes = np.array(words, dtype=np.int64)
    lanes = np.where(lanes > mask >> 1, lanes - mask - 1, lanes)
    parameters, files, _ = coded(lanes, kind, spec.weight_bits)
    if flip:
        first, rest = files[flip].split("\n", 1)
        files[flip] = f"{int(first, 16) ^ (1 << (spec.weight_bits - 1)):x}\n{rest}"
    others = {name: text for name, text in case.files().items() if name != "weights.hex"}
    return harness.run_bench("fsq_mvu", SOURCES, "sim.bench_mvu", case.mvu_parameters() | parameters, simulator, seed=spec.seed,
                             env={"FSQ_CASE": spec.to_json()}, data=others | files)  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_bit_exact(name: str) -> None:
    harness.require("icarus")
    spec, kind = ENGINES[name]
    result = run_engine(spec, kind, "icarus")
    assert result.tests == 4
    assert result.measured("bubbles") == 0


def test_a_wrong_stored_value_reaches_the_results() -> None:
    harness.require("icarus")
    spec, kind = ENGINES["no fold"]
    with pytest.raises(harness.SimulationError, match="was expected"):
        run_engine(spec, kind, "icarus", flip="values_000.hex")
