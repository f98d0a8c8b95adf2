"""OUT/sim: the testbench of the whole network and a runner for it that needs cocotb and a simulator only, not this package."""

from __future__ import annotations

import json

from fpga_squeeze.emit.hls_context import file_stem
from fpga_squeeze.emit.render import banner, render, static_file, static_files
from fpga_squeeze.emit.rtl_context import Memory, RtlDesign, StreamRtl
from fpga_squeeze.hardware.plan import FoldPlan, Link
from fpga_squeeze.quantize.qgraph import QuantGraph


def sim_files(qgraph: QuantGraph, plan: FoldPlan, design: RtlDesign, stored: tuple[Memory, ...]) -> dict[str, bytes]:
    """Files below sim/ by path relative to OUT: testbench, monitors, cocotb test, runner, Makefile, and network.json, which describes the machine to them."""
    what = banner(design.digest, "Testbench of the whole network.")
    files = {f"sim/{name}": data for suffix in (".sv", ".py") for name, data in static_files("sim", suffix).items() if name != "test_network.py"}
    files[f"sim/test_{design.top}.py"] = static_file("sim/test_network.py")
    files[f"sim/tb_{design.top}.sv"] = render("sim/tb.sv.jinja", banner=what, d=design).encode()
    files["sim/Makefile"] = render("sim/Makefile.jinja", banner=banner(design.digest, "RTL simulation of the whole network."), d=design).encode()
    files["sim/network.json"] = (json.dumps(network(qgraph, plan, design, stored), indent=1) + "\n").encode()
    return files


def _label(plan: FoldPlan, link: Link, stream: StreamRtl) -> str:
    """What a stream's row is called: the stage that makes it; a link forked off another, after its reader."""
    if plan.general:
        forked = {b for trunk in (*plan.links, *plan.bypasses) for b in plan.forked_off(trunk)}
        return link.producer if link not in forked else f"{link.consumer}.{'bypass' if link in plan.bypasses else 'in'}"
    return link.producer if link not in plan.bypasses else stream.ident.replace("_bypass", ".bypass")


def network(qgraph: QuantGraph, plan: FoldPlan, design: RtlDesign, stored: tuple[Memory, ...]) -> dict[str, object]:
    """What the runner must know: streams with their golden files, FIFOs, memory files, and the plan's figures."""
    links = [*plan.links[:-1], *plan.bypasses, plan.links[-1]]
    described = [*design.streams[:-1], *design.bypasses, design.streams[-1]]
    streams = [
        {
            "name": stream.ident,
            "stage": _label(plan, link, stream),
            "file": f"{file_stem(link.tensor)}.bin",
            "shape": list(qgraph[link.tensor].shape),
            "bits": stream.bits,
            "lanes": stream.in_lanes,
        }
        for link, stream in zip(links, described, strict=True)
    ]
    return {
        "top": design.top,
        "streams": streams,
        "classes": design.classes,
        "sum_bits": design.sum_bits,
        "index_bits": design.index_bits,
        "top_k": design.top_k,
        "marks": [{"name": m.name, "depth": m.depth} for m in design.marks],
        "memories": [{"file": m.file, "rows": len(m.rows), "digits": -(-m.bits // 4)} for m in stored],
        "interval_cycles": plan.interval_cycles,
        "multipliers": plan.multipliers,
        "macs": plan.macs,
        "clock_mhz": plan.clock_mhz,
        **({"load": {"file": "load.bin", "bytes": design.loader.bytes}} if design.loader else {}),
    }
