"""Holds an imported float graph against the model it came from, run by its own framework: nothing may have been lost or misread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.features import from_map, to_map
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.load.source import F32, SourceModel, Tap
from fpga_squeeze.quantize.qgraph import QGlobalSum, QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

RANDOM_IMAGES = 2
REAL_IMAGES = 4


@dataclass(frozen=True)
class SourceCheck:
    """`images` compared, random ones included; `largest` relative difference of the class scores (or steps of an integer); `runner` that ran the source."""

    runner: str
    images: int
    largest: float
    what: str = "the float graph equals"

    def describe(self) -> str:
        """One line for the user; the difference itself is left out, as it depends on the number of threads."""
        return f"import checked: {self.what} the file's own network, run by {self.runner}, on {self.images} images"


def check_source(graph: Graph, source: SourceModel, preprocess: Preprocess, pixels: NDArray[np.uint8]) -> SourceCheck:
    """Compare class scores on random inputs and on the first of `pixels`, uint8 (N, C, H, W).

    Raises InputError naming the first layer whose tensor differs by more than `source.tolerance` of its largest magnitude.
    """
    shape = graph.input.shape
    rng = np.random.default_rng(0)
    if source.raw_pixels:
        images = [rng.integers(0, 256, shape).astype(np.float32) for _ in range(RANDOM_IMAGES)]
    else:
        images = [rng.standard_normal(shape).astype(np.float32) for _ in range(RANDOM_IMAGES)]
    images += [preprocess.normalize(p[None])[0].numpy() for p in pixels[:REAL_IMAGES]]
    model = FloatModel(graph)
    last = source.taps[-1]
    largest = 0.0
    for image in images:
        trace = model.trace(torch.from_numpy(image[None]))
        values = source.evaluate(from_map(image, source.image), [last.tensor])
        difference = _difference(values[last.tensor], last, trace)
        if not difference <= source.tolerance:
            raise _first_difference(source, trace, image)
        largest = max(largest, difference)
    return SourceCheck(source.runner, len(images), largest)


def _difference(values: F32, tap: Tap, trace: dict[str, torch.Tensor]) -> float:
    """Largest difference relative to the source's largest magnitude; infinite when shapes or finiteness differ."""
    ours = trace[tap.feature.node][0].numpy()
    if values.size != ours.size:
        return float("inf")
    theirs = to_map(values, tap.feature)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities make the difference NaN, which is no agreement
        worst = float(np.abs(theirs.astype(np.float64) - ours).max())
    reach = float(np.abs(theirs).max())
    return worst / max(reach, 1e-6) if np.isfinite(worst) else float("inf")


def _first_difference(source: SourceModel, trace: dict[str, torch.Tensor], image: F32) -> InputError:
    values = source.evaluate(from_map(image, source.image), [t.tensor for t in source.taps])
    for tap in source.taps:
        difference = _difference(values[tap.tensor], tap, trace)
        if not difference <= source.tolerance:
            return InputError(
                f"layer {tap.feature.node}: the imported graph differs from the file's network, run by {source.runner}, by {difference:.2g} of the "
                f"largest value of {tap.tensor!r} (allowed: {source.tolerance:g}); this model cannot be used, please report it"
            )
    raise AssertionError("the scores differ, so the last tap does")


def check_quantized_source(qgraph: QuantGraph, source: SourceModel, preprocess: Preprocess, pixels: NDArray[np.uint8]) -> SourceCheck:
    """The same for a model that was quantized already: every integer of the machine against the file's, on random and on real pixels.

    The runtime adds floats, so a sum beyond 2^24 may round another way at a tie: single steps at up to one value in a thousand pass, nothing else.

    Raises InputError naming the first layer that differs.
    """
    rng = np.random.default_rng(0)
    random = rng.integers(0, 256, (RANDOM_IMAGES, *qgraph.input.shape), dtype=np.uint8)
    images = np.concatenate([random, pixels[:REAL_IMAGES]])
    simulator = FastSimulator(qgraph)
    largest = 0.0
    for image in images:
        trace = simulator.trace(image[None])
        values = source.evaluate(from_map(preprocess.normalize(image[None])[0].numpy(), source.image), [t.tensor for t in source.taps])
        for tap in source.taps:
            node = qgraph[tap.feature.node]
            per_unit = tap.unit * 2.0**node.fmt.frac
            if isinstance(node.op, QGlobalSum):
                _, h, w = qgraph[node.inputs[0]].shape
                per_unit *= h * w
            theirs = np.rint(to_map(values[tap.tensor], tap.feature).astype(np.float64) * per_unit)
            steps = np.abs(theirs - trace[node.name][0])
            most = max(1.0, 1e-3 * float(np.abs(theirs).max())) if isinstance(node.op, QGlobalSum) else 1.0
            if float(steps.max()) > most or (not isinstance(node.op, QGlobalSum) and float((steps > 0).mean()) > 1e-3):
                raise InputError(
                    f"layer {node.name}: {int((steps > 0).sum())} of {steps.size} integers differ from the file's own, run by {source.runner}, by up to "
                    f"{int(steps.max())} ({tap.tensor!r}); this model cannot be used, please report it"
                )
            largest = max(largest, float(steps.max()))
    return SourceCheck(source.runner, len(images), largest, "the machine's integers equal")
