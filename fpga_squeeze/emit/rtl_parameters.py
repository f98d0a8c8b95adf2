"""Parameters of the RTL library's modules for each kind of stage, as (name, value) in the library's order."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.fifo_rtl import rtl_expand_depths
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, Engine, ExpandStage, GlobalSumStage, PoolStage

INTEGER_BITS = 31
"""Non-negative parameters up to here are printed in decimal; wider ones as sized hexadecimal."""


@dataclass(frozen=True)
class EngineRtl:
    """What an engine's memories are called: `ident`, the stem of their files, and `load_id`, the number of the first of the three on the load bus."""

    ident: str
    load_id: int


STYLES = {"auto": 0, "lut": 1, "bram": 2, "uram": 3}
"""STYLE of fsq_parameter_memory for a plan's weight_storage."""

PACKS = {"none": 0, "channels": 1, "pixels": 2}
"""PACK of fsq_mvu for a plan's packing."""


def memory_name(engine_ident: str, kind: str) -> str:
    """File name of one of an engine's memories: kind is weights, indices, bitmap, bias or shift."""
    return f"{engine_ident}_{kind}.hex"


def value_stem(engine_ident: str) -> str:
    """What the files of the values of an engine's sparse weights begin with: VALUE_FILE of fsq_weight_store."""
    return f"{engine_ident}_values"


def value_name(engine_ident: str, group: int) -> str:
    """File name of the values of one group of lanes."""
    return f"{value_stem(engine_ident)}_{group:03d}.hex"


class _File(str):
    """A memory file's name: printed behind the folder parameter."""


def literal(value: int | _File) -> str:
    """A parameter's value as SystemVerilog."""
    if isinstance(value, _File):
        return f'{{WEIGHTS, "{value}"}}'
    return str(value) if value.bit_length() <= INTEGER_BITS else f"{value.bit_length()}'h{value:x}"


Parameters = list[tuple[str, "int | _File"]]


def _files(e: Engine, engines: dict[str, EngineRtl], prefix: str = "") -> Parameters:
    """The memories an engine reads; one shift for all channels needs none, nor does what is loaded."""
    if e.loaded:
        return []
    ident = engines[e.node].ident
    weights = "weights" if e.coding is None else "bitmap" if e.coding.sparse else "indices"
    kinds = [("WEIGHT", weights), ("BIAS", "bias"), *([("SHIFT", "shift")] if e.shift_bits else [])]
    files: Parameters = [(f"{prefix}{kind}_FILE", _File(memory_name(ident, name))) for kind, name in kinds]
    if e.coding is not None and e.coding.sparse:
        files.append((f"{prefix}VALUE_FILE", _File(value_stem(ident))))
    return files


def _numbers(e: Engine, prefix: str = "") -> Parameters:
    return [
        (f"{prefix}WEIGHT_BITS", e.weight_bits), (f"{prefix}ACC_BITS", e.acc_bits), (f"{prefix}BIAS_BITS", e.bias_bits),
        (f"{prefix}SHIFT_MIN", e.shift_min), (f"{prefix}SHIFT_MAX", e.shift_max),
    ]  # fmt: skip


CODINGS = {"codebook": 1, "sparse": 2, "sparse-codebook": 3}
"""CODING of fsq_mvu for an engine's coding."""


def _coding(e: Engine) -> Parameters:
    """How the weights are stored, where not as they are."""
    c = e.coding
    if c is None:
        return []
    found: Parameters = [("CODING", CODINGS[c.kind])]
    if c.codebook:
        mask = (1 << e.weight_bits) - 1
        found += [("INDEX_BITS", c.value_bits), ("CODEBOOK", sum((value & mask) << i * e.weight_bits for i, value in enumerate(c.codebook)))]
    if c.sparse:
        found += [("GROUP", c.group), ("READ", c.read), ("COLUMNS", c.columns), ("VALUE_WORDS", c.words)]
    return found


def _forms(e: Engine, engines: dict[str, EngineRtl], prefix: str = "") -> Parameters:
    """Packing, storage and loading, where they are not the library's defaults."""
    found: Parameters = []
    if e.packing != "none":
        found += [(f"{prefix}PACK", PACKS[e.packing]), (f"{prefix}PACK_SHIFT", e.pack_shift)]
    if e.weight_storage != "auto":
        found.append((f"{prefix}STYLE", STYLES[e.weight_storage]))
    found += [(f"{prefix}{name}", value) for name, value in _coding(e)]
    if e.loaded:
        found += [(f"{prefix}LOADED", 1), (f"{prefix}LOAD_ID", engines[e.node].load_id)]
    return found


def _formats(into: TensorFormat, out: TensorFormat) -> Parameters:
    return [("ACT_BITS", into.bits), ("ACT_SIGNED", int(into.signed)), ("OUT_BITS", out.bits), ("OUT_SIGNED", int(out.signed))]


def conv_parameters(e: Engine, engines: dict[str, EngineRtl]) -> Parameters:
    """Parameters of fsq_conv_engine."""
    top, left, _, _ = e.padding
    pad = 0
    for channel, value in enumerate(e.pad_value):
        pad |= (value & ((1 << e.in_fmt.bits) - 1)) << (channel * e.in_fmt.bits)
    parameters: Parameters = [
        ("IH", e.in_shape[1]), ("IW", e.in_shape[2]), ("OH", e.out_shape[1]), ("OW", e.out_shape[2]), ("K", e.kernel), ("S", e.stride),
        ("PT", top), ("PL", left), ("P_OC", e.fold.p_oc), ("P_IC", e.fold.p_ic), ("P_K", e.fold.p_k), ("IC_FOLDS", e.ic_folds),
        ("OC_FOLDS", e.oc_folds), ("ROWS", e.buffer_rows or 1), ("PIXEL_BUFFER", int(e.pixel_buffered)),
    ]  # fmt: skip
    if pad and not e.pixel_buffered:
        parameters.append(("PAD_VALUE", pad))
    if e.fold.p_px > 1:
        parameters.append(("P_PX", e.fold.p_px))
    return parameters + _formats(e.in_fmt, e.out_fmt) + _numbers(e) + _forms(e, engines) + _files(e, engines)


def bypass_parameters(e: Engine, engines: dict[str, EngineRtl]) -> Parameters:
    """The engine's parameters under the names of fsq_conv_adder: its output is the adder's second operand."""
    names = {"ACT_BITS": "IN_BITS", "ACT_SIGNED": "IN_SIGNED", "OUT_BITS": "B_BITS", "OUT_SIGNED": "B_SIGNED"}
    own = [("OC", e.out_shape[0]), *((names.get(n, n), v) for n, v in conv_parameters(e, engines))]
    return [(n, v) for n, v in own if not n.startswith("B_")]


def add_parameters(s: AddStage) -> Parameters:
    """The sum's parameters, of fsq_adder and of fsq_conv_adder."""
    return [
        ("LANES", s.lanes), ("A_BITS", s.in_fmt.bits), ("A_SIGNED", int(s.in_fmt.signed)), ("B_BITS", s.bypass_fmt.bits),
        ("B_SIGNED", int(s.bypass_fmt.signed)), ("ALIGN_A", s.align[0]), ("ALIGN_B", s.align[1]), ("SHIFT", s.shift),
        ("OUT_BITS", s.out_fmt.bits), ("OUT_SIGNED", int(s.out_fmt.signed)),
    ]  # fmt: skip


def concat_parameters(s: ConcatStage) -> Parameters:
    """Parameters of fsq_concat_pack; a is the main stream."""
    return [("LANES", s.lanes), ("BITS", s.fmt.bits), ("A_CHANNELS", s.in_shape[0]), ("B_CHANNELS", s.side_shape[0]), ("A_FIRST", int(s.main_first))]


def converter_parameters(channels: int, bits: int, in_lanes: int, out_lanes: int) -> Parameters:
    """Parameters of fsq_width_converter."""
    return [("CHANNELS", channels), ("BITS", bits), ("IN_LANES", in_lanes), ("OUT_LANES", out_lanes)]


def expand_parameters(stage: ExpandStage, engines: dict[str, EngineRtl]) -> Parameters:
    """Parameters of fsq_expand."""
    e1, e3 = stage.expand1x1, stage.expand3x3
    depth = rtl_expand_depths(stage)
    parameters: Parameters = [
        ("IH", e3.in_shape[1]), ("IW", e3.in_shape[2]), ("IC", e3.in_shape[0]), ("K", e3.kernel), ("ROWS", e3.buffer_rows),
        ("E1_OC", e1.out_shape[0]), ("E3_OC", e3.out_shape[0]), ("E1_P_OC", e1.fold.p_oc), ("E1_P_IC", e1.fold.p_ic),
        ("E3_P_OC", e3.fold.p_oc), ("E3_P_IC", e3.fold.p_ic), ("E3_P_K", e3.fold.p_k), ("OUT_LANES", stage.out_lanes),
        ("CENTRE_DEPTH", depth.centre), ("E1_DEPTH", depth.e1), ("E3_DEPTH", depth.e3),
    ]  # fmt: skip
    if e3.fold.p_px > 1:
        parameters.append(("P_PX", e3.fold.p_px))
    parameters += _formats(e3.in_fmt, e3.out_fmt)
    for prefix, e in (("E1_", e1), ("E3_", e3)):
        parameters += _numbers(e, prefix) + _forms(e, engines, prefix) + _files(e, engines, prefix)
    return parameters


def pool_parameters(s: PoolStage) -> Parameters:
    """Parameters of fsq_max_pool."""
    top, left, bottom, right = s.padding
    return [
        ("CHANNELS", s.in_shape[0]), ("LANES", s.lanes), ("BITS", s.fmt.bits), ("SIGNED", int(s.fmt.signed)), ("IH", s.in_shape[1]),
        ("IW", s.in_shape[2]), ("K", s.kernel), ("S", s.stride), ("PAD_TOP", top), ("PAD_LEFT", left), ("PAD_BOTTOM", bottom), ("PAD_RIGHT", right),
    ]  # fmt: skip


def sum_parameters(s: GlobalSumStage, sum_bits: int) -> Parameters:
    """Parameters of fsq_global_sum; `sum_bits`: bits of a sum on the way out."""
    pixels = s.in_shape[1] * s.in_shape[2]
    own = max(s.out_fmt.bits + (0 if s.out_fmt.signed else 1), s.in_fmt.bits + (0 if s.in_fmt.signed else 1) + (pixels - 1).bit_length())
    return [
        ("CHANNELS", s.in_shape[0]), ("LANES", s.lanes), ("BITS", s.in_fmt.bits), ("SIGNED", int(s.in_fmt.signed)), ("PIXELS", pixels),
        ("SUM_BITS", min(own, sum_bits)), ("OUT_BITS", sum_bits),
    ]  # fmt: skip
