"""RTL folders for the tests: a small random machine, the embedded digit network, the real networks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fpga_squeeze import passes
from fpga_squeeze.emit.rtl import RtlOptions, emit_rtl
from fpga_squeeze.fixed_point import accumulator_range, signed_bits
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import FoldPlan
from fpga_squeeze.load.images import load_folder
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QConv, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from sim import harness

Pixels = NDArray[np.uint8]

REAL_DATA = os.environ.get("FPGA_SQUEEZE_DATA")


def require(simulator: str) -> None:
    """Skip with the reason when the simulator is missing."""
    harness.require(simulator)


def write(folder: Path, qgraph: QuantGraph, plan: FoldPlan, options: RtlOptions | None = None) -> Path:
    """Emit RTL and its simulation into `folder`."""
    for name, content in emit_rtl(qgraph, plan, options).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def random_pixels(qgraph: QuantGraph, frames: int, seed: int = 1) -> Pixels:
    """Random frames for a graph."""
    return np.random.default_rng(seed).integers(0, 256, (frames, *qgraph.input.shape), dtype=np.uint8)


def lively(qgraph: QuantGraph, pixels: Pixels) -> QuantGraph:
    """The graph with biases and shifts that keep every channel between zero and saturation, so that a wrong weight shows."""
    for index, node in enumerate(qgraph.nodes):
        op = node.op
        if not isinstance(op, QConv):
            continue
        source = pixels if node.inputs[0] == qgraph.input.name else FastSimulator(qgraph).trace(pixels)[node.inputs[0]]
        means, spreads = source.mean((0, 2, 3)), source.std((0, 2, 3))
        weight = op.weight.astype(np.float64).sum((2, 3))
        spread = np.sqrt(((op.weight.astype(np.float64) ** 2).sum((2, 3)) * spreads**2).sum(1)) + 1
        bias = (spread - (weight * means).sum(1)).astype(np.int64)
        shift = np.ceil(np.log2(4 * spread / node.fmt.qmax)).astype(np.int64)
        low, high = accumulator_range(op.weight, bias, qgraph[node.inputs[0]].fmt.qmin, qgraph[node.inputs[0]].fmt.qmax)
        changed = replace(op, bias=bias, shift=shift, acc_bits=signed_bits(int(low.min()), int(high.max())))
        qgraph = QuantGraph((*qgraph.nodes[:index], replace(node, op=changed), *qgraph.nodes[index + 1 :]), qgraph.output)
    return qgraph


def trained(model: Path, images: Path, fps: float, count: int, limit: int | None = None) -> tuple[QuantGraph, FoldPlan, Pixels]:
    """A trained network quantized on its images and folded; the first `count` of them as frames."""
    loaded = load_model(model, LoadOptions())
    graph = passes.lower(loaded.graph, loaded.preprocess)
    pixels = load_folder(images, loaded.preprocess, limit=limit).pixels
    qgraph = quantize(graph, calibrate(graph, pixels), QuantOptions())
    return qgraph, plan_machine(qgraph, 200.0, fps), pixels[:count]


def digits(fps: float, count: int) -> tuple[QuantGraph, FoldPlan, Pixels]:
    """The embedded network and `count` held-out digits, far apart in the folder."""
    qgraph, plan, _ = trained(embedded_model_path(), embedded_images("calibration"), fps, 1)
    loaded = load_model(embedded_model_path(), LoadOptions())
    return qgraph, plan, load_folder(embedded_images("test"), loaded.preprocess).pixels[:: max(1, 100 // count)][:count]


def real(version: str, fps: float, count: int) -> tuple[QuantGraph, FoldPlan, Pixels]:
    """SqueezeNet with its ImageNet weights and `count` photographs."""
    if REAL_DATA is None:
        pytest.skip("FPGA_SQUEEZE_DATA is not set: the folder with the ImageNet weights and photographs")
    folder = Path(REAL_DATA)
    return trained(folder / f"squeezenet{version.replace('.', '_')}_imagenet.pt", folder / "images", fps, count, limit=8)
