"""The typed contexts that the HLS templates print; emit/hls_context.py fills them."""

from __future__ import annotations

from dataclasses import dataclass

from fpga_squeeze.hardware.plan import Engine
from fpga_squeeze.ir import Shape


@dataclass(frozen=True)
class HlsOptions:
    """Options of the HLS emission: the top function's name, the FPGA part of the Vitis scripts, and the configuration digest of the
    banners (computed from plan and network when empty)."""

    top: str = "squeezenet"
    part: str = "xck26-sfvc784-2LV-c"
    digest: str = ""


@dataclass(frozen=True)
class Stream:
    """A local hls::stream: its name, the C++ type of a beat and its FIFO depth in beats."""

    name: str
    type: str
    depth: int


@dataclass(frozen=True)
class Converter:
    """A width converter call: `function` is fsq::split_beats, merge_beats or regroup_beats with its template arguments."""

    function: str
    source: str
    target: str


@dataclass(frozen=True)
class EngineContext:
    """One convolution engine: constants of its configuration struct in order, and what its two processes are called with."""

    ident: str
    node: str
    engine: Engine
    in_type: str
    out_type: str
    constants: tuple[tuple[str, str, int], ...]  # (C++ type, name, value)
    pixel_buffered: bool
    with_centre: bool


@dataclass(frozen=True)
class StageContext:
    """One stage: `kind` is conv, expand, pool or sum. `constants` are a pool's or sum's; `engines` a conv's one or an expand's 1x1 and KxK;
    `streams`, `converters` and `channels` (of the two branches) an expand's; `function` the library function of a pool or sum."""

    kind: str
    ident: str
    name: str
    in_type: str
    out_type: str
    in_word: str
    out_word: str
    out_lanes: int
    pixels: int
    describe: str = ""
    engines: tuple[EngineContext, ...] = ()
    constants: tuple[tuple[str, str, int], ...] = ()
    function: str = ""
    streams: tuple[Stream, ...] = ()
    converters: tuple[Converter, ...] = ()
    channels: tuple[int, ...] = ()

    @property
    def ends(self) -> dict[str, str]:
        """The consumer's end of an expand stage's inner streams: behind the width converter where there is one."""
        return {"centre": "centre", "out_1x1": "out_1x1", "out_kxk": "out_kxk"} | {c.source: c.target for c in self.converters}


@dataclass(frozen=True)
class Call:
    """One line of a dataflow body: function, template arguments included, and its stream arguments."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class ModuleContext:
    """One source file: its stages and, when there are several, the dataflow function `ident` that joins them."""

    ident: str
    name: str
    stages: tuple[StageContext, ...]
    streams: tuple[Stream, ...]
    calls: tuple[Call, ...]
    in_word: str
    out_word: str
    in_lanes: int
    out_lanes: int

    @property
    def joined(self) -> bool:
        """More than one stage."""
        return len(self.stages) > 1


@dataclass(frozen=True)
class CheckContext:
    """One stage as the testbench sees it: which tensors go in and come out, and in how many lanes."""

    name: str
    ident: str
    in_word: str
    out_word: str
    in_lanes: int
    out_lanes: int
    in_file: str
    out_file: str
    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True)
class DesignContext:
    """The whole HLS design."""

    top: str
    part: str
    period_ns: str
    digest: str
    modules: tuple[ModuleContext, ...]
    streams: tuple[Stream, ...]
    calls: tuple[Call, ...]
    checks: tuple[CheckContext, ...]
    in_channels: int
    in_bits: int
    in_pixels: int
    out_bits: int
    classes: int
    sum_type: str
    in_file: str
    out_file: str
    in_shape: Shape

    @property
    def stages(self) -> tuple[StageContext, ...]:
        """All stages in stream order."""
        return tuple(s for m in self.modules for s in m.stages)
