"""The generated dataflow with streams of bounded depth and its processes in threads: no depth deadlocks, and a machine that can is found.

C simulation proper runs the processes one after the other with unbounded streams; here every STREAM pragma bounds its stream and every call of a
DATAFLOW body gets a thread.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hls_cases import NetBuilder, frames_for, hand_plan, refold, write_export

from fpga_squeeze.errors import CheckFailedError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.verify.csim import CsimResult, run_csim

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

STREAMS = Path(__file__).parent / "threaded" / "hls_stream.h"


def machine(p_px: int) -> tuple[QuantGraph, FoldPlan]:
    """Convolutions, a pool and a Fire, whose lanes differ and whose engines take `p_px` pixels at a time (the squeeze one less or more)."""
    net = NetBuilder(31)
    x = net.conv("conv1", net.image(3, 11, 11), 6, 3, 1, (1, 1, 1, 1))
    x = net.pool("pool1", x, 3, 2)
    x = net.fire("fire2", x, 4, 6, 6)
    qgraph = net.finish(net.conv("conv10", x, 5, 1))
    folds = {
        "conv1": (4, 3, 3, p_px), "fire2.squeeze": (2, 2, 1, 2 if p_px == 3 else p_px), "fire2.expand1x1": (2, 1, 1, p_px),
        "fire2.expand3x3": (2, 2, 3, p_px), "conv10": (2, 3, 1, p_px),
    }  # fmt: skip
    plan = hand_plan(qgraph, folds, {"pool1": 2, "fire2.concat": 3})
    return qgraph, refold(plan, qgraph, lambda e: e)


def threaded(text: str, depth: int | None) -> str:
    """A kernel source with bounded streams (of their own depths, or all of `depth`) and concurrent processes."""
    bodies = re.split(r"(?m)^(?=\}\n)", text)
    for i, body in enumerate(bodies):
        if "#pragma HLS DATAFLOW" not in body:
            continue
        body = re.sub(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)", lambda m: f"    {m[1]}.bound({depth or m[2]});", body)
        head, _, calls = body.rpartition(".bound(")
        end = calls.index("\n") + 1
        processes = re.sub(r"(?m)^    (\S.*\));$", r"    processes.run([&] { \1; });", calls[end:])
        bodies[i] = f"{head}.bound({calls[:end]}    hls::dataflow processes;\n{processes}"
    return "".join(bodies)


def simulate(folder: Path, p_px: int, depth: int | None, change: tuple[str, str, str] | None = None) -> CsimResult:
    """C simulation with threads; `change`: a library file, a text in it and what takes its place."""
    qgraph, plan = machine(p_px)
    write_export(folder, qgraph, plan, frames_for(qgraph, 2))
    streams = 0
    for path in sorted((folder / "hls").glob("*.cpp")):
        text = threaded(path.read_text(), depth)
        streams += text.count(".bound(")
        path.write_text(text)
    assert streams >= 16
    shutil.copy(STREAMS, folder / "hls/csim/hls_stream.h")
    if change is not None:
        name, old, new = change
        library = folder / "hls/lib" / name
        assert library.read_text().count(old) == 1
        library.write_text(library.read_text().replace(old, new))
    return run_csim(folder, cxx="g++ -pthread", optimize="-O0", timeout_seconds=50)


@pytest.mark.parametrize(("p_px", "depth"), [(3, None), (2, 1)])
def test_no_depth_deadlocks(tmp_path: Path, p_px: int, depth: int | None) -> None:
    result = simulate(tmp_path, p_px, depth)
    assert result.ok, (result.first_failure, result.faults)


def test_a_machine_that_deadlocks_is_found(tmp_path: Path) -> None:
    """A concat that wants all 1x1 channels of the frame first: the KxK engine's results have nowhere to go."""
    planes = ("concat.h", "if (b < FIRST_BEATS)", "if (p * BEATS + b < PIXELS * FIRST_BEATS)")
    with pytest.raises(CheckFailedError, match="deadlock: stream"):
        simulate(tmp_path, 3, None, planes)
