"""The stream modules of the RTL library on both simulators, and their elaboration in yosys."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim import harness
from sim.elaborate import elaborate, require_yosys

Parameters = dict[str, int | str]


def lib(*names: str) -> list[Path]:
    """Library files by short name."""
    return [harness.LIB / f"fsq_{name}.sv" for name in names]


def fifo(depth: int, style: int) -> Parameters:
    """Parameters of fsq_fifo."""
    return {"WIDTH": 5, "DEPTH": depth, "STYLE": style}


def converter(channels: int, bits: int, in_lanes: int, out_lanes: int) -> Parameters:
    """Parameters of fsq_width_converter."""
    return {"CHANNELS": channels, "BITS": bits, "IN_LANES": in_lanes, "OUT_LANES": out_lanes}


def global_sum(*values: int) -> Parameters:
    """Parameters of fsq_global_sum in the order of its header."""
    return dict(zip(("CHANNELS", "LANES", "BITS", "SIGNED", "PIXELS", "SUM_BITS", "OUT_BITS"), values, strict=True))


def adder(*values: int) -> Parameters:
    """Parameters of fsq_adder in the order of its header."""
    names = ("LANES", "A_BITS", "A_SIGNED", "B_BITS", "B_SIGNED", "ALIGN_A", "ALIGN_B", "SHIFT", "OUT_BITS", "OUT_SIGNED")
    return dict(zip(names, values, strict=True))


def concat(*values: int) -> Parameters:
    """Parameters of fsq_concat_pack in the order of its header."""
    return dict(zip(("LANES", "BITS", "A_CHANNELS", "B_CHANNELS", "A_FIRST"), values, strict=True))


def topk(classes: int, sum_bits: int, index_bits: int, k: int) -> Parameters:
    """Parameters of fsq_topk."""
    return {"CLASSES": classes, "SUM_BITS": sum_bits, "INDEX_BITS": index_bits, "K": k}


FILES = {
    "fsq_fifo": lib("fifo"),
    "fsq_skid": lib("skid"),
    "fsq_width_converter": lib("width_converter"),
    "fsq_global_sum": lib("global_sum", "memory", "fifo", "width_converter"),
    "fsq_adder": lib("adder"),
    "fsq_concat_pack": lib("concat_pack"),
    "fsq_fork": lib("fork"),
    "fsq_topk": lib("topk"),
    "fsq_argmax": lib("argmax", "topk"),
    "fsq_frame_check": lib("frame_check"),
}

BENCHES = {
    "fsq_fifo": "sim.bench_fifo", "fsq_skid": "sim.bench_fifo", "fsq_width_converter": "sim.bench_width_converter",
    "fsq_global_sum": "sim.bench_global_sum", "fsq_adder": "sim.bench_adder", "fsq_fork": "sim.bench_fork",
    "fsq_concat_pack": "sim.bench_concat_pack",
    "fsq_topk": "sim.bench_argmax", "fsq_argmax": "sim.bench_argmax", "fsq_frame_check": "sim.bench_frame_check",
}  # fmt: skip

# The quick set runs on Icarus; one representative of each module also on Verilator.
CASES: list[tuple[str, Parameters]] = [
    ("fsq_fifo", {"WIDTH": 9, "DEPTH": 1}),
    ("fsq_fifo", {"WIDTH": 9, "DEPTH": 2}),
    ("fsq_fifo", {"WIDTH": 9, "DEPTH": 5}),
    ("fsq_fifo", {"WIDTH": 8, "DEPTH": 40}),
    ("fsq_fifo", {"WIDTH": 8, "DEPTH": 7, "STYLE": 2}),
    ("fsq_skid", {"WIDTH": 17}),
    ("fsq_width_converter", converter(12, 8, 4, 8)),
    ("fsq_width_converter", converter(12, 8, 8, 4)),
    ("fsq_width_converter", converter(7, 5, 2, 3)),
    ("fsq_width_converter", converter(7, 5, 3, 2)),
    ("fsq_width_converter", converter(13, 8, 6, 4)),
    ("fsq_width_converter", converter(5, 8, 4, 4)),
    ("fsq_width_converter", converter(3, 8, 4, 8)),
    ("fsq_global_sum", global_sum(10, 4, 8, 1, 9, 12, 32)),
    ("fsq_global_sum", global_sum(16, 4, 8, 0, 3, 11, 32)),
    ("fsq_global_sum", global_sum(5, 1, 4, 0, 1, 5, 5)),
    ("fsq_adder", adder(2, 8, 0, 8, 0, 0, 0, 1, 8, 0)),
    ("fsq_adder", adder(3, 8, 1, 8, 1, 0, 3, 2, 8, 1)),
    ("fsq_adder", adder(1, 8, 0, 8, 1, 0, 0, -2, 12, 0)),
    ("fsq_adder", adder(1, 8, 0, 8, 1, 0, 0, 12, 8, 1)),
    ("fsq_concat_pack", concat(4, 8, 8, 4, 1)),
    ("fsq_concat_pack", concat(4, 5, 7, 6, 0)),
    ("fsq_concat_pack", concat(3, 8, 4, 5, 1)),
    ("fsq_fork", {"WIDTH": 9}),
    ("fsq_topk", topk(10, 16, 16, 5)),
    ("fsq_topk", topk(5, 16, 3, 5)),
    ("fsq_argmax", {"CLASSES": 12, "SUM_BITS": 24, "INDEX_BITS": 4}),
    ("fsq_frame_check", {"WIDTH": 24, "BEATS": 20}),
]

VERILATOR_CASES = [
    ("fsq_fifo", {"WIDTH": 9, "DEPTH": 5}),
    ("fsq_width_converter", converter(7, 5, 3, 2)),
    ("fsq_global_sum", global_sum(10, 4, 8, 1, 9, 12, 32)),
    ("fsq_adder", adder(3, 8, 1, 8, 1, 0, 3, 2, 8, 1)),
    ("fsq_concat_pack", concat(4, 5, 7, 6, 0)),
    ("fsq_topk", topk(10, 16, 16, 5)),
]

SLOW_CASES: list[tuple[str, Parameters]] = [
    *[("fsq_fifo", fifo(depth, style)) for depth in (2, 3, 17, 18, 33) for style in (0, 1, 2)],
    *(
        ("fsq_width_converter", converter(*case))
        for case in [
            (16, 8, 4, 8), (16, 8, 8, 4), (64, 8, 16, 24), (48, 8, 16, 12), (10, 4, 1, 3), (10, 4, 4, 1), (4, 3, 2, 3), (3, 8, 5, 4), (1, 8, 1, 2),
            (9, 4, 7, 2), (9, 4, 2, 7), (20, 8, 5, 3), (64, 8, 6, 4), (11, 1, 3, 5),
        ]
    ),
    ("fsq_global_sum", global_sum(10, 2, 8, 0, 16, 13, 32)),
    ("fsq_global_sum", global_sum(7, 7, 8, 1, 20, 13, 16)),
    ("fsq_global_sum", global_sum(12, 4, 8, 0, 25, 14, 32)),
    ("fsq_global_sum", global_sum(9, 1, 8, 1, 4, 10, 32)),
    ("fsq_adder", adder(1, 8, 1, 8, 0, 2, 0, 3, 8, 0)),
    ("fsq_adder", adder(2, 4, 0, 6, 1, 0, 0, 0, 8, 1)),
    ("fsq_adder", adder(1, 5, 1, 5, 1, 0, 0, 1, 4, 0)),
    ("fsq_adder", adder(2, 16, 1, 16, 0, 1, 0, 5, 16, 1)),
    *(
        ("fsq_concat_pack", concat(*case))
        for case in [
            (1, 8, 3, 2, 0), (2, 8, 3, 3, 1), (2, 8, 3, 3, 0), (2, 4, 1, 1, 1), (5, 3, 2, 9, 1), (5, 3, 9, 2, 1), (8, 8, 3, 5, 0),
            (8, 8, 5, 4, 1), (6, 8, 6, 7, 0), (4, 8, 4, 8, 0),
        ]
    ),
    ("fsq_topk", topk(7, 20, 16, 1)),
    ("fsq_topk", topk(33, 32, 32, 3)),
    ("fsq_frame_check", {"WIDTH": 1, "BEATS": 7}),
]  # fmt: skip


def run(top: str, parameters: Parameters, simulator: str, seed: int) -> None:
    """Run the module's bench."""
    harness.require(simulator)
    harness.run_bench(top, FILES[top], BENCHES[top], parameters, simulator, seed=seed)


@pytest.mark.parametrize(("top", "parameters"), CASES, ids=str)
def test_module_on_icarus(top: str, parameters: Parameters) -> None:
    run(top, parameters, "icarus", 1)


@pytest.mark.parametrize(("top", "parameters"), VERILATOR_CASES, ids=str)
def test_module_on_verilator(top: str, parameters: Parameters) -> None:
    run(top, parameters, "verilator", 2)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", harness.SIMULATORS)
@pytest.mark.parametrize(("top", "parameters"), [*CASES, *SLOW_CASES], ids=str)
def test_every_configuration_on_both_simulators(top: str, parameters: Parameters, simulator: str) -> None:
    run(top, parameters, simulator, 3)


@pytest.mark.parametrize(("top", "parameters"), [*CASES, *SLOW_CASES], ids=str)
def test_elaborates_in_yosys(top: str, parameters: Parameters) -> None:
    require_yosys()
    elaborate(top, FILES[top], parameters)
