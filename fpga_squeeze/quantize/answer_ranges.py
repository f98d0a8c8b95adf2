"""The step of each tensor's format by what it does to the answer: measured on calibration images, for every tensor on its own.

A squared error counts every value alike, but the tensors that decide the class are few and their loud values matter more than the rest: in SqueezeNet
v1.0 one squeeze of 16 channels causes two thirds of all the divergence that 8-bit activations do. So steps a quarter of an octave apart are tried, from
where the range holds everything downwards, and the one with the least divergence of the class probabilities from the float network's is taken. A step that is
no power of two becomes one by a factor on all channels of the tensor (quantize/equalize.py).
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor, log2

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import Add, Conv, Graph, Input
from fpga_squeeze.quantize.equalize import capped, tied_groups, unscaled_groups
from fpga_squeeze.quantize.groups import format_groups
from fpga_squeeze.simulate.float_model import FloatModel, apply_node, node_parameters

ANSWER_IMAGES = 32
BATCH = 8
STEPS = 4
"""Steps tried an octave."""
OCTAVES = 2
PATIENCE = 2
"""A tensor is done after so many steps without a better one: past the best the divergence only rises."""
SLACK = 1.02
"""What a finer step must gain to be preferred: below, differences are chance, and clipping is the riskier error on other images."""


def answer_scales(
    graph: Graph, pixels: NDArray[np.uint8], act_bits: int, report: Callable[[int, int], None], images: int = ANSWER_IMAGES
) -> tuple[dict[str, float], dict[str, int]]:  # fmt: skip
    """(factor in [1, 2) by node name, frac by node name) for every tensor whose scale is free; others are in neither.

    Args:
        graph: lowered, equalized. `pixels`: uint8 (N, C, H, W). `report`: called with (done, total) tensors. `images`: how many are
            looked at, evenly spaced.
    """
    search = AnswerSearch(graph, pixels, images)
    factors: dict[str, float] = {}
    fracs: dict[str, int] = {}
    groups = free_groups(graph)
    for done, names in enumerate(groups):
        step = search.best_step(names, act_bits)
        if step > 0.0:
            # The factor that makes the step a power of two: multiplied by it, the tensor's step is 2**-frac.
            frac = floor(-log2(step) + 1e-9)
            factors |= dict.fromkeys(names, 2.0**-frac / step)
            fracs |= dict.fromkeys(names, frac)
        report(done + 1, len(groups))
    return factors, fracs


def free_groups(graph: Graph) -> list[list[str]]:
    """Nodes of each format whose channels may be multiplied by any factor: not the image's, not the scores', not under a cap, and not tied to another format
    by an addition."""
    tied, unscaled, caps, formats = tied_groups(graph), unscaled_groups(graph), capped(graph), format_groups(graph)
    members: dict[int, list[str]] = {}
    for n in graph.nodes:
        if tied[n.name] not in unscaled:
            members.setdefault(tied[n.name], []).append(n.name)
    return [names for names in members.values() if len({formats[n] for n in names}) == 1 and not any(n in caps for n in names)]


class AnswerSearch:
    """The float network's tensors on some images, and what comes of rounding one of them."""

    def __init__(self, graph: Graph, pixels: NDArray[np.uint8], images: int = ANSWER_IMAGES) -> None:
        """`graph`: lowered. `pixels`: uint8 (N, C, H, W), of which up to `images` are taken."""
        chosen = np.linspace(0, len(pixels) - 1, min(images, len(pixels))).round().astype(np.int64)
        batches = [torch.from_numpy(pixels[chosen[i : i + BATCH]].astype(np.float32)) for i in range(0, len(chosen), BATCH)]
        self._graph = graph
        self._parameters = {n.name: node_parameters(n) for n in graph.nodes}
        self._values = [FloatModel(graph).trace(x) for x in batches]
        self._expected = torch.log_softmax(torch.cat([v[graph.output].flatten(1) for v in self._values]).to(torch.float64), 1)

    def best_step(self, names: list[str], bits: int) -> float:
        """The step for the tensors `names`, which share a format of `bits` bits; 0.0 where they are all zero."""
        made = self.made(names)
        low = min(float(v[n].min()) for v in self._values for n in made)
        high = max(float(v[n].max()) for v in self._values for n in made)
        signed = low < 0.0
        limits = (-(2.0 ** (bits - 1)) if signed else 0.0, 2.0 ** (bits - signed) - 1)
        widest = max(high / limits[1], low / limits[0] if signed else 0.0)
        if widest <= 0.0:
            return 0.0
        best, found, since = float("inf"), widest, 0
        for i in range(STEPS * OCTAVES):
            step = widest * 2.0 ** (-i / STEPS)
            error = self.divergence(made, step, limits)
            if error * SLACK < best:
                best, found, since = error, step, 0
            else:
                since += 1
                if since == PATIENCE:
                    break
        return found

    def made(self, names: list[str]) -> list[str]:
        """Those of the tensors `names` that are computed, not passed on."""
        return [n for n in names if isinstance(self._graph[n].op, Conv | Add)]

    def divergence(self, made: list[str], step: float, limits: tuple[float, float]) -> float:
        """Mean divergence of the answers, in nats, with only the tensors `made` rounded."""
        answers = []
        with torch.inference_mode():
            for values in self._values:
                changed = {name: (values[name] / step).round_().clamp_(*limits) * step for name in made}
                for n in self._graph.nodes:
                    if isinstance(n.op, Input) or n.name in changed or not any(i in changed for i in n.inputs):
                        continue
                    changed[n.name] = apply_node(n, tuple(changed.get(i, values[i]) for i in n.inputs), self._parameters[n.name])
                answers.append(changed[self._graph.output].flatten(1))
        got = torch.log_softmax(torch.cat(answers).to(torch.float64), 1)
        return float((self._expected.exp() * (self._expected - got)).sum(1).mean())
