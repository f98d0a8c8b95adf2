"""Emission of HLS sources and golden data: names, determinism, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hls_cases import NetBuilder, frames_for, hand_plan, traces_for
from jinja2 import UndefinedError

from fpga_squeeze.emit.golden import golden_file, golden_files, read_golden_file
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.hls_types import HlsOptions
from fpga_squeeze.emit.render import render
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph


def small(seed: int = 1) -> tuple[QuantGraph, FoldPlan]:
    net = NetBuilder(seed)
    x = net.conv("conv1", net.image(3, 9, 9), 4, 3, 2)
    x = net.fire("fire2", net.pool("pool1", x, 2, 2), 2, 4, 4)
    qgraph = net.finish(net.conv("conv10", x, 5, 1))
    return qgraph, hand_plan(qgraph, {"conv1": (2, 3, 9)}, {"fire2.concat": 2})


def test_files_of_an_export() -> None:
    qgraph, plan = small()
    files = emit_hls(qgraph, plan)
    assert list(files) == sorted(files)
    wanted = ("squeezenet.cpp", "conv1.cpp", "pool1.h", "fire2_squeeze.cpp", "conv10.cpp", "pool10.cpp", "weights/fire2_expand3x3.h", "lib/mvu.h",
              "csim/hls_stream.h", "tb/squeezenet_tb.cpp", "tb/tb_common.h", "build_prj.tcl", "hls_config.cfg", "csim.mk")  # fmt: skip
    names = {path.removeprefix("hls/") for path in files}
    fire_module = {n.replace("fire2_squeeze", "fire2") for n in wanted}
    assert fire_module <= names
    text = files["hls/fire2.cpp"].decode()
    assert "void fire2_squeeze(" in text and "void fire2_expand(" in text and "void fire2(" in text
    assert "fire2(" in files["hls/squeezenet.cpp"].decode()


def test_emission_is_deterministic_and_free_of_paths() -> None:
    first, second = emit_hls(*small()), emit_hls(*small())
    assert first == second
    for path, data in first.items():
        assert b"/work" not in data and b"/home" not in data and b"/tmp" not in data, path
        assert data.endswith(b"\n") and b"\t\n" not in data, path


def test_digest_follows_weights_and_options() -> None:
    qgraph, plan = small()

    def head(options: HlsOptions, graph: QuantGraph = qgraph) -> str:
        return emit_hls(graph, plan, options)["hls/conv1.h"].decode().splitlines()[0]

    assert head(HlsOptions()) == head(HlsOptions())
    assert head(HlsOptions()) != head(HlsOptions(top="other"))
    assert "configuration abc." in head(HlsOptions(digest="abc"))
    node = qgraph["conv1"]
    changed = replace(node, op=replace(node.op, weight=node.op.weight ^ 1))  # type: ignore[type-var]
    graph = QuantGraph(tuple(changed if n.name == "conv1" else n for n in qgraph.nodes), qgraph.output)
    assert head(HlsOptions()) != head(HlsOptions(), graph)


def test_kernels_have_no_macros() -> None:
    for path, data in emit_hls(*small()).items():
        if path.endswith((".cpp", ".h")):
            assert b"#define" not in data and b"#ifdef" not in data, path


def test_top_name_must_be_an_identifier() -> None:
    with pytest.raises(InputError, match="no usable identifier"):
        emit_hls(*small(), HlsOptions(top="my-net"))


def test_names_that_meet_are_kept_apart() -> None:
    net = NetBuilder(1)
    x = net.conv("a.b", net.image(1, 5, 5), 2, 1)
    qgraph = net.finish(net.conv("a_b", x, 2, 1))
    files = emit_hls(qgraph, hand_plan(qgraph, {}))
    assert {"hls/a_b.cpp", "hls/a_b_2.cpp", "hls/weights/a_b.h", "hls/weights/a_b_2.h"} <= set(files)


def test_plan_of_another_network_is_refused() -> None:
    qgraph, plan = small()
    net = NetBuilder(1)
    other = net.finish(net.conv("conv1", net.image(3, 9, 9), 5, 3, 2))
    with pytest.raises(InputError, match="plan"):
        emit_hls(other, plan)
    with pytest.raises(InputError, match="links"):
        emit_hls(qgraph, replace(plan, links=plan.links[1:]))


def test_padding_beyond_the_kernel_is_refused() -> None:
    net = NetBuilder(1)
    qgraph = net.finish(net.conv("conv1", net.image(1, 5, 5), 2, 1, padding=(2, 0, 0, 0)))
    with pytest.raises(InputError, match="larger than the kernel"):
        emit_hls(qgraph, hand_plan(qgraph, {}))


def test_undefined_template_name_raises() -> None:
    with pytest.raises(UndefinedError):
        render("hls/top.h.jinja", banner="x")


@pytest.mark.parametrize(("bits", "signed", "size"), [(8, False, 1), (8, True, 1), (9, False, 2), (16, True, 2), (17, True, 4), (33, True, 8)])
def test_golden_file_round_trip(bits: int, signed: bool, size: int) -> None:
    fmt = TensorFormat(bits, 0, signed=signed)
    values = np.array([fmt.qmin, fmt.qmax, 0, 1, 2, 3], dtype=np.int64).reshape(1, 2, 1, 3)
    data = golden_file(values, fmt)
    assert len(data) == 32 + 6 * size
    assert np.array_equal(read_golden_file(data), values)
    with pytest.raises(InputError, match="export again"):
        read_golden_file(data[:-1])
    with pytest.raises(InputError, match="outside"):
        golden_file(values + fmt.qmax, fmt)


def test_golden_files_cover_every_link() -> None:
    qgraph, plan = small()
    frames = frames_for(qgraph, 2)
    files = golden_files(qgraph, plan, frames, traces_for(qgraph, frames))
    assert list(files) == sorted(f"tb_data/{link.tensor}.bin" for link in plan.links)
    assert np.array_equal(read_golden_file(files["tb_data/image.bin"]), frames)
    with pytest.raises(InputError, match="golden values of shape"):
        golden_files(qgraph, plan, frames, {**traces_for(qgraph, frames), "conv10": np.zeros((2, 3), np.int64)})
