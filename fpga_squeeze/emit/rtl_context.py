"""What the RTL templates print: instances of the library with their parameters, and the streams that join them. Computed and checked here."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.emit.hls_context import HlsOptions, configuration_digest
from fpga_squeeze.emit.idents import Namer, checked_identifier
from fpga_squeeze.emit.load_image import LOAD_IDS, header, load_memories, payload_bytes
from fpga_squeeze.emit.rtl_parameters import (
    STYLES,
    EngineRtl,
    add_parameters,
    bypass_parameters,
    concat_parameters,
    conv_parameters,
    expand_parameters,
    pool_parameters,
    sum_parameters,
)
from fpga_squeeze.emit.rtl_parameters import memory_name as memory_name
from fpga_squeeze.emit.rtl_side import SideRtl, engine_text, literals, pool_text, rtl_side, shape_text, side_text
from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.bypass import rtl_bypass_depth
from fpga_squeeze.hardware.fifo_rtl import rtl_expand_depths, rtl_link_depth
from fpga_squeeze.hardware.packing import pack
from fpga_squeeze.hardware.plan import (
    AddStage,
    ConcatStage,
    ConvStage,
    Engine,
    ExpandStage,
    FoldPlan,
    GlobalSumStage,
    JoinStage,
    Link,
    PoolStage,
    Stage,
)
from fpga_squeeze.hardware.structure import bypass_lanes
from fpga_squeeze.quantize.qgraph import QuantGraph

INDEX_BITS = 32
"""Bits of a class index in the top-k output."""

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
    come over the load bus, which the module then has as a port. `bypass_bits`: bits of a beat of the second input, 0 where there is none. `side`: what
    works on the second input before it reaches `library`, in stream order.
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
    side: tuple[SideRtl, ...] = ()

    @property
    def operand(self) -> str:
        """The stream inside the module that `library` takes as its second input."""
        return self.side[-1].ident if self.side else "s_bypass_axis"


@dataclass(frozen=True)
class StreamRtl:
    """One link: `ident`_tdata and so on at the producer, then a converter where lanes differ, then a FIFO before the consumer.

    `bits` of a channel; `last` is the class sums' stream, which carries tlast. `bypasses`: links forked off it, in a general plan main inputs too, each by a
    fork of its own between `source`, which the producer drives, and `ident`. `style`: STYLE of its FIFO where that is not the library's default.
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
class LoaderRtl:
    """Parameters of fsq_loader: memories, its table and the image's header as literals; `bytes` of a whole image."""

    memories: int
    table: str
    header: str
    bytes: int


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

    def out_of(self, stage: str) -> StreamRtl:
        """The first link that module `stage` drives."""
        return next(s for s in self.all_streams if s.producer == stage)

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
    style = STYLES["bram"] if (bypass or plan.general) and pack(link.out_lanes * link.fmt.bits, depth, rom=False).bram18 else 0
    return StreamRtl(
        ident=link.name, tensor=link.tensor, producer=idents.get(link.producer, link.producer), consumer=idents.get(link.consumer, link.consumer),
        channels=link.shape[0], bits=sum_bits if final else link.fmt.bits, in_lanes=link.in_lanes, out_lanes=link.out_lanes,
        depth=depth, first=link is plan.links[0], last=final, bypasses=tuple(b.name for b in plan.forked_off(link)), style=style,
    )  # fmt: skip


def _stage(stage: Stage, plan: FoldPlan, ident: str, engines: dict[str, EngineRtl], sum_bits: int) -> StageRtl:
    into, outof = plan.link_into(stage.name), plan.link_from(stage.name)
    extra: tuple[tuple[str, int], ...] = ()
    side: tuple[SideRtl, ...] = ()
    if isinstance(stage, ConvStage):
        library, parameters, extra = "fsq_conv_engine", conv_parameters(stage.engine, engines), (("high_water", 16),)
        describe = f"{engine_text(stage.engine)}, {stage.engine.cycles} cycles a frame"
    elif isinstance(stage, ExpandStage):
        library, parameters = "fsq_expand", expand_parameters(stage, engines)
        extra = tuple((f"{n}_high_water", 16) for n in ("centre", "e1", "e3"))
        describe = f"{engine_text(stage.expand1x1)}; {engine_text(stage.expand3x3)}; {stage.cycles} cycles a frame"
    elif isinstance(stage, PoolStage):
        library, parameters = "fsq_max_pool", pool_parameters(stage)
        describe = pool_text(stage)
    elif isinstance(stage, AddStage) and len(stage.side) == 1 and isinstance(stage.side[0], ConvStage):
        engine = stage.side[0].engine
        library, parameters, extra = "fsq_conv_adder", bypass_parameters(engine, engines) + add_parameters(stage), (("high_water", 16),)
        describe = f"sum of {into.tensor} and {plan.bypass_into(stage.name).tensor}, {shape_text(stage.in_shape)}; on the bypass {engine_text(engine)}"
    elif isinstance(stage, JoinStage):
        add = isinstance(stage, AddStage)
        library, parameters = ("fsq_adder", add_parameters(stage)) if isinstance(stage, AddStage) else ("fsq_concat_pack", concat_parameters(stage))
        side = rtl_side(stage, engines)
        operands = (into.tensor, plan.bypass_into(stage.name).tensor)
        if isinstance(stage, ConcatStage) and not stage.main_first:
            operands = operands[::-1]
        describe = f"{'sum' if add else 'concat'} of {operands[0]} and {operands[1]}, {shape_text(stage.out_shape)}"
        describe += "".join(f"; on the bypass {side_text(s)}" for s in stage.side)
    else:
        library, parameters = "fsq_global_sum", sum_parameters(stage, sum_bits)
        describe = f"sum of every channel over {stage.in_shape[1]}x{stage.in_shape[2]} pixels"
    out_bits = sum_bits if isinstance(stage, GlobalSumStage) else outof.in_lanes * outof.fmt.bits
    return StageRtl(
        ident=ident, name=stage.name, library=library, describe=describe, parameters=literals(parameters),
        extra=extra, in_bits=into.out_lanes * into.fmt.bits, out_bits=out_bits, has_last=isinstance(stage, GlobalSumStage),
        has_memories=bool(stage.engines), loaded=any(e.loaded for e in stage.engines),
        bypass_bits=bypass_lanes(stage) * plan.bypass_into(stage.name).fmt.bits if isinstance(stage, JoinStage) else 0, side=side,
    )  # fmt: skip
