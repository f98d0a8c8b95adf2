"""fsq_conv_engine against the reference simulator: folds, strides, pads, odd sizes, stalls, frames back to back, reset; in both simulators."""

from __future__ import annotations

import random

import pytest

from sim import harness
from sim.conv_case import ConvCase, ConvSpec

NAMES = ("conv_engine", "line_buffer", "pixel_buffer", "mvu", "mvu_dot", "requantize", "fifo")
SOURCES = [harness.LIB / f"fsq_{name}.sv" for name in NAMES]

CASES = {
    "conv1 of v1.1 in small": ConvSpec((16, 16), (3, 8), 3, 2, (0, 0, 0, 0), (4, 3, 9), pad_values=True),
    "conv1 of v1.0 in small": ConvSpec((19, 17), (3, 4), 7, 2, (0, 0, 0, 0), (2, 3, 7)),
    "squeeze": ConvSpec((6, 5), (8, 4), 1, 1, (0, 0, 0, 0), (2, 4, 1)),
    "expand, folds that do not divide": ConvSpec((5, 6), (5, 5), 3, 1, (1, 1, 1, 1), (2, 3, 3), pad_values=True),
    "conv10 with padding": ConvSpec((4, 5), (4, 5), 1, 1, (1, 1, 1, 1), (5, 2, 1), out_signed=True),
    "4-bit weights, 12-bit activations": ConvSpec((5, 4), (3, 3), 2, 1, (1, 0, 0, 1), (3, 3, 4), weight_bits=4, act_bits=12, act_signed=True),
}


def run(spec: ConvSpec, simulator: str, **env: str) -> harness.BenchResult:
    """The conv bench on `spec`."""
    case = ConvCase(spec)
    return harness.run_bench(
        "fsq_conv_engine", SOURCES, "sim.bench_conv", case.engine_parameters(), simulator,
        seed=spec.seed, env={"FSQ_CASE": spec.to_json(), **env}, data=case.files(),
    )  # fmt: skip


def random_spec(seed: int) -> ConvSpec:
    """Any legal small convolution: kernel 1 to 7, stride 1 to 4, any pads up to one beyond the kernel, any widths and folds."""
    rng = random.Random(seed)
    while True:
        k, stride = rng.choice([1, 2, 3, 3, 4, 5, 7]), rng.randint(1, 4)
        pads = (rng.randint(0, k), rng.randint(0, k), rng.randint(0, k), rng.randint(0, k))
        size = (rng.randint(1, 9), rng.randint(1, 9))
        ic, oc = rng.randint(1, 5), rng.randint(1, 5)
        spec = ConvSpec(
            size, (ic, oc), k, stride, pads, (rng.randint(1, oc), rng.randint(1, ic), rng.choice([1, k, k * k])),
            weight_bits=rng.choice([2, 4, 8, 8, 12, 16]), act_bits=rng.choice([4, 8, 8, 12, 16]), act_signed=rng.random() < 0.4,
            out_bits=rng.choice([4, 8, 16]), out_signed=rng.random() < 0.4, shift=rng.choice([None, None, (-3, 2), (0, 0), (-5, -2)]),
            pad_values=rng.random() < 0.5, seed=seed,
        )  # fmt: skip
        reach = [(o - 1) * stride - p + k for o, p in zip(spec.out_size, pads, strict=False)]
        if min(spec.out_size) >= 1 and min(reach) >= 1 and spec.cycles <= 900:
            return spec


@pytest.mark.parametrize("name", CASES)
def test_bit_exact(name: str) -> None:
    harness.require("icarus")
    assert run(CASES[name], "icarus").tests == 3


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_convolutions(seed: int) -> None:
    harness.require("icarus")
    run(random_spec(seed), "icarus", FSQ_STALLS="half/half none/late bursts/bursts")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 280))
def test_many_random_convolutions(seed: int) -> None:
    harness.require("icarus")
    run(random_spec(seed), "icarus", FSQ_STALLS="half/half none/late bursts/bursts once/heavy heavy/once")


def test_no_bubble_between_frames() -> None:
    """Engine-bound and input-bound layers, padded and not, with as little slack as there is."""
    harness.require("icarus")
    specs = [
        ConvSpec((12, 12), (2, 4), 3, 1, (1, 1, 1, 1), (4, 2, 9)),
        ConvSpec((12, 12), (4, 4), 3, 1, (1, 1, 1, 1), (2, 2, 9)),
        ConvSpec((13, 13), (2, 4), 3, 2, (0, 0, 0, 0), (1, 2, 9)),
        ConvSpec((6, 6), (4, 4), 1, 1, (0, 0, 0, 0), (4, 4, 1)),
    ]
    for spec in specs:
        assert run(spec, "icarus").measured("ratio") <= 1.01, spec


@pytest.mark.parametrize("name", ["conv1 of v1.1 in small", "squeeze"])
def test_on_verilator(name: str) -> None:
    harness.require("verilator")
    assert run(CASES[name], "verilator").tests == 3


def test_an_illegal_fold_is_refused() -> None:
    harness.require("icarus")
    spec = CASES["expand, folds that do not divide"]
    case = ConvCase(spec)
    parameters = {**case.engine_parameters(), "P_K": 2}
    with pytest.raises(harness.SimulationError, match="P_K=2, 1, K or K\\*K was expected"):
        harness.run_bench("fsq_conv_engine", SOURCES, "sim.bench_conv", parameters, "icarus", seed=1, env={"FSQ_CASE": spec.to_json()}, data=case.files())
