"""The RTL emitter: what is written, that it is the plan's machine, that it elaborates; the golden streams of the simulation."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from array import array
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.emit.golden import golden_file
from fpga_squeeze.emit.rtl import RtlOptions, emit_rtl
from fpga_squeeze.emit.weights import weight_lanes
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import ExpandStage, FoldPlan
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from sim import elaborate
from tests.machines import squeezenet, tiny
from tests.rtl_machines import write

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def small() -> tuple[QuantGraph, FoldPlan]:
    qgraph = tiny(seed=2)
    return qgraph, plan_machine(qgraph, 200.0, 400_000.0)


@pytest.fixture(scope="module")
def streams() -> ModuleType:
    """templates/sim/streams.py, as a module."""
    spec = importlib.util.spec_from_file_location("fsq_streams", ROOT / "templates" / "sim" / "streams.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fsq_streams"] = module
    spec.loader.exec_module(module)
    return module


def test_same_input_same_bytes_and_no_dates_or_paths(small: tuple[QuantGraph, FoldPlan]) -> None:
    files = emit_rtl(*small)
    assert files == emit_rtl(*small)
    assert list(files) == sorted(files)
    for name, content in files.items():
        assert not re.search(rb"20[2-9]\d-\d\d|/home/|/tmp/|/work", content), name


def test_one_file_a_stage_and_all_of_them_listed(small: tuple[QuantGraph, FoldPlan]) -> None:
    files = emit_rtl(*small)
    listed = files["rtl/files.f"].decode().split()
    assert sorted(f"rtl/{name}" for name in listed) == sorted(n for n in files if n.startswith("rtl/") and n.endswith(".sv"))
    for stage in ("conv1", "pool1", "fire2_squeeze", "fire2_expand", "conv10", "pool10", "squeezenet"):
        assert f"module {stage}" in files[f"rtl/{stage}.sv"].decode()
        assert "configuration" in files[f"rtl/{stage}.sv"].decode().splitlines()[0]
    assert {"sim/Makefile", "sim/run.py", "sim/streams.py", "sim/test_squeezenet.py", "sim/tb_squeezenet.sv", "sim/network.json"} <= set(files)


def test_memories_hold_the_packed_weights(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, plan = small
    files = emit_rtl(qgraph, plan)
    memories = {m["file"]: m for m in json.loads(files["sim/network.json"])["memories"]}
    assert {f"rtl/weights/{name}" for name in memories} == {n for n in files if n.endswith(".hex")}
    for stage in plan.stages:
        for engine in stage.engines:
            op = qgraph[engine.node].op
            assert isinstance(op, QConv)
            name = engine.node.replace(".", "_")
            rows = files[f"rtl/weights/{name}_weights.hex"].decode().split()
            assert len(rows) == engine.weight_depth == memories[f"{name}_weights.hex"]["rows"]
            mask = (1 << engine.weight_bits) - 1
            for row, lanes in zip(rows, weight_lanes(engine, op), strict=True):
                assert len(row) == -(-engine.weight_word_bits // 4)
                assert [int(row, 16) >> (i * engine.weight_bits) & mask for i in range(len(lanes))] == [int(v) & mask for v in lanes]
            biases = files[f"rtl/weights/{name}_bias.hex"].decode().split()
            low = [int(row, 16) & ((1 << engine.bias_bits) - 1) for row in biases]
            assert low == [int(v) & ((1 << engine.bias_bits) - 1) for v in op.bias[:: engine.fold.p_oc]]


def test_every_memory_a_stage_reads_is_written(small: tuple[QuantGraph, FoldPlan]) -> None:
    files = emit_rtl(*small)
    read = {m for n, c in files.items() if re.fullmatch(r"rtl/\w+\.sv", n) for m in re.findall(r'\{WEIGHTS, "([^"]+)"\}', c.decode())}
    assert {f"rtl/weights/{name}" for name in read} == {n for n in files if n.endswith(".hex")}


def test_one_shift_for_all_channels_needs_no_shift_memory(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, _ = small
    node = qgraph["conv10"]
    assert isinstance(node.op, QConv)
    equal = replace(node, op=replace(node.op, shift=np.full_like(node.op.shift, 5)))
    changed = QuantGraph(tuple(equal if n.name == "conv10" else n for n in qgraph.nodes), qgraph.output)
    files = emit_rtl(changed, plan_machine(changed, 200.0, 400_000.0))
    assert "rtl/weights/conv10_shift.hex" not in files
    assert ".SHIFT_MIN(5)" in files["rtl/conv10.sv"].decode()


def test_options_are_checked(small: tuple[QuantGraph, FoldPlan]) -> None:
    with pytest.raises(InputError, match="no usable identifier"):
        emit_rtl(*small, RtlOptions(top="my-net"))
    with pytest.raises(InputError, match="begins like a library module"):
        emit_rtl(*small, RtlOptions(top="fsq_net"))
    with pytest.raises(InputError, match="1 to 10 classes"):
        emit_rtl(*small, RtlOptions(top_k=11))
    files = emit_rtl(*small, RtlOptions(top="net", top_k=2, part="xc7z020clg400-1"))
    assert "module net #" in files["rtl/net.sv"].decode() and "fsq_topk" in files["rtl/net.sv"].decode()
    assert "set part xc7z020clg400-1" in files["rtl/build_vivado.tcl"].decode()


def test_a_plan_of_another_network_is_refused(small: tuple[QuantGraph, FoldPlan]) -> None:
    qgraph, plan = small
    node = qgraph["conv10"]
    fewer = QuantGraph(tuple(replace(n, name="other") if n is node else n for n in qgraph.nodes), qgraph.output)
    with pytest.raises(InputError, match="conv10"):
        emit_rtl(fewer, plan)
    stages = tuple(
        replace(s, expand3x3=replace(s.expand3x3, pad_value=(1,) * len(s.expand3x3.pad_value))) if isinstance(s, ExpandStage) else s for s in plan.stages
    )
    with pytest.raises(InputError, match="pads with zeros only"):
        emit_rtl(qgraph, replace(plan, stages=stages))


@pytest.mark.parametrize("top_k", [0, 3])
def test_yosys_elaborates_every_emitted_file(small: tuple[QuantGraph, FoldPlan], tmp_path: Path, top_k: int) -> None:
    """No implicit wire, no missing memory, no undriven or doubly driven net in the whole machine."""
    elaborate.require_yosys()
    out = write(tmp_path, *small, RtlOptions(top_k=top_k)) / "rtl"
    sources = [out / name for name in (out / "files.f").read_text().split()]
    log = elaborate.elaborate("squeezenet", sources, {"WEIGHTS": f"{out}/weights/"})
    assert "fire2_expand" in log


def test_yosys_refuses_a_missing_memory(small: tuple[QuantGraph, FoldPlan], tmp_path: Path) -> None:
    elaborate.require_yosys()
    out = write(tmp_path, *small) / "rtl"
    (out / "weights" / "conv1_bias.hex").unlink()
    sources = [out / name for name in (out / "files.f").read_text().split()]
    with pytest.raises(AssertionError, match=r"conv1_bias\.hex"):
        elaborate.elaborate("squeezenet", sources, {"WEIGHTS": f"{out}/weights/"})


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_full_networks_emit(version: str) -> None:
    qgraph = squeezenet(version, 227 if version == "1.0" else 224)
    files = emit_rtl(qgraph, plan_machine(qgraph, 200.0, 500.0))
    bits = sum(m["rows"] * m["digits"] * 4 for m in json.loads(files["sim/network.json"])["memories"])
    weights = sum(n.op.weight.size for n in qgraph.nodes if isinstance(n.op, QConv))
    assert 8 * weights <= bits <= 8.5 * weights


@given(
    channels=st.integers(1, 7), height=st.integers(1, 3), width=st.integers(1, 3), lanes=st.integers(1, 8),
    bits=st.integers(2, 20), signed=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_stream_text_is_the_tensor_in_stream_order(
    streams: ModuleType, tmp_path_factory: pytest.TempPathFactory, channels: int, height: int, width: int, lanes: int, bits: int, signed: bool, seed: int
) -> None:
    fmt = TensorFormat(bits, 0, signed)
    tensor = np.random.default_rng(seed).integers(fmt.qmin, fmt.qmax + 1, (2, channels, height, width))
    path = tmp_path_factory.mktemp("golden") / "t.bin"
    path.write_bytes(golden_file(tensor, fmt))
    frames, values = streams.read_tensor(path, [channels, height, width])
    lines = streams.stream_text(values, [channels, height, width], lanes, bits, frames).split()
    assert len(lines) == 2 * streams.beats_a_frame([channels, height, width], lanes)
    seen = np.zeros_like(tensor)
    for beat, line in enumerate(lines):
        word = f"{int(line, 16):0{lanes * bits}b}"
        for lane, value in enumerate(streams.lane_values(word, lanes, bits, signed)):
            at = streams.place(beat, lane, [channels, height, width], lanes)
            if at["channel"] < channels:
                seen[at["frame"], at["channel"], at["y"], at["x"]] = value
            else:
                assert value == 0
    assert np.array_equal(seen, tensor)
    assert streams.values_in(len(lines), [channels, height, width], lanes) == tensor.size


def test_unknown_bits_and_best_classes(streams: ModuleType, tmp_path: Path) -> None:
    assert streams.lane_values("x1010001", 2, 4, True) == [1, None]
    assert streams.best(array("i", [5, 9, 9, -1]), 3) == [(1, 9), (2, 9), (0, 5)]
    (tmp_path / "short.bin").write_bytes(b"FSQTENS1")
    with pytest.raises(streams.DataError, match="no golden tensor"):
        streams.read_tensor(tmp_path / "short.bin", [1, 1, 1])
    with pytest.raises(streams.DataError, match="cannot be read"):
        streams.read_tensor(tmp_path / "none.bin", [1, 1, 1])
