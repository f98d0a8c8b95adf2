"""fsq_conv_engine against the reference simulator: folds, strides, pads, odd sizes, stalls, frames back to back, reset; in both simulators."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sim import elaborate, harness
from sim.conv_case import ConvCase, ConvSpec

MVU = (
    "mvu", "mvu_dot", "mvu_pair", "adder_tree", "parameter_memory", "lut_rom", "memory", "requantize", "fifo",
    "weight_store", "sparse_group", "codebook",
)  # fmt: skip
SOURCES = [harness.LIB / f"fsq_{name}.sv" for name in ("conv_engine", "line_buffer", "pixel_buffer", "pixel_order", *MVU)]

CASES = {
    "conv1 of v1.1 in small": ConvSpec((16, 16), (3, 8), 3, 2, (0, 0, 0, 0), (4, 3, 9), pad_values=True),
    "conv1 of v1.0 in small": ConvSpec((19, 17), (3, 4), 7, 2, (0, 0, 0, 0), (2, 3, 7)),
    "squeeze": ConvSpec((6, 5), (8, 4), 1, 1, (0, 0, 0, 0), (2, 4, 1)),
    "expand, folds that do not divide": ConvSpec((5, 6), (5, 5), 3, 1, (1, 1, 1, 1), (2, 3, 3), pad_values=True),
    "conv10 with padding": ConvSpec((4, 5), (4, 5), 1, 1, (1, 1, 1, 1), (5, 2, 1), out_signed=True),
    "two pixels, an odd number of them": ConvSpec((5, 5), (4, 6), 3, 1, (1, 1, 1, 1), (2, 2, 9), p_px=2, pad_values=True),
    "three pixels, strided": ConvSpec((11, 9), (3, 4), 3, 2, (0, 0, 0, 0), (2, 3, 3), p_px=3),
    "two pixels of a squeeze, packed": ConvSpec((5, 5), (6, 4), 1, 1, (0, 0, 0, 0), (2, 3, 1), p_px=2, pack=2),
    "four pixels, a tap at a time": ConvSpec((5, 6), (2, 3), 3, 1, (1, 1, 1, 1), (3, 2, 1), p_px=4, act_bits=5, act_signed=True),
    "channels packed": ConvSpec((5, 5), (4, 5), 3, 1, (1, 1, 1, 1), (3, 4, 3), pack=1, pack_shift=19),
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
            pad_values=rng.random() < 0.5, seed=seed, p_px=rng.choice([1, 1, 2, 3]), pack=rng.choice([0, 0, 1, 2]), pack_shift=rng.choice([10, 17, 19]),
        )  # fmt: skip
        if spec.act_signed or max(spec.weight_bits, spec.act_bits) > 8:
            spec = replace(spec, pack=0)
        spec = replace(spec, p_px=min(spec.p_px, max(1, spec.out_size[1])))
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
        ConvSpec((12, 12), (4, 4), 3, 1, (1, 1, 1, 1), (2, 2, 9), p_px=2),
        ConvSpec((13, 13), (2, 4), 3, 2, (0, 0, 0, 0), (1, 1, 3), p_px=3),
        ConvSpec((6, 6), (4, 4), 1, 1, (0, 0, 0, 0), (2, 4, 1), p_px=2),
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


def _wrapped(case: ConvCase, folder: Path) -> list[Path]:
    """Memory files, and a top module `wrapped` that names them by their full path: a wrapper is how file names reach yosys."""
    for name, text in case.files().items():
        (folder / name).write_text(text)
    parameters = {n: harness.parameter_literal(v) for n, v in case.engine_parameters().items()}
    parameters |= {f"{kind}_FILE": f'"{folder / name}.hex"' for kind, name in (("WEIGHT", "weights"), ("BIAS", "bias"), ("SHIFT", "shift"))}
    in_bits, out_bits = case.spec.fold[1] * case.spec.act_bits, case.spec.fold[0] * case.spec.out_bits
    ports = [
        "input wire clk", "input wire rst", f"input wire [{in_bits - 1}:0] s_axis_tdata", "input wire s_axis_tvalid", "output wire s_axis_tready",
        f"output wire [{out_bits - 1}:0] m_axis_tdata", "output wire m_axis_tvalid", "input wire m_axis_tready", "output wire [15:0] high_water",
        "input wire [114:0] load_bus",
    ]  # fmt: skip
    settings = ", ".join(f".{n}({v})" for n, v in parameters.items())
    wires = ", ".join(f".{port.split()[-1]}({port.split()[-1]})" for port in ports)
    wrapper = folder / "wrapped.sv"
    wrapper.write_text(f"module wrapped ({', '.join(ports)});\nfsq_conv_engine #({settings}) engine ({wires});\nendmodule\n")
    return [*SOURCES, wrapper]


@pytest.mark.parametrize("name", ["conv1 of v1.1 in small", "squeeze", "expand, folds that do not divide"])
def test_yosys_elaborates_cleanly(name: str, tmp_path: Path) -> None:
    elaborate.require_yosys()
    log = elaborate.elaborate("wrapped", _wrapped(ConvCase(CASES[name]), tmp_path), {})
    # The only remark expected: the three beats of a short FIFO are made of registers, bias ROMs of logic.
    assert not [line for line in log.splitlines() if "Warning" in line and "Replacing memory" not in line]


def test_yosys_misses_no_weight_file(tmp_path: Path) -> None:
    elaborate.require_yosys()
    sources = _wrapped(ConvCase(CASES["squeeze"]), tmp_path)
    (tmp_path / "weights.hex").unlink()
    with pytest.raises(harness.SimulationError, match=r"weights\.hex"):
        elaborate.elaborate("wrapped", sources, {})


def test_gate_level_netlist_is_bit_exact(tmp_path: Path) -> None:
    """After synth_xilinx: the netlist of the whole engine in place of its sources."""
    harness.require("icarus")
    elaborate.require_yosys()
    spec = ConvSpec((4, 4), (2, 3), 3, 1, (1, 1, 1, 1), (2, 2, 3), weight_bits=4, act_bits=4, out_bits=5, pad_values=True)
    case = ConvCase(spec)
    netlist = tmp_path / "netlist.v"
    script = elaborate.read_commands(_wrapped(case, tmp_path), "wrapped", {})
    script += f"synth_xilinx -family xcup -nobram -noiopad -noclkbuf -nodsp -flatten\nwrite_verilog -noattr {netlist}\n"
    elaborate.yosys(script)
    env = {"FSQ_CASE": spec.to_json(), "FSQ_STALLS": "half/half", "FSQ_FRAMES": "2"}
    result = harness.run_bench("wrapped", [netlist, _cell_models()], "sim.bench_conv", {}, "icarus", seed=1, env=env, timeout_s=300)
    assert result.tests == 3


def _cell_models() -> Path:
    """yosys' own models of the Xilinx cells."""
    spec = importlib.util.find_spec("pyosys")
    assert spec is not None and spec.origin is not None
    found = sorted(Path(spec.origin).parent.rglob("xilinx/cells_sim.v"))
    assert found, "pyosys carries no xilinx/cells_sim.v"
    return found[0]
