"""Packing of memories into blocks, and the rows of a whole machine."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import squeezenet, tiny

from fpga_squeeze.hardware.devices import find_device
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.memory import KINDS, memory_rows
from fpga_squeeze.hardware.packing import BRAM18_BITS, BRAM18_SHAPES, URAM_BITS, Packing, bram18_count, in_luts, lutram_count, pack
from fpga_squeeze.hardware.plan import ExpandStage
from fpga_squeeze.quantize.qgraph import QConv


def test_rom_that_yosys_maps_to_57_bram36() -> None:
    assert bram18_count(2048, 1024) == 2 * 57


@pytest.mark.parametrize(("depth", "width"), BRAM18_SHAPES)
def test_each_shape_is_one_block(depth: int, width: int) -> None:
    assert bram18_count(width, depth) == 1
    assert bram18_count(width, depth + 1, rom=False) == 2
    assert bram18_count(width + 1, depth) == 2


@given(st.integers(1, 3000), st.integers(1, 20000), st.booleans(), st.booleans(), st.sampled_from((4, 6)))
def test_packing_is_never_below_the_bits(width: int, depth: int, rom: bool, uram: bool, lut_inputs: int) -> None:
    p = pack(width, depth, rom=rom, uram_available=uram, lut_inputs=lut_inputs)
    bits = width * depth
    assert p.bram18 * BRAM18_BITS + p.uram * URAM_BITS + p.lutram_luts * (1 << lut_inputs) >= bits
    assert sum(n > 0 for n in (p.bram18, p.uram, p.lutram_luts)) == 1
    assert not (rom and p.uram) and (uram or not p.uram)
    if p.uram:
        assert 2 * bits >= p.uram * URAM_BITS
    if p.bram18:
        assert not in_luts(width, depth, lut_inputs)
        assert p.bram18 >= ceil(bits / BRAM18_BITS)


def test_lut_memories() -> None:
    assert lutram_count(14, 32, rom=False) == 8 and lutram_count(15, 32, rom=False) == 16
    assert lutram_count(7, 64, rom=False) == 8 and lutram_count(7, 65, rom=False) == 16
    assert lutram_count(4, 16, rom=False, lut_inputs=4) == 6 and lutram_count(4, 17, rom=True, lut_inputs=4) == 8
    assert pack(0, 16, rom=True) == pack(8, 0, rom=False) == Packing()


@pytest.mark.parametrize("fps", [50.0, 500.0, 4000.0])
def test_rows_of_squeezenet(fps: float) -> None:
    qgraph = squeezenet("1.1", 64)
    plan = plan_machine(qgraph, 200.0, fps)
    rows = memory_rows(plan, qgraph)
    assert len({r.name for r in rows}) == len(rows) and {r.kind for r in rows} == set(KINDS)
    weights = sum(n.op.weight.size * n.op.weight_bits for n in qgraph.nodes if isinstance(n.op, QConv))
    # Ceil folding pads the last fold of output channels: little, and never less than the weights themselves.
    assert weights <= sum(r.bits for r in rows if r.kind == "weights") < 1.02 * weights
    for row in rows:
        assert row.bits == row.width_bits * row.depth * row.banks and row.packing_loss_bits >= 0
        assert row.to_json()["bits"] == row.bits
    names = {r.name for r in rows}
    for node in qgraph.nodes:
        if isinstance(node.op, QConv):
            assert {f"{node.name}.weights", f"{node.name}.bias"} <= names
            assert (f"{node.name}.line_buffer" in names) == (node.op.kernel > 1)
    assert {f"{link.name}.fifo" for link in plan.links} <= names
    assert {f"{s.name}.e3_out" for s in plan.stages if isinstance(s, ExpandStage)} <= names


def test_line_buffer_holds_k_plus_stride_rows() -> None:
    qgraph = tiny()
    rows = {r.name: r for r in memory_rows(plan_machine(qgraph), qgraph)}
    assert rows["conv1.line_buffer"].bits == (3 + 2) * 16 * 3 * 8
    assert rows["fire2.expand1x1.pixel_buffer"].bits == 2 * 4 * 8
    assert rows["pool1.rows"].bits == 2 * 3 * 8 * 8
    assert rows["pool10.sums"].bits == 2 * 10 * 32


def test_device_changes_blocks_not_bits() -> None:
    qgraph = squeezenet("1.1", 64)
    plan = plan_machine(qgraph)
    base = memory_rows(plan, qgraph)
    for name in ("zcu104", "ulx3s", "pynq-z2"):
        rows = memory_rows(plan, qgraph, find_device(name))
        assert [(r.name, r.bits) for r in rows] == [(r.name, r.bits) for r in base]
        assert all(r.uram == 0 for r in rows if r.kind in ("weights", "bias") or name != "zcu104")
