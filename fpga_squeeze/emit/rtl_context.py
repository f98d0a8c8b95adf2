"""What the RTL templates print: instances of the library with their parameters, and the streams that join them. Computed and checked here."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.emit.hls_context import HlsOptions, configuration_digest
from fpga_squeeze.emit.idents import Namer, checked_identifier
from fpga_squeeze.emit.load_image import LOAD_IDS, header, load_memories, payload_bytes
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.fifo_rtl import rtl_expand_depths, rtl_link_depth
from fpga_squeeze.hardware.packing import pack
from fpga_squeeze.hardware.plan import AddStage, ConvStage, Engine, ExpandStage, FoldPlan, GlobalSumStage, Link, PoolStage, Stage
from fpga_squeeze.quantize.qgraph import QuantGraph

INDEX_BITS = 32
"""Bits of a class index in the top-k output."""

INTEGER_BITS = 31
"""Non-negative parameters up to here are printed in decimal; wider ones as sized hexadecimal."""


@dataclass(frozen=True)
class RtlOptions:
    """Options of the RTL emission.

    `top`: the top module's name. `part`: the FPGA part that build_vivado.tcl starts from. `digest`: the configuration digest of the banners
    (computed from plan and network when empty). `top_k`: 0 sends every class sum; K > 0 sends the K best, {class index, sum} a beat.
    """

    top: str = "squeezenet"
    part: str = "xck26-sfvc784-2LV-c"
    digest: str = ""
    top_k: int = 0


@dataclass(frozen=True)
class Memory:
    """A $readmemh file below weights/: its rows and the bits of one."""

    file: str
    rows: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class Mark:
    """A FIFO whose largest occupancy the simulation reports: `signal` below the top instance, `depth` in beats."""

    name: str
    signal: str
    depth: int


@dataclass(frozen=True)
class StageRtl:
    """One stage: module `ident` in a file of its own, an instance of library module `library`.

    `parameters` are (name, literal) in the library's order; `extra` are library outputs that stay inside (name, bits). `loaded`: an engine's memories
    come over the load bus, which the module then has as a port. `bypass_bits`: bits of a beat of the second input, 0 where there is none.
    """

    ident: str
    name: str
    library: str
    describe: str
    parameters: tuple[tuple[str, str], ...]
    extra: tuple[tuple[str, int], ...]
    in_bits: int
    out_bits: int
    has_last: bool
    has_memories: bool
    loaded: bool
    bypass_bits: int = 0


@dataclass(frozen=True)
class StreamRtl:
    """One link: `ident`_tdata and so on at the producer, then a converter where lanes differ, then a FIFO before the consumer.

    `bits` of a channel; `last` is the class sums' stream, which carries tlast. `bypasses`: links forked off it, each by a fork of its own between
    `source`, which the producer drives, and `ident`. `style`: STYLE of its FIFO where that is not the library's default.
    """

    ident: str
    tensor: str
    producer: str
    consumer: str
    channels: int
    bits: int
    in_lanes: int
    out_lanes: int
    depth: int
    first: bool
    last: bool
    bypasses: tuple[str, ...] = ()
    style: int = 0

    @property
    def source(self) -> str:
        """The stream that the producer drives."""
        return self.forks[0][0] if self.bypasses else self.ident

    @property
    def forks(self) -> tuple[tuple[str, str, str], ...]:
        """(input, main output, bypass) of each fork, in order."""
        inner = [f"{self.ident}_fork{i}" for i in range(len(self.bypasses))]
        return tuple(zip(inner, [*inner, self.ident][1:], self.bypasses, strict=True))

    @property
    def converted(self) -> bool:
        """A width converter sits on the link."""
        return self.in_lanes != self.out_lanes

    @property
    def in_bits(self) -> int:
        """Bits of a beat at the producer."""
        return self.in_lanes * self.bits

    @property
    def out_bits(self) -> int:
        """Bits of a beat at the consumer."""
        return self.out_lanes * self.bits

    @property
    def fifo_bits(self) -> int:
        """Bits of a FIFO word: the beat, and tlast where there is one."""
        return self.out_bits + int(self.last)

    @property
    def fifo_source(self) -> str:
        """The stream that the FIFO takes."""
        return f"{self.ident}_wide" if self.converted else self.ident


@dataclass(frozen=True)
class EngineRtl:
    """What an engine's memories are called: `ident`, the stem of their files, and `load_id`, the number of the first of the three on the load bus."""

    ident: str
    load_id: int


@dataclass(frozen=True)
class LoaderRtl:
    """Parameters of fsq_loader: memories, its table and the image's header as literals; `bytes` of a whole image."""

    memories: int
    table: str
    header: str
    bytes: int


STYLES = {"auto": 0, "lut": 1, "bram": 2, "uram": 3}
"""STYLE of fsq_parameter_memory for a plan's weight_storage."""

PACKS = {"none": 0, "channels": 1, "pixels": 2}
"""PACK of fsq_mvu for a plan's packing."""


@dataclass(frozen=True)
class RtlDesign:
    """The whole RTL design. `sum_bits`: bits of a class sum on m_axis; `out_bits`: bits of an m_axis beat. `loader`: None without loaded weights."""

    top: str
    part: str
    digest: str
    stages: tuple[StageRtl, ...]
    streams: tuple[StreamRtl, ...]
    bypasses: tuple[StreamRtl, ...]
    marks: tuple[Mark, ...]
    engines: tuple[tuple[str, EngineRtl], ...]  # by node, in stream order
    in_bits: int
    pixels: int
    classes: int
    sum_bits: int
    top_k: int
    index_bits: int
    period_ns: str
    loader: LoaderRtl | None

    @property
    def all_streams(self) -> tuple[StreamRtl, ...]:
        """The chain's links, then the bypasses."""
        return (*self.streams, *self.bypasses)

    def bypass_into(self, stage: str) -> StreamRtl:
        """The bypass that module `stage` takes in."""
        return next(b for b in self.bypasses if b.consumer == stage)

    @property
    def out_bits(self) -> int:
        """Bits of an m_axis beat."""
        return self.sum_bits + (self.index_bits if self.top_k else 0)

    @property
    def files(self) -> bool:
        """Some memory has a $readmemh file."""
        return any(value.startswith("{WEIGHTS") for stage in self.stages for _, value in stage.parameters)

    @property
    def out_beats(self) -> int:
        """Beats of m_axis a frame."""
        return self.top_k or self.classes


def rtl_design(qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions) -> RtlDesign:
    """Everything the RTL templates print. Raises InputError when plan and network do not fit, or a name or option is unusable."""
    _check(qgraph, plan, options)
    first, last = plan.links[0], plan.links[-1]
    namer = Namer()
    namer.take(options.top)
    idents = {s.name: namer.take(s.name) for s in plan.stages}
    in_order = [(s, e) for s in plan.stages for e in s.engines]
    engines = {e.node: EngineRtl(_engine_ident(s, e, idents, namer), LOAD_IDS * i) for i, (s, e) in enumerate(in_order)}
    sum_bits = output_bits(last.fmt)
    stages = tuple(_stage(s, plan, idents[s.name], engines, sum_bits) for s in plan.stages)
    streams = tuple(_stream(link, plan, idents, sum_bits) for link in plan.links)
    bypasses = tuple(_stream(link, plan, idents, sum_bits) for link in plan.bypasses)
    marks = [Mark(stream.ident, f"{stream.ident}_fifo.high_water", stream.depth) for stream in (*streams, *bypasses)]
    for stage in plan.stages:
        if isinstance(stage, ExpandStage):
            depth = rtl_expand_depths(stage)
            instance = f"{idents[stage.name]}_stage.engine"
            named = (("centre", depth.centre), ("e1", depth.e1), ("e3", depth.e3))
            marks += [Mark(f"{stage.name}.{n}", f"{instance}.{n}_high_water", beats) for n, beats in named]
    digest = options.digest or configuration_digest(qgraph, plan, HlsOptions(options.top, options.part))
    return RtlDesign(
        top=options.top, part=options.part, digest=digest, stages=stages, streams=streams, bypasses=bypasses, marks=tuple(marks),
        engines=tuple(engines.items()), in_bits=first.shape[0] * first.fmt.bits, pixels=first.shape[1] * first.shape[2],
        classes=last.shape[0], sum_bits=sum_bits, top_k=options.top_k, index_bits=INDEX_BITS, period_ns=f"{1000.0 / plan.clock_mhz:.3f}",
        loader=_loader(qgraph, plan),
    )  # fmt: skip


def _loader(qgraph: QuantGraph, plan: FoldPlan) -> LoaderRtl | None:
    memories = load_memories(plan)
    if not memories:
        return None
    table = "".join(f"{m.entry:012x}" for m in reversed(memories))
    start = header(qgraph, plan)
    return LoaderRtl(len(memories), f"{48 * len(memories)}'h{table}", f"128'h{start[::-1].hex()}", len(start) + payload_bytes(plan) + 4)


def output_bits(fmt: TensorFormat) -> int:
    """Bits of a class sum on m_axis: a signed 32-bit word, or 64 when the sums need more.

    >>> output_bits(TensorFormat(19, 4, signed=True)), output_bits(TensorFormat(40, 4, signed=True))
    (32, 64)
    """
    bits = fmt.bits + (0 if fmt.signed else 1)
    if bits > 64:
        raise InputError(f"class sums of {bits} bits: at most 64 were expected; quantize with fewer bits")
    return 64 if bits > 32 else 32


def memory_name(engine_ident: str, kind: str) -> str:
    """File name of one of an engine's memories: kind is weights, bias or shift."""
    return f"{engine_ident}_{kind}.hex"


def _engine_ident(stage: Stage, engine: Engine, idents: dict[str, str], namer: Namer) -> str:
    return idents[stage.name] if stage.name == engine.node else namer.take(engine.node)


def _check(qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions) -> None:
    checked_identifier(options.top, "the top module's name")
    if options.top.startswith(("fsq_", "tb_")):
        raise InputError(f"the top module's name {options.top!r} begins like a library module; any other name was expected")
    for link in (*plan.links, *plan.bypasses):
        if link.tensor not in qgraph.by_name:
            raise InputError(f"plan: link {link.name} carries {link.tensor!r}, which is no layer of the network; plan it again")
        checked_identifier(link.name, "the link")
    classes = plan.links[-1].shape[0]
    if not 0 <= options.top_k <= classes:
        raise InputError(f"top-k output: 1 to {classes} classes (0 for every class sum) were expected, got {options.top_k}")
    for stage in plan.stages:
        if isinstance(stage, ExpandStage) and any(stage.expand3x3.pad_value):
            raise InputError(f"layer {stage.expand3x3.node}: an expand pair pads with zeros only, got {stage.expand3x3.pad_value}")


def _stream(link: Link, plan: FoldPlan, idents: dict[str, str], sum_bits: int) -> StreamRtl:
    final = link is plan.links[-1]
    bypass = link in plan.bypasses
    depth = rtl_bypass_depth(plan, link) if bypass else rtl_link_depth(plan, link)
    # A bypass as deep as rows of a map lies in block RAM, where hardware/packing.py counts it.
    style = STYLES["bram"] if bypass and pack(link.out_lanes * link.fmt.bits, depth, rom=False).bram18 else 0
    return StreamRtl(
        ident=link.name, tensor=link.tensor, producer=idents.get(link.producer, link.producer), consumer=idents.get(link.consumer, link.consumer),
        channels=link.shape[0], bits=sum_bits if final else link.fmt.bits, in_lanes=link.in_lanes, out_lanes=link.out_lanes,
        depth=depth, first=link is plan.links[0], last=final, bypasses=() if bypass or final else tuple(b.name for b in plan.bypasses_of(link)), style=style,
    )  # fmt: skip


def _stage(stage: Stage, plan: FoldPlan, ident: str, engines: dict[str, EngineRtl], sum_bits: int) -> StageRtl:
    into, outof = plan.link_into(stage.name), plan.link_from(stage.name)
    extra: tuple[tuple[str, int], ...] = ()
    if isinstance(stage, ConvStage):
        library, parameters, extra = "fsq_conv_engine", _conv(stage.engine, engines), (("high_water", 16),)
        describe = f"{_engine_text(stage.engine)}, {stage.engine.cycles} cycles a frame"
    elif isinstance(stage, ExpandStage):
        library, parameters = "fsq_expand", _expand(stage, engines)
        extra = tuple((f"{n}_high_water", 16) for n in ("centre", "e1", "e3"))
        describe = f"{_engine_text(stage.expand1x1)}; {_engine_text(stage.expand3x3)}; {stage.cycles} cycles a frame"
    elif isinstance(stage, PoolStage):
        library, parameters = "fsq_max_pool", _pool(stage)
        describe = f"max pool {stage.kernel}x{stage.kernel}/{stage.stride}, {_shape(stage.in_shape)} to {_shape(stage.out_shape)}"
    elif isinstance(stage, AddStage):
        library, parameters = ("fsq_adder", []) if stage.engine is None else ("fsq_conv_adder", _bypass_conv(stage.engine, engines))
        parameters = parameters + _add(stage)
        extra = () if stage.engine is None else (("high_water", 16),)
        describe = f"sum of {into.tensor} and {plan.bypass_into(stage.name).tensor}, {_shape(stage.in_shape)}"
        describe += f"; on the bypass {_engine_text(stage.engine)}" if stage.engine else ""
    else:
        library, parameters = "fsq_global_sum", _sum(stage, sum_bits)
        describe = f"sum of every channel over {stage.in_shape[1]}x{stage.in_shape[2]} pixels"
    out_bits = sum_bits if isinstance(stage, GlobalSumStage) else outof.in_lanes * outof.fmt.bits
    return StageRtl(
        ident=ident, name=stage.name, library=library, describe=describe, parameters=tuple((n, _literal(v)) for n, v in parameters),
        extra=extra, in_bits=into.out_lanes * into.fmt.bits, out_bits=out_bits, has_last=isinstance(stage, GlobalSumStage),
        has_memories=bool(stage.engines), loaded=any(e.loaded for e in stage.engines),
        bypass_bits=stage.bypass_lanes * plan.bypass_into(stage.name).fmt.bits if isinstance(stage, AddStage) else 0,
    )  # fmt: skip


def _shape(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _engine_text(e: Engine) -> str:
    return (
        f"{e.node}: {e.kernel}x{e.kernel}/{e.stride}, {_shape(e.in_shape)} to {_shape(e.out_shape)}, "
        f"{e.fold.p_oc} x {e.fold.p_ic} x {e.fold.p_k} multipliers{f' for each of {e.fold.p_px} pixels' if e.fold.p_px > 1 else ''}"
    )


class _File(str):
    """A memory file's name: printed behind the folder parameter."""


def _literal(value: int | _File) -> str:
    if isinstance(value, _File):
        return f'{{WEIGHTS, "{value}"}}'
    return str(value) if value.bit_length() <= INTEGER_BITS else f"{value.bit_length()}'h{value:x}"


Parameters = list[tuple[str, "int | _File"]]


def _files(e: Engine, engines: dict[str, EngineRtl], prefix: str = "") -> Parameters:
    """The memories an engine reads; one shift for all channels needs none, nor does what is loaded."""
    if e.loaded:
        return []
    kinds = [("WEIGHT", "weights"), ("BIAS", "bias"), *([("SHIFT", "shift")] if e.shift_bits else [])]
    return [(f"{prefix}{kind}_FILE", _File(memory_name(engines[e.node].ident, name))) for kind, name in kinds]


def _numbers(e: Engine, prefix: str = "") -> Parameters:
    return [
        (f"{prefix}WEIGHT_BITS", e.weight_bits), (f"{prefix}ACC_BITS", e.acc_bits), (f"{prefix}BIAS_BITS", e.bias_bits),
        (f"{prefix}SHIFT_MIN", e.shift_min), (f"{prefix}SHIFT_MAX", e.shift_max),
    ]  # fmt: skip


def _forms(e: Engine, engines: dict[str, EngineRtl], prefix: str = "") -> Parameters:
    """Packing, storage and loading, where they are not the library's defaults."""
    found: Parameters = []
    if e.packing != "none":
        found += [(f"{prefix}PACK", PACKS[e.packing]), (f"{prefix}PACK_SHIFT", e.pack_shift)]
    if e.weight_storage != "auto":
        found.append((f"{prefix}STYLE", STYLES[e.weight_storage]))
    if e.loaded:
        found += [(f"{prefix}LOADED", 1), (f"{prefix}LOAD_ID", engines[e.node].load_id)]
    return found


def _formats(into: TensorFormat, out: TensorFormat) -> Parameters:
    return [("ACT_BITS", into.bits), ("ACT_SIGNED", int(into.signed)), ("OUT_BITS", out.bits), ("OUT_SIGNED", int(out.signed))]


def _conv(e: Engine, engines: dict[str, EngineRtl]) -> Parameters:
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


def _bypass_conv(e: Engine, engines: dict[str, EngineRtl]) -> Parameters:
    """The engine's parameters under the names of fsq_conv_adder: its output is the adder's second operand."""
    names = {"ACT_BITS": "IN_BITS", "ACT_SIGNED": "IN_SIGNED", "OUT_BITS": "B_BITS", "OUT_SIGNED": "B_SIGNED"}
    own = [("OC", e.out_shape[0]), *((names.get(n, n), v) for n, v in _conv(e, engines))]
    return [(n, v) for n, v in own if not n.startswith("B_")]


def _add(s: AddStage) -> Parameters:
    return [
        ("LANES", s.lanes), ("A_BITS", s.in_fmt.bits), ("A_SIGNED", int(s.in_fmt.signed)), ("B_BITS", s.bypass_fmt.bits),
        ("B_SIGNED", int(s.bypass_fmt.signed)), ("ALIGN_A", s.align[0]), ("ALIGN_B", s.align[1]), ("SHIFT", s.shift),
        ("OUT_BITS", s.out_fmt.bits), ("OUT_SIGNED", int(s.out_fmt.signed)),
    ]  # fmt: skip


def _expand(stage: ExpandStage, engines: dict[str, EngineRtl]) -> Parameters:
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


def _pool(s: PoolStage) -> Parameters:
    top, left, bottom, right = s.padding
    return [
        ("CHANNELS", s.in_shape[0]), ("LANES", s.lanes), ("BITS", s.fmt.bits), ("SIGNED", int(s.fmt.signed)), ("IH", s.in_shape[1]),
        ("IW", s.in_shape[2]), ("K", s.kernel), ("S", s.stride), ("PAD_TOP", top), ("PAD_LEFT", left), ("PAD_BOTTOM", bottom), ("PAD_RIGHT", right),
    ]  # fmt: skip


def _sum(s: GlobalSumStage, sum_bits: int) -> Parameters:
    pixels = s.in_shape[1] * s.in_shape[2]
    own = max(s.out_fmt.bits + (0 if s.out_fmt.signed else 1), s.in_fmt.bits + (0 if s.in_fmt.signed else 1) + (pixels - 1).bit_length())
    return [
        ("CHANNELS", s.in_shape[0]), ("LANES", s.lanes), ("BITS", s.in_fmt.bits), ("SIGNED", int(s.in_fmt.signed)), ("PIXELS", pixels),
        ("SUM_BITS", min(own, sum_bits)), ("OUT_BITS", sum_bits),
    ]  # fmt: skip
