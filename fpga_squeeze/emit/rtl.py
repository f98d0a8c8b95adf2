"""SystemVerilog from (QuantGraph, FoldPlan): an in-memory map of file name -> content; nothing is written here.

The machine is the one that emit/hls.py writes as C++: same stages, same names, same stream order, same rows of the weight memories.
"""

from __future__ import annotations

from fpga_squeeze.emit.load_image import load_image
from fpga_squeeze.emit.render import banner, render, static_files
from fpga_squeeze.emit.rtl_context import Memory, RtlDesign, RtlOptions, memory_name, rtl_design
from fpga_squeeze.emit.rtl_parameters import value_name
from fpga_squeeze.emit.rtl_sim import sim_files
from fpga_squeeze.emit.weights import pack_bias_rows, pack_shift_rows, stored_rows
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

__all__ = ["RtlOptions", "emit_rtl", "memories"]

OPTIONAL_FILES = ("fsq_concat_pack.sv", "fsq_conv_adder.sv")
"""Library modules that only a machine with such a stage has."""

LOADER_FILES = ("fsq_frame_hold.sv", "fsq_loader.sv")
"""Library modules that only a machine with loaded weights has."""


def emit_rtl(qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions | None = None) -> dict[str, bytes]:
    """All files below OUT that the RTL flow needs, by path relative to OUT: "rtl/..." and the simulation of it, "sim/...".

    Same network, plan and options give the same bytes. Raises InputError when the plan does not fit the network or an option is unusable.
    """
    design = rtl_design(qgraph, plan, options or RtlOptions())
    stored = memories(qgraph, plan, design)
    content: dict[str, bytes] = {f"rtl/weights/{m.file}": hex_file(m).encode() for m in stored}
    _check_memories(design, stored)
    if design.loader:
        content["rtl/weights/load.bin"] = load_image(qgraph, plan)
    for stage in design.stages:
        text = render("rtl/stage.sv.jinja", banner=banner(design.digest, f"Stage {stage.name}."), s=stage)
        content[f"rtl/{stage.ident}.sv"] = text.encode()
    content[f"rtl/{design.top}.sv"] = render("rtl/top.sv.jinja", banner=banner(design.digest, "Top of the machine."), d=design).encode()
    used = {f"{stage.library}.sv" for stage in design.stages}
    unused = {*(() if design.loader else LOADER_FILES), *(name for name in OPTIONAL_FILES if name not in used)}
    library = {name: data for name, data in static_files("rtl/lib", ".sv").items() if name not in unused}
    content.update({f"rtl/lib/{name}": data for name, data in library.items()})
    sources = [*(f"lib/{name}" for name in library), *(f"{s.ident}.sv" for s in design.stages), f"{design.top}.sv"]
    content["rtl/files.f"] = "".join(f"{name}\n" for name in sources).encode()
    script = banner(design.digest, "Vivado flow.")
    content["rtl/build_vivado.tcl"] = render("rtl/build_vivado.tcl.jinja", banner=script, d=design).encode()
    content.update(sim_files(qgraph, plan, design, stored))
    return dict(sorted(content.items()))


def memories(qgraph: QuantGraph, plan: FoldPlan, design: RtlDesign) -> tuple[Memory, ...]:
    """Every weight, bias and (where channels differ) shift memory with initial contents; none for engines whose weights are loaded."""
    found = []
    engines = dict(design.engines)
    for stage in plan.stages:
        for engine in stage.engines:
            op = qgraph[engine.node].op
            if not isinstance(op, QConv):
                raise InputError(f"layer {engine.node}: the plan has a convolution engine for it, the network {type(op).__name__}; plan it again")
            if engine.loaded:
                continue
            ident = engines[engine.node].ident
            for stored in stored_rows(engine, op):
                grouped = stored.kind == "values"
                names = [value_name(ident, g) if grouped else memory_name(ident, stored.kind) for g in range(len(stored.memories))]
                found += [Memory(name, tuple(rows), stored.bits) for name, rows in zip(names, stored.memories, strict=True)]
            found.append(Memory(memory_name(ident, "bias"), tuple(pack_bias_rows(engine, op)), engine.fold.p_oc * engine.bias_bits))
            if engine.shift_bits:
                found.append(Memory(memory_name(ident, "shift"), tuple(pack_shift_rows(engine, op)), engine.fold.p_oc * engine.shift_bits))
    return tuple(found)


def hex_file(memory: Memory) -> str:
    """A $readmemh file: one row a line, every row with all its digits.

    >>> hex_file(Memory("m.hex", (1, 0xAB), 12)).split()
    ['001', '0ab']
    """
    digits = -(-memory.bits // 4)
    return "".join(f"{row:0{digits}x}\n" for row in memory.rows)


def _check_memories(design: RtlDesign, stored: tuple[Memory, ...]) -> None:
    """A file that $readmemh misses leaves zeros and exit code 0 behind in every simulator, so each name in a stage file must have been written."""
    names = {m.file for m in stored}
    for stage in design.stages:
        files = [value.split('"')[1] for _, value in stage.parameters if value.startswith("{WEIGHTS")]
        # VALUE_FILE is the beginning of a name: the library adds the number of the group.
        missing = [file for file in files if file not in names and f"{file}_000.hex" not in names]
        if missing:
            raise InputError(f"stage {stage.name}: reads {missing[0]}, which no engine of the plan fills; plan it again")
    short = next((m for m in stored if not m.rows or max(m.rows) >> m.bits), None)
    if short is not None:
        raise InputError(f"memory {short.file}: rows of {short.bits} bits were expected; plan it again")
