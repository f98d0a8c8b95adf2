"""The resource model of coded weight memories against yosys: blocks equal, LUTs and flip-flops near."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.hardware.cost import Resources
from fpga_squeeze.hardware.cost_weights import decoder_resources, weight_memory_resources
from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.weight_storage import with_coding
from fpga_squeeze.synth import yosys
from fpga_squeeze.synth.units import Unit
from sim import harness
from sim.elaborate import require_yosys
from tests.test_rtl_weight_store import FEW, coded, lanes_of
from tests.test_weight_storage import layer

NEAR = 0.2
"""Multiplexers of more than 8 columns are estimated low ("deep" has 9: 16%); all others are within 15%."""
SLOW = pytest.mark.slow

CASES = [
    pytest.param(lanes_of(300, 16, 0.33), "sparse", "zcu102", id="sparse"),
    pytest.param(lanes_of(300, 16, 0.9, FEW), "codebook", "zcu102", id="codebook"),
    pytest.param(lanes_of(300, 16, 0.33, FEW), "sparse-codebook", "zcu102", id="both", marks=SLOW),
    pytest.param(lanes_of(2048, 32, 0.33), "sparse", "zcu102", id="deep", marks=SLOW),
    pytest.param(lanes_of(700, 12, 0.6), "sparse", "pynq-z2", id="7 series", marks=SLOW),
    pytest.param(lanes_of(600, 8, 1.0, tuple(range(-32, 32))), "codebook", "zcu102", id="64 entries", marks=SLOW),
]


def synthesised(lanes: Int64, kind: str, device: str, folder: Path) -> Resources:
    """fsq_weight_store of `lanes` on its own."""
    parameters, files, _ = coded(lanes, kind, 8)
    shutil.copytree(harness.LIB, folder / "lib")
    (folder / "weights").mkdir()
    for name, text in files.items():
        (folder / "weights" / name).write_text(text)
    parameters = {("FILE" if k == "WEIGHT_FILE" else k): v for k, v in parameters.items()} | {"LANES": lanes.shape[1], "DEPTH": lanes.shape[0], "STYLE": 2}
    listed = ", ".join(f".{k}({_literal(v)})" for k, v in parameters.items())
    top = (
        f"module unit(input wire clk, rst, valid, input wire [{(lanes.shape[0] - 1).bit_length() - 1}:0] addr, output wire ready, "
        f"output wire [{8 * lanes.shape[1] - 1}:0] word);\n"
        f"    fsq_weight_store #({listed}) store (.clk(clk), .rst(rst), .valid(valid), .addr(addr), .ready(ready), .word(word));\nendmodule\n"
    )
    found = find_device(device)
    assert found is not None
    unit = Unit("store", "stage", "unit", top, tuple(files), Resources())
    return yosys.run_unit(unit, folder, yosys.yosys_family(found), yosys.find_yosys())[0]


def _literal(value: object) -> str:
    if isinstance(value, str):
        return f'"weights/{value}"'
    assert isinstance(value, int)
    return f"{value.bit_length()}'h{value:x}" if value.bit_length() > 31 else str(value)


@pytest.mark.parametrize(("lanes", "kind", "device"), CASES)
def test_the_model_is_near_synthesis(lanes: Int64, kind: str, device: str, tmp_path: Path) -> None:
    require_yosys()
    engine, op = layer(lanes)
    engine = replace(with_coding(replace(engine, weight_storage="auto"), kind, op), weight_storage="bram")
    estimate, result = weight_memory_resources(engine, find_device(device)), synthesised(lanes, kind, device, tmp_path)
    assert (estimate.bram18, estimate.dsp, estimate.uram) == (result.bram18, 0, 0) and result.bram18 > 0
    assert abs(estimate.lut / result.lut - 1) <= NEAR, f"LUTs: {estimate.lut} estimated, {result.lut} synthesised"
    assert abs(estimate.ff / result.ff - 1) <= NEAR, f"flip-flops: {estimate.ff} estimated, {result.ff} synthesised"


def test_the_decoder_is_what_remains_without_memories() -> None:
    lanes = lanes_of(300, 16, 0.33, FEW)
    engine, op = layer(lanes)
    assert decoder_resources(engine, None) == Resources()
    for kind in ("codebook", "sparse", "sparse-codebook"):
        chosen = with_coding(replace(engine, weight_storage="bram"), kind, op)
        whole, decoder = weight_memory_resources(chosen, None), decoder_resources(chosen, None)
        assert decoder.bram18 == 0 and 0 < decoder.lut <= whole.lut and 0 < decoder.ff <= whole.ff
