"""Small random quantized networks and export folders for the HLS tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.emit.golden import golden_files
from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.emit.hls_types import HlsOptions
from fpga_squeeze.fixed_point import TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.plan import ConvStage, Engine, EngineFold, ExpandStage, FoldPlan, Link, Stage
from fpga_squeeze.hardware.structure import build_skeleton, stage_in_lanes, stage_out_lanes
from fpga_squeeze.ir import Padding, window_count
from fpga_squeeze.quantize.qgraph import QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph
from fpga_squeeze.simulate.reference import run_reference
from fpga_squeeze.verify.csim import run_csim


@dataclass
class NetBuilder:
    """Adds random layers one after the other; `shift_spread` widens the range of per-channel shifts."""

    seed: int = 0
    nodes: list[QNode] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def image(self, channels: int, height: int, width: int) -> str:
        self.nodes.append(QNode("image", QInput(), (), (channels, height, width), TensorFormat(8, 0, signed=False)))
        return "image"

    def _node(self, name: str) -> QNode:
        return next(n for n in self.nodes if n.name == name)

    def conv(
        self, name: str, source: str, out: int, kernel: int, stride: int = 1, padding: Padding = (0, 0, 0, 0), *, weight_bits: int = 8,
        fmt: TensorFormat | None = None, spread: int = 2, pad_values: bool = False, shift_offset: int = 0,
    ) -> str:  # fmt: skip
        before = self._node(source)
        channels, height, width = before.shape
        top = (1 << (weight_bits - 1)) - 1
        weight = self.rng.integers(-top - 1, top + 1, (out, channels, kernel, kernel)).astype(np.int32)
        bias = self.rng.integers(-(1 << (weight_bits + 4)), 1 << (weight_bits + 4), out).astype(np.int64)
        low, high = accumulator_range(weight, bias, before.fmt.qmin, before.fmt.qmax)
        fmt = fmt or TensorFormat(8, 4, signed=False)
        typical = int(np.log2(max(1, int(np.max(high))))) - fmt.bits - 1 + shift_offset
        shift = (typical + self.rng.integers(0, spread + 1, out)).astype(np.int64)
        pads = tuple(int(v) for v in self.rng.integers(before.fmt.qmin, before.fmt.qmax + 1, channels)) if pad_values else (0,) * channels
        t, le, b, r = padding
        shape = (out, window_count(height, kernel, stride, t, b), window_count(width, kernel, stride, le, r))
        op = QConv(
            weight, weight_bits, np.zeros(out, np.int64), bias, shift, stride, padding, pads, signed_bits(int(np.min(low)), int(np.max(high)))
        )
        self.nodes.append(QNode(name, op, (source,), shape, fmt))
        return name

    def pool(self, name: str, source: str, kernel: int, stride: int, padding: Padding = (0, 0, 0, 0)) -> str:
        before = self._node(source)
        c, h, w = before.shape
        t, le, b, r = padding
        shape = (c, window_count(h, kernel, stride, t, b), window_count(w, kernel, stride, le, r))
        self.nodes.append(QNode(name, QMaxPool(kernel, stride, padding), (source,), shape, before.fmt))
        return name

    def fire(self, name: str, source: str, squeeze: int, one: int, three: int, **options: object) -> str:
        s = self.conv(f"{name}.squeeze", source, squeeze, 1, **options)  # type: ignore[arg-type]
        a = self.conv(f"{name}.expand1x1", s, one, 1, **options)  # type: ignore[arg-type]
        b = self.conv(f"{name}.expand3x3", s, three, 3, padding=(1, 1, 1, 1), **options)  # type: ignore[arg-type]
        shape = (one + three, *self._node(a).shape[1:])
        self.nodes.append(QNode(f"{name}.concat", QConcat(), (a, b), shape, self._node(a).fmt))
        return f"{name}.concat"

    def finish(self, source: str, name: str = "pool10") -> QuantGraph:
        c, h, w = self._node(source).shape
        fmt = self._node(source).fmt
        bits = max(fmt.bits, signed_bits(fmt.qmin * h * w, fmt.qmax * h * w))
        self.nodes.append(QNode(name, QGlobalSum(), (source,), (c, 1, 1), TensorFormat(bits, fmt.frac, signed=True)))
        return QuantGraph(tuple(self.nodes), name)


def frames_for(qgraph: QuantGraph, count: int, seed: int = 1) -> NDArray[np.uint8]:
    """Random pixels, uint8 (N, C, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *qgraph.input.shape), dtype=np.uint8)


def traces_for(qgraph: QuantGraph, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """The definition's tensors for each frame, stacked: (N, C, H, W) by node."""
    runs = [run_reference(qgraph, frame) for frame in frames]
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


def write_export(folder: Path, qgraph: QuantGraph, plan: FoldPlan, frames: NDArray[np.uint8], top: str = "squeezenet") -> Path:
    """HLS sources and golden data of one network below `folder`."""
    files = emit_hls(qgraph, plan, HlsOptions(top=top)) | golden_files(qgraph, plan, frames, traces_for(qgraph, frames))
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def hand_plan(
    qgraph: QuantGraph, folds: dict[str, tuple[int, ...]], lanes: dict[str, int] | None = None, *, one_module: bool = False
) -> FoldPlan:
    """A plan with exactly these folds (P_oc, P_ic, P_k and, where not 1, P_px by node; ones where absent) and lanes (by pool, sum or concat), dividing or not.

    `one_module` puts all stages into one source file, which compiles faster.
    """
    skeleton = build_skeleton(qgraph)
    lanes = lanes or {}

    def folded(engine: Engine) -> Engine:
        return replace(engine, fold=EngineFold(*folds.get(engine.node, (1, 1, 1))))

    stages: list[Stage] = []
    for stage in skeleton.stages:
        if isinstance(stage, ConvStage):
            stage = replace(stage, engine=folded(stage.engine))
        elif isinstance(stage, ExpandStage):
            stage = replace(stage, expand1x1=folded(stage.expand1x1), expand3x3=folded(stage.expand3x3), out_lanes=lanes.get(stage.concat, 1))
        else:
            stage = replace(stage, lanes=lanes.get(stage.node, 1))
        stages.append(replace(stage, module="net") if one_module else stage)
    tensors = (qgraph.input.name, *skeleton.tensors)
    links = []
    for i, tensor in enumerate(tensors):
        node = qgraph[tensor]
        producer, consumer = (stages[i - 1] if i else None), (stages[i] if i < len(stages) else None)
        in_lanes = stage_out_lanes(producer) if producer else node.shape[0]
        out_lanes = stage_in_lanes(consumer) if consumer else 1
        ends = (producer.name if producer else "s_axis", consumer.name if consumer else "m_axis")
        links.append(Link(tensor.replace(".", "_"), *ends, tensor, node.shape, node.fmt, in_lanes, out_lanes, 2))
    return FoldPlan(tuple(stages), tuple(links), 200.0, 1)


def refold(plan: FoldPlan, qgraph: QuantGraph, change: Callable[[Engine], Engine]) -> FoldPlan:
    """`plan` with `change` made to every engine, legal and with the links that follow, in one source file, which compiles faster."""
    skeleton = build_skeleton(qgraph)
    stages: list[Stage] = []
    for stage in plan.stages:
        if isinstance(stage, ConvStage):
            stage = replace(stage, engine=change(stage.engine))
        elif isinstance(stage, ExpandStage):
            stage = replace(stage, expand1x1=change(stage.expand1x1), expand3x3=change(stage.expand3x3))
        stages.append(replace(stage, module="net"))
    return assemble(qgraph, skeleton, tuple(stages), plan.clock_mhz, plan.target_cycles)


def equal_at_every_stage(folder: Path, qgraph: QuantGraph, plan: FoldPlan) -> None:
    """Write an export of two frames into `folder`; its C simulation equals the simulator at every stage and at the top."""
    write_export(folder, qgraph, plan, frames_for(qgraph, 2))
    result = run_csim(folder, optimize="-O0")
    assert result.ok, (result.first_failure, result.faults)
    assert [row.stage for row in result.rows] == [*(s.name for s in plan.stages), "squeezenet"]


def wrong_stages(folder: Path, path: Path, old: str, new: str) -> list[str]:
    """The stages that C simulation finds wrong once `old`, which stands in `path` once, is `new`."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return [row.stage for row in run_csim(folder, optimize="-O0").rows if not row.ok]
