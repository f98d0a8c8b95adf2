"""Vitis HLS C++ from (QuantGraph, FoldPlan): an in-memory map of file name -> content; nothing is written here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.hls_context import design_context
from fpga_squeeze.emit.hls_types import DesignContext, EngineContext, HlsOptions, ModuleContext
from fpga_squeeze.emit.render import banner, render, static_files
from fpga_squeeze.emit.weights import pack_bias_rows, pack_shift_rows, row_bytes, stored_rows
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph

_BYPASS_FILES = ("add.h", "fork.h", "tb_bypass.h")
"""Static files that only a machine with a bypass has."""

_CONCAT_FILES = ("concat_pack.h",)
"""Static files that only a machine with a concat of a bypass has."""

_CODING_FILES = ("weight_reader.h",)
"""Static files that only a machine with coded weights has."""

_HEADERS = {
    "conv": ("mvu.h",),
    "expand": ("concat.h", "mvu.h"),
    "pool": ("max_pool.h",),
    "sum": ("global_sum.h",),
    "add": ("add.h",),
    "concat": ("concat_pack.h",),
}


def emit_hls(qgraph: QuantGraph, plan: FoldPlan, options: HlsOptions | None = None) -> dict[str, bytes]:
    """All files below OUT that the HLS flow needs, by path relative to OUT ("hls/fire2.cpp").

    Same network, plan and options give the same bytes. Raises InputError when the plan does not fit the network.
    """
    design = design_context(qgraph, plan, options or HlsOptions())
    texts: dict[str, str] = {}
    for module in design.modules:
        texts.update(_module_files(design, module))
    for stage in design.stages:
        for engine in stage.engines:
            texts[f"hls/weights/{engine.ident}.h"] = _weights(design, qgraph, engine)
    texts[f"hls/{design.top}.h"] = render("hls/top.h.jinja", banner=banner(design.digest, "Top of the machine."), d=design)
    texts[f"hls/{design.top}.cpp"] = render("hls/top.cpp.jinja", banner=banner(design.digest, "Top of the machine."), d=design)
    texts[f"hls/tb/{design.top}_tb.cpp"] = render("hls/tb.cpp.jinja", banner=banner(design.digest, "Testbench."), d=design)
    script = banner(design.digest, "Vitis HLS flow.")
    texts["hls/build_prj.tcl"] = render("hls/build_prj.tcl.jinja", banner=script, d=design)
    texts["hls/hls_config.cfg"] = render("hls/hls_config.cfg.jinja", banner=script, d=design)
    texts["hls/csim.mk"] = render("hls/csim.mk.jinja", banner=banner(design.digest, "C simulation with a plain C++ compiler."), d=design)
    content = {path: text.encode() for path, text in texts.items()}
    unused = (() if design.bypassed else _BYPASS_FILES) + (() if any(s.kind == "concat" for s in design.stages) else _CONCAT_FILES)
    if not any(e.engine.coding for s in design.stages for e in s.engines):
        unused += _CODING_FILES
    for folder in ("lib", "csim", "tb"):
        library = static_files(f"hls/{folder}", ".h")
        content.update({f"hls/{folder}/{name}": data for name, data in library.items() if name not in unused})
    return dict(sorted(content.items()))


def _module_files(design: DesignContext, module: ModuleContext) -> dict[str, str]:
    headers = {h for s in module.stages for h in _HEADERS[s.kind]}
    headers |= {"mvu.h" for s in module.stages if s.bypass_word and s.engines}
    headers |= {"max_pool.h" for s in module.stages if s.pools}
    for engine in (e for s in module.stages for e in s.engines):
        headers.add(f"{engine.reader.removesuffix('_with_centre')}.h")
        if engine.grouped:
            headers.add("pixel_group.h")
        if engine.engine.coding is not None:
            headers.add("weight_reader.h")
    if any("_beats<" in call.function for calls in (module.calls, *(s.calls for s in module.stages)) for call in calls):
        headers.add("width.h")
    context = {
        "banner": banner(design.digest, f"{module.name}."),
        "module": module,
        "headers": sorted(headers),
    }
    return {
        f"hls/{module.ident}.h": render("hls/module.h.jinja", **context),
        f"hls/{module.ident}.cpp": render("hls/module.cpp.jinja", **context),
    }


def _weights(design: DesignContext, qgraph: QuantGraph, context: EngineContext) -> str:
    engine = context.engine
    op = qgraph[engine.node].op
    if not isinstance(op, QConv):
        raise InputError(f"layer {engine.node}: the plan has a convolution engine for it, the network {type(op).__name__}; plan it again")
    stored, *more = stored_rows(engine, op)
    weights = row_bytes(stored.memories[0], stored.bits)
    values = [row_bytes(memory, more[0].bits) for memory in more[0].memories] if more else []
    bias = row_bytes(pack_bias_rows(engine, op), engine.fold.p_oc * engine.bias_bits)
    shift = row_bytes(pack_shift_rows(engine, op), engine.fold.p_oc * engine.shift_bits)
    padded = np.zeros(engine.ic_folds * engine.fold.p_ic, dtype=np.int64)
    padded[: len(engine.pad_value)] = engine.pad_value
    return render(
        "hls/weights.h.jinja",
        banner=banner(design.digest, f"Memories of {engine.node}."),
        e=context,
        weights=_rows(weights),
        weight_row_bytes=weights.shape[1],
        weight_bits=engine.weight_bits,
        values=[_rows(group) for group in values],
        value_bits=engine.coding.value_bits if engine.coding else 0,
        value_row_bytes=values[0].shape[1] if values else 0,
        bias=_rows(bias),
        bias_row_bytes=bias.shape[1],
        bias_bits=engine.bias_bits,
        shift=_rows(shift),
        shift_row_bytes=shift.shape[1],
        shift_bits=engine.shift_bits,
        pad=[] if context.pixel_buffered else _rows(padded.reshape(engine.ic_folds, engine.fold.p_ic)),
    )


def _rows(values: NDArray[np.uint8] | NDArray[np.int64]) -> list[str]:
    return [",".join(map(str, row)) for row in values.tolist()]
