"""C simulation of generated sources: equal to the definition over many shapes, folds and widths, and able to fail."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hls_cases import NetBuilder, frames_for, hand_plan, write_export

from fpga_squeeze.errors import CheckFailedError, InputError, ToolMissingError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.csim import CsimResult, parse_output, run_csim
from fpga_squeeze.verify.headers import find_headers

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def simulate(folder: Path, **options: object) -> CsimResult:
    return run_csim(folder, optimize="-O0", **options)  # type: ignore[arg-type]


def assert_equal(result: CsimResult, qgraph: QuantGraph, plan: FoldPlan, frames: int) -> None:
    assert result.ok, (result.first_failure, result.faults)
    compared = [frames * int(np.prod(qgraph[link.tensor].shape)) for link in plan.links[1:]]
    assert [row.compared for row in result.rows] == [*compared, compared[-1]]


def test_kernels_strides_pads_and_uneven_folds(tmp_path: Path) -> None:
    """Kernels 1 to 5, strides 1 to 3, uneven pads with pad values, odd sizes, P_k of 1, K and K*K, folds that do not divide."""
    net = NetBuilder(11)
    x = net.image(3, 19, 17)
    x = net.conv("a", x, 7, 3, 2, (1, 2, 0, 1), pad_values=True)
    x = net.conv("b", x, 5, 3, 1, (1, 1, 1, 1), pad_values=True, fmt=TensorFormat(8, 4, signed=True))
    x = net.conv("c", x, 6, 5, 1, (2, 2, 2, 2))
    x = net.conv("d", x, 5, 2, 1, (0, 1, 1, 0))
    x = net.conv("e", x, 7, 1, 1, (1, 1, 1, 1))
    x = net.conv("f", x, 4, 3, 3, (0, 0, 2, 0))
    x = net.conv("g", x, 5, 1)
    folds = {"a": (2, 3, 9), "b": (3, 4, 3), "c": (4, 2, 25), "d": (2, 5, 2), "e": (3, 2, 1), "f": (4, 3, 1), "g": (2, 3, 1)}
    qgraph = net.finish(x)
    plan = hand_plan(qgraph, folds, {"pool10": 3}, one_module=True)
    folder = write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2))
    told: dict[str, list[tuple[int, int]]] = {}
    result = simulate(folder, stages=9, progress=lambda step, done, total: told.setdefault(step, []).append((done, total)))
    assert_equal(result, qgraph, plan, 2)
    files, stages = told["C simulation build, files"], told["C simulation, stages"]
    # The headers, one module, the top, the testbench and the program; the compilers that still run at the end are not counted as done.
    assert {total for _, total in files[1:]} == {5} and [done for done, _ in files] == sorted(done for done, _ in files)
    assert stages == [(i, 9) for i in range(10)]


def test_widths_signs_shifts_and_fires(tmp_path: Path) -> None:
    """Weights of 2 to 16 bits, activations of 4 to 16 bits, both signs, left and right shifts, Fire modules with every kind of lane conversion."""
    net = NetBuilder(12)
    x = net.image(1, 9, 8)
    x = net.conv("a", x, 6, 3, 1, (1, 1, 1, 1), weight_bits=2, fmt=TensorFormat(4, 0, signed=False), spread=6, shift_offset=-9)
    x = net.fire("fire2", x, 3, 4, 6, weight_bits=5, fmt=TensorFormat(11, 2, signed=True), spread=3)
    x = net.fire("fire3", x, 6, 6, 3, weight_bits=16, fmt=TensorFormat(16, 2, signed=False), spread=1)
    x = net.conv("b", x, 4, 1, weight_bits=16, fmt=TensorFormat(16, 2, signed=True), spread=0)
    qgraph = net.finish(x)
    folds = {
        "a": (3, 1, 3), "fire2.squeeze": (2, 4, 1), "fire2.expand1x1": (3, 2, 1), "fire2.expand3x3": (4, 3, 9), "fire3.squeeze": (5, 3, 1),
        "fire3.expand1x1": (2, 6, 1), "fire3.expand3x3": (3, 4, 3), "b": (3, 6, 1),
    }  # fmt: skip
    plan = hand_plan(qgraph, folds, {"fire2.concat": 2, "fire3.concat": 3, "pool10": 2}, one_module=True)
    engines = [e for stage in plan.stages for e in stage.engines]
    assert min(e.shift_min for e in engines) < -2 and max(e.shift_max for e in engines) > 8 and any(e.shift_bits == 0 for e in engines)
    folder = write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2))
    assert_equal(simulate(folder, standard="c++17"), qgraph, plan, 2)


def test_pools(tmp_path: Path) -> None:
    """Overlapping and gapped windows, padding on every side, the overhang of ceil_mode, rows no window reads, signed values."""
    net = NetBuilder(13)
    x = net.conv("a", net.image(3, 29, 27), 5, 1, fmt=TensorFormat(8, 4, signed=True))
    x = net.pool("p1", x, 3, 1, (1, 1, 1, 1))
    x = net.pool("p2", x, 3, 2, (1, 0, 2, 2))
    x = net.pool("p3", x, 2, 3, (1, 1, 1, 0))
    x = net.pool("p4", x, 4, 1, (3, 2, 1, 3))
    x = net.pool("p5", x, 3, 2, (0, 0, 1, 1))
    qgraph = net.finish(x)
    plan = hand_plan(qgraph, {"a": (2, 3, 1)}, {"p1": 2, "p2": 5, "p3": 1, "p4": 3, "p5": 4, "pool10": 5}, one_module=True)
    folder = write_export(tmp_path, qgraph, plan, frames_for(qgraph, 3))
    assert_equal(simulate(folder), qgraph, plan, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_machines(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    net = NetBuilder(seed)
    x = net.image(choose.choice([1, 3]), choose.randint(7, 14), choose.randint(7, 14))
    folds: dict[str, tuple[int, int, int]] = {}
    lanes: dict[str, int] = {}
    for i in range(7):
        c, h, w = net.nodes[-1].shape
        k = min(choose.choice([1, 2, 3, 3, 4, 5]), h, w)
        fmt = TensorFormat(choose.choice([4, 5, 8, 8, 11, 16]), 4, signed=choose.random() < 0.4)
        bits = choose.choice([2, 3, 5, 8, 8, 12, 16])
        name = f"n{i}"
        if choose.random() < 0.3:
            pad = (choose.randint(0, k - 1), choose.randint(0, k - 1), choose.randint(0, k - 1), choose.randint(0, k - 1))
            x = net.pool(name, x, k, choose.randint(1, 3), pad)
            lanes[name] = choose.randint(1, c)
        else:
            oc = choose.randint(1, 9)
            pad = (choose.randint(0, min(k, 2)), choose.randint(0, 2), choose.randint(0, 2), choose.randint(0, 2))
            x = net.conv(name, x, oc, k, choose.randint(1, 2), pad, weight_bits=bits, fmt=fmt, spread=choose.choice([0, 1, 4]), pad_values=True)
            folds[name] = (choose.randint(1, oc), choose.randint(1, c), choose.choice([1, k, k * k]))
    qgraph = net.finish(x)
    plan = hand_plan(qgraph, folds, {**lanes, "pool10": 1}, one_module=True)
    assert_equal(simulate(write_export(tmp_path, qgraph, plan, frames_for(qgraph, 2, seed))), qgraph, plan, 2)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small export that passes: one file a module, so that a change rebuilds one file."""
    net = NetBuilder(14)
    x = net.conv("conv1", net.image(3, 9, 9), 4, 3, 2, (1, 1, 1, 1))
    x = net.fire("fire2", x, 2, 4, 4)
    qgraph = net.finish(net.conv("conv10", x, 5, 1, fmt=TensorFormat(8, 4, signed=True)))
    folder = tmp_path_factory.mktemp("export")
    write_export(folder, qgraph, hand_plan(qgraph, {"conv1": (2, 3, 9), "fire2.expand3x3": (2, 2, 3)}, {"fire2.concat": 4}), frames_for(qgraph, 2))
    result = simulate(folder)
    assert result.ok and result.frames == 2
    return folder


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """`path` with other content, put back afterwards."""
    before = path.read_bytes()
    assert content != before
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def flip_first(path: Path, array: str, bit: int) -> bytes:
    """The header at `path` with one bit of the first byte of `array` flipped."""
    text = path.read_text()
    match = re.search(rf"{array}\[\d+\]\[\d+\] = \{{\s*\{{(\d+)", text)
    assert match
    return (text[: match.start(1)] + str(int(match[1]) ^ (1 << bit)) + text[match.end(1) :]).encode()


def test_one_frame_of_two(export: Path) -> None:
    result = simulate(export, frames=1)
    assert result.ok and result.frames == 1
    assert {row.stage: row.compared for row in result.rows}["conv1"] == 4 * 5 * 5


@pytest.mark.parametrize(("array", "bit"), [("weights", 6), ("shift", 0), ("bias", 7)])
def test_one_bit_in_a_memory_is_named(export: Path, array: str, bit: int) -> None:
    header = export / "hls/weights/fire2_expand3x3.h"
    with changed(header, flip_first(header, f"fire2_expand3x3_{array}", bit)):
        result = simulate(export)
    assert not result.ok
    wrong = [row.stage for row in result.rows if not row.ok]
    assert wrong[0] == "fire2.expand"
    first = next(row.first_difference for row in result.rows if row.stage == "fire2.expand")
    assert first is not None and first.channel == 4 and first.expected != first.got


def test_one_bit_of_a_golden_value_is_named(export: Path) -> None:
    path = export / "tb_data/fire2.squeeze.bin"
    data = bytearray(path.read_bytes())
    channels, height, width = 2, 5, 5
    data[32 + ((1 * channels + 1) * height + 3) * width + 2] ^= 1
    with changed(path, bytes(data)):
        result = simulate(export)
    row = next(r for r in result.rows if r.stage == "fire2.squeeze")
    assert row.mismatches == 1 and row.first_difference is not None
    d = row.first_difference
    assert (d.frame, d.channel, d.y, d.x) == (1, 1, 3, 2) and d.expected == d.got ^ 1
    assert result.first_failure is not None and "fire2.squeeze" in result.first_failure and "channel 1, y 3, x 2" in result.first_failure


def test_damaged_golden_file_breaks_off(export: Path) -> None:
    path = export / "tb_data/conv1.bin"
    with changed(path, path.read_bytes()[:-1]), pytest.raises(CheckFailedError, match=r"conv1\.bin is truncated"):
        simulate(export)


def test_source_that_does_not_compile_is_one_line(export: Path) -> None:
    path = export / "hls/conv1.cpp"
    with changed(path, path.read_bytes() + b"syntax error;\n"), pytest.raises(CheckFailedError, match=r"does not build: .*conv1\.cpp.*error"):
        simulate(export)


def test_own_files_compile_without_a_warning(export: Path) -> None:
    headers = find_headers()
    for standard in ("c++14", "c++17"):
        done = subprocess.run(
            ["make", "-s", "-f", "csim.mk", f"AP_INCLUDE={headers.folder}", f"CXXSTD={standard}", "OPTIMIZE=-O0", f"BUILD={export}/w-{standard}",
             *(f"{export}/w-{standard}/{name}.o" for name in ("fire2", "squeezenet_tb"))],
            cwd=export / "hls", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""


def test_missing_things_are_one_line(export: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match=r"apt install g\+\+"):
        simulate(export, cxx="no-such-compiler")
    with pytest.raises(InputError, match="fpga-squeeze export"):
        simulate(tmp_path)
    with pytest.raises(InputError, match=r"no ap_int\.h"):
        simulate(export, hls_include=tmp_path)
    with pytest.raises(InputError, match="at least 1"):
        simulate(export, frames=0)
    with pytest.raises(CheckFailedError, match="asked for 3 frames"):
        simulate(export, frames=3)


def test_headers_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpga_squeeze.verify.headers.find_spec", lambda _name: None)
    with pytest.raises(ToolMissingError, match=r"fpga-squeeze\[csim\]"):
        find_headers()


def test_output_that_compares_nothing_is_a_failure() -> None:
    rows, faults = parse_output("stage conv1 compared 0 mismatches 0\n")
    assert not CsimResult(rows, faults, 1, 0.0, 0.0).ok
    assert not CsimResult((), (), 1, 0.0, 0.0).ok
    rows, faults = parse_output("stage conv1 compared 4 mismatches 0\nfault conv1 sends too many beats (1 in all)\n")
    assert not CsimResult(rows, faults, 1, 0.0, 0.0).ok
    with pytest.raises(CheckFailedError, match="none of its lines"):
        parse_output("Segmentation fault\n")
