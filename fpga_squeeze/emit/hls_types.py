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
class Call:
    """One line of a dataflow body: function, template arguments included, and its stream arguments."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class EngineContext:
    """One convolution engine: constants of its configuration struct in order, and what its processes are called with. `reader`: the library function
    that reads its windows; `grouped`: several pixels at a time; `storage`: `impl` of the weights' BIND_STORAGE, empty for the synthesizer's choice."""

    ident: str
    node: str
    engine: Engine
    in_type: str
    out_type: str
    constants: tuple[tuple[str, str, int], ...]  # (C++ type, name, value)
    reader: str
    grouped: bool
    storage: str

    @property
    def with_centre(self) -> bool:
        """The reader also sends the centre tap's pixel."""
        return self.reader.endswith("_with_centre")

    @property
    def pixel_buffered(self) -> bool:
        """The reader keeps pixels and no rows: it knows no padding."""
        return self.reader == "pixel_reader"


@dataclass(frozen=True)
class PoolContext:
    """A max pool on a bypass: the name and the constants of its configuration struct in order."""

    ident: str
    value_type: str
    constants: tuple[tuple[str, str, int], ...]  # (C++ type, name, value)


@dataclass(frozen=True)
class StageContext:
    """One stage: `kind` is conv, expand, pool, sum, add or concat. `constants` and the library `function` are those of all but the first two; `engines` a
    conv's one, an expand's 1x1 and KxK or those on a bypass, `pools` the pools there; `streams` and `calls` the dataflow between their processes.
    `bypass_word`, `bypass_type`: an addition's or concat's second input and second operand, empty elsewhere."""

    kind: str
    ident: str
    name: str
    in_type: str
    out_type: str
    in_word: str
    out_word: str
    describe: str = ""
    engines: tuple[EngineContext, ...] = ()
    pools: tuple[PoolContext, ...] = ()
    constants: tuple[tuple[str, str, int], ...] = ()
    function: str = ""
    streams: tuple[Stream, ...] = ()
    calls: tuple[Call, ...] = ()
    bypass_word: str = ""
    bypass_type: str = ""


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
    bypass_lanes: int = 0
    bypass_file: str = ""
    bypass_shape: Shape = (0, 0, 0)


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
    def bypassed(self) -> bool:
        """Some stream is forked and met again."""
        return any(s.bypass_word for s in self.stages)

    @property
    def stages(self) -> tuple[StageContext, ...]:
        """All stages in stream order."""
        return tuple(s for m in self.modules for s in m.stages)
