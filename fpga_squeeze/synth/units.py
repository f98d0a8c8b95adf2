"""What is synthesised on its own: every stage module of OUT/rtl, and every link's width converter and FIFO."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fpga_squeeze.emit.rtl_context import RtlDesign, StreamRtl
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.cost import Resources, converter_resources, fifo_resources, stage_resources
from fpga_squeeze.hardware.devices import Device
from fpga_squeeze.hardware.plan import FoldPlan


@dataclass(frozen=True)
class Unit:
    """One module: `source` holds module `top` and needs the library and the memory files `memories` (names below weights/)."""

    name: str
    kind: str
    top: str
    source: str
    memories: tuple[str, ...]
    estimate: Resources


def units_of(rtl: Path, plan: FoldPlan, design: RtlDesign, device: Device, stages: tuple[str, ...] | None) -> tuple[Unit, ...]:
    """All stages in stream order, then all links; with `stages` only those named (by stage name, module file or link name).

    Raises InputError for a name that is none, or an export without RTL.
    """
    found = []
    for stage, described in zip(plan.stages, design.stages, strict=True):
        path = rtl / f"{described.ident}.sv"
        try:
            source = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); export again") from error
        named = re.findall(r'\{WEIGHTS, "([^"]+)"\}', source)
        # A name without its end is that of several files, one for each group of lanes (VALUE_FILE of fsq_mvu).
        memories = tuple(m for n in named for m in ([n] if n.endswith(".hex") else sorted(p.name for p in (rtl / "weights").glob(f"{n}_*.hex"))))
        found.append(Unit(stage.name, "stage", described.ident, source, memories, stage_resources(stage, device)))
    for link, stream in zip((*plan.links, *plan.bypasses), design.all_streams, strict=True):
        estimate = converter_resources(link.shape[0], stream.bits, link.in_lanes, link.out_lanes, device)
        estimate = estimate + fifo_resources(stream.fifo_bits, stream.depth, device)
        found.append(Unit(link.name + LINK_SUFFIX, "link", LINK_TOP, link_source(stream), (), estimate))
    if stages is None:
        return tuple(found)
    known = {unit.name for unit in found} | {unit.top for unit in found if unit.kind == "stage"}
    odd = [name for name in stages if name not in known]
    if odd:
        raise InputError(f"--stages {odd[0]}: no such stage; known: {', '.join(unit.name for unit in found)}")
    return tuple(unit for unit in found if unit.name in stages or unit.top in stages)


LINK_TOP = "fsq_link"
LINK_SUFFIX = "_link"
"""Behind a link's name: some links are called as a stage is."""


def link_source(stream: StreamRtl) -> str:
    """A module of the link as the top level builds it: a converter where lanes differ, then a FIFO; tlast beside the data of the class sums."""
    last = int(stream.last)
    ports = f"input wire clk, input wire rst, input wire [{stream.in_bits + last - 1}:0] s_axis_tdata, input wire s_axis_tvalid, output wire s_axis_tready"
    ports += f", output wire [{stream.fifo_bits - 1}:0] m_axis_tdata, output wire m_axis_tvalid, input wire m_axis_tready"
    lines = [f"module {LINK_TOP} ({ports});"]
    source = "s_axis"
    if stream.converted:
        lines += [
            f"    wire [{stream.out_bits - 1}:0] wide_tdata;",
            "    wire wide_tvalid;",
            "    wire wide_tready;",
            f"    fsq_width_converter #(.CHANNELS({stream.channels}), .BITS({stream.bits}), .IN_LANES({stream.in_lanes}), .OUT_LANES({stream.out_lanes}))",
            "    converter (.clk(clk), .rst(rst), .s_axis_tdata(s_axis_tdata), .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),",
            "        .m_axis_tdata(wide_tdata), .m_axis_tvalid(wide_tvalid), .m_axis_tready(wide_tready));",
        ]
        source = "wide"
    style = f", .STYLE({stream.style})" if stream.style else ""
    lines += [
        f"    fsq_fifo #(.WIDTH({stream.fifo_bits}), .DEPTH({stream.depth}){style}) fifo (.clk(clk), .rst(rst),",
        f"        .s_axis_tdata({source}_tdata), .s_axis_tvalid({source}_tvalid), .s_axis_tready({source}_tready),",
        "        .m_axis_tdata(m_axis_tdata), .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready), .occupancy(), .high_water());",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def unit_digest(unit: Unit, rtl: Path, extra: tuple[str, ...]) -> str:
    """SHA-256 of everything that the result depends on: the module without comments and with its own name left out, the library, the contents of its
    memories, and `extra` (tool version, family, script)."""
    text = re.sub(r"//[^\n]*", "", unit.source)
    text = re.sub(rf"\b{re.escape(unit.top)}\b", "UNIT", text)
    for number, name in enumerate(unit.memories):
        text = text.replace(f'"{name}"', f'"{number}"')
    state = hashlib.sha256("\0".join((*extra, text)).encode())
    for path in [*sorted((rtl / "lib").glob("*.sv")), *(rtl / "weights" / name for name in unit.memories)]:
        try:
            state.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); export again") from error
    return state.hexdigest()
