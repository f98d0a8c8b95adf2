"""fsq_expand: Fire's expand pair against the reference simulator; no bubble when everything is balanced; FIFO depths that are really needed."""

from __future__ import annotations

import pytest

from sim import harness
from sim.conv_case import ConvCase, ConvSpec

MVU = (
    "mvu", "mvu_dot", "mvu_pair", "adder_tree", "parameter_memory", "lut_rom", "memory", "requantize", "fifo",
    "weight_store", "sparse_group", "codebook",
)  # fmt: skip
SOURCES = [harness.LIB / f"fsq_{name}.sv" for name in ("expand", "concat", "width_converter", "line_buffer", "pixel_buffer", "pixel_order", *MVU)]
Fold = tuple[int, int, int]


def run_expand(
    channels: tuple[int, int, int], e1: Fold, e3: Fold, lanes: int, simulator: str = "icarus", *,
    size: tuple[int, int] = (4, 5), kernel: int = 3, stalls: str = "half/half none/heavy", depths: dict[str, int] | None = None,
    only: str | None = None, **bits: int,
) -> harness.BenchResult:  # fmt: skip
    """`channels`: input, 1x1 output, KxK output. `only`: the one cocotb test to run."""
    ic, oc1, oc3 = channels
    case1 = ConvCase(ConvSpec(size, (ic, oc1), 1, 1, (0, 0, 0, 0), e1, seed=1, **bits))  # type: ignore[arg-type]
    case3 = ConvCase(ConvSpec(size, (ic, oc3), kernel, 1, (kernel // 2,) * 4, e3, seed=2, **bits))  # type: ignore[arg-type]
    spec = case3.spec
    parameters = {
        "IH": size[0], "IW": size[1], "IC": ic, "K": kernel, "E1_OC": oc1, "E3_OC": oc3, "OUT_LANES": lanes, "E1_P_IC": e1[1],
        "E3_P_IC": e3[1], "E3_P_K": e3[2], "CENTRE_DEPTH": max(2, spec.ic_folds), "ACT_BITS": spec.act_bits, "OUT_BITS": spec.out_bits,
        "P_PX": spec.p_px,
    }  # fmt: skip
    for prefix, case in (("E1", case1), ("E3", case3)):
        numbers = case.numbers()
        parameters |= {f"{prefix}_{n}": numbers[n] for n in ("WEIGHT_BITS", "ACC_BITS", "BIAS_BITS", "SHIFT_MIN", "SHIFT_MAX", "P_OC", "PACK", "PACK_SHIFT")}
    env = {"FSQ_E1": case1.spec.to_json(), "FSQ_E3": case3.spec.to_json(), "FSQ_STALLS": stalls, "FSQ_FRAMES": "6"}
    data = {**case1.files("e1_"), **case3.files("e3_")}
    return harness.run_bench("fsq_expand", SOURCES, "sim.bench_expand", {**parameters, **(depths or {})}, simulator, seed=3, env=env, data=data, testcase=only)


@pytest.mark.parametrize("channels, e1, e3, lanes", [
    ((4, 4, 4), (2, 2, 1), (2, 2, 1), 2),
    ((4, 4, 6), (4, 1, 1), (3, 4, 3), 4),
    ((5, 4, 4), (1, 3, 1), (2, 3, 9), 1),
])  # fmt: skip
def test_bit_exact(channels: tuple[int, int, int], e1: Fold, e3: Fold, lanes: int) -> None:
    harness.require("icarus")
    result = run_expand(channels, e1, e3, lanes)
    assert result.tests == 3
    assert result.measured("ratio") <= 1.01


def test_no_bubble_when_both_engines_and_the_output_are_equally_slow() -> None:
    harness.require("icarus")
    result = run_expand((8, 8, 8), (1, 8, 1), (2, 4, 9), 2, stalls="light/light")
    assert result.measured("interval") == 160
    assert result.measured("e1_high_water") <= 4
    assert result.measured("e3_high_water") <= 8


def test_a_fifo_too_shallow_costs_throughput_but_never_deadlocks() -> None:
    harness.require("icarus")
    result = run_expand((8, 8, 8), (1, 8, 1), (2, 4, 9), 2, stalls="light/light", depths={"E1_DEPTH": 1, "E3_DEPTH": 1, "CENTRE_DEPTH": 1})
    assert result.measured("ratio") > 1.05


@pytest.mark.parametrize("channels, e1, e3, lanes, more", [
    ((4, 4, 4), (1, 2, 1), (1, 4, 9), 2, {"p_px": 2}),
    ((4, 4, 6), (2, 1, 1), (2, 2, 3), 2, {"p_px": 3}),
    ((6, 4, 4), (2, 3, 1), (2, 3, 9), 4, {"p_px": 2, "pack": 2, "pack_shift": 18}),
    ((6, 4, 4), (2, 3, 1), (2, 3, 3), 4, {"pack": 1, "pack_shift": 17}),
])  # fmt: skip
def test_several_pixels_and_packing(channels: tuple[int, int, int], e1: Fold, e3: Fold, lanes: int, more: dict[str, int]) -> None:
    harness.require("icarus")
    result = run_expand(channels, e1, e3, lanes, size=(5, 5), **more)
    assert result.tests == 3
    assert result.measured("ratio") <= 1.01


def test_5x5_and_wide_numbers() -> None:
    harness.require("icarus")
    run_expand((2, 2, 2), (1, 1, 1), (2, 2, 5), 1, size=(3, 4), kernel=5, weight_bits=5, act_bits=12, out_bits=10)


def test_on_verilator() -> None:
    harness.require("verilator")
    assert run_expand((4, 4, 4), (2, 2, 1), (2, 2, 9), 2, "verilator").tests == 3
