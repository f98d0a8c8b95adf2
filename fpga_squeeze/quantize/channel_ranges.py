"""The range of each channel by what it does to the answer: rounding against clipping, to first order, for every channel on its own.

A channel's largest value on the calibration images says how far it reaches, not how far it matters: a finer step rounds all of its values better and clips
the largest. To first order an error e of a tensor changes the log-probability of a class by sum(g e), g its gradient, and the class probabilities diverge by
half the mean square of that, classes drawn as often as the network believes in them (the Fisher information). Equalization (quantize/equalize.py) then evens
these ranges out instead of the peaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import F64, Add, Concat, Conv, Graph, Input
from fpga_squeeze.simulate.float_model import apply_node, node_parameters

IMAGE_LIMIT = 128
BATCH = 2
DRAWS = 2
"""Classes drawn for each image."""
SHARES = tuple(2.0 ** (-i / 4) for i in range(-2, 12))
"""Ranges tried, as shares of the largest magnitude that was seen."""
CLIPPING_WEIGHT = 0.5
"""What clipping counts against rounding. The answer stops following a clipped value long before the gradient says so; 1/2 did best of 1/2, 1, 2 and 4."""
Progress = Callable[[int, int], None]


def channel_ranges(graph: Graph, pixels: NDArray[np.uint8], peaks: dict[str, F64], act_bits: int, report: Progress | None = None) -> dict[str, F64]:
    """The range with the least divergence for every channel of every tensor, (C,) by node name.

    Args:
        graph: lowered, takes raw pixels. `pixels`: uint8 (N, C, H, W), of which up to IMAGE_LIMIT are taken. `peaks`: largest magnitude of every channel, (C,)
            by node name. `report`: called with (done, total) batches.
    """
    chosen = pixels[np.linspace(0, len(pixels) - 1, min(IMAGE_LIMIT, len(pixels))).round().astype(np.int64)]
    made = [n for n in graph.nodes if isinstance(n.op, Conv | Add)]
    costs = {n.name: torch.zeros(len(SHARES), n.shape[0], dtype=torch.float64) for n in made}
    batches = range(0, len(chosen), BATCH)
    generator = torch.Generator().manual_seed(0)
    for done, start in enumerate(batches):
        for values in _gradients(graph, torch.from_numpy(chosen[start : start + BATCH].astype(np.float32)), generator):
            for name, (x, gradient) in values.items():
                costs[name] += _divergences(x, gradient, torch.from_numpy(peaks[name]), act_bits)
        if report is not None:
            report(done + 1, len(batches))
    shares = np.array(SHARES)
    found: dict[str, F64] = {}
    for n in graph.nodes:
        if n.name in costs:
            cost = costs[n.name].numpy()
            # A channel that changes no answer keeps its peak.
            found[n.name] = peaks[n.name] * np.where(cost.max(axis=0) > 0, shares[cost.argmin(axis=0)], 1.0)
        elif isinstance(n.op, Concat):
            found[n.name] = np.concatenate([found[i] for i in n.inputs])
        else:
            found[n.name] = found[n.inputs[0]] if n.inputs else peaks[n.name]
    return found


def _gradients(graph: Graph, x: torch.Tensor, generator: torch.Generator) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """For each draw of classes: value and gradient of the drawn class's log-probability, (N, C, H, W) each, of every computed tensor by name."""
    values: dict[str, torch.Tensor] = {}
    computed: dict[str, torch.Tensor] = {}
    for n in graph.nodes:
        y = x if isinstance(n.op, Input) else apply_node(n, tuple(values[i] for i in n.inputs), node_parameters(n))
        if isinstance(n.op, Conv | Add):
            # The weights are constants: what is asked is what the tensors do.
            y = y if y.requires_grad else y.requires_grad_()
            computed[n.name] = y
        values[n.name] = y
    likely = torch.log_softmax(values[graph.output].flatten(1), 1)
    for draw in range(DRAWS):
        drawn = torch.multinomial(likely.detach().exp(), 1, generator=generator)
        gradients = torch.autograd.grad(likely.gather(1, drawn).sum(), list(computed.values()), retain_graph=draw < DRAWS - 1)
        yield {name: (y.detach(), g) for (name, y), g in zip(computed.items(), gradients, strict=True)}


def _divergences(x: torch.Tensor, gradient: torch.Tensor, peaks: torch.Tensor, act_bits: int) -> torch.Tensor:
    """Divergence that rounding and clipping each channel alone causes, for every share of its peak, (SHARES, C), summed over the images.

    Rounding errors of different positions are independent, clipping errors are not: squares are summed for the first, sums are squared for the second.
    """
    signed = bool((x < 0).any())
    low, high = (-(2 ** (act_bits - 1)), 2 ** (act_bits - 1) - 1) if signed else (0, 2**act_bits - 1)
    costs = []
    for share in SHARES:
        step = (peaks.clamp_min(1e-12) * (share / high)).to(x.dtype).view(1, -1, 1, 1)
        q = (x / step).round_()
        clipped = (q > high) | (q < low)
        effect = q.clamp_(low, high).mul_(step).sub_(x).mul_(gradient)
        rounding = effect.masked_fill(clipped, 0.0).to(torch.float64).square().sum((0, 2, 3))
        clipping = effect.masked_fill(~clipped, 0.0).sum((2, 3), dtype=torch.float64).square().sum(0)
        costs.append((rounding + CLIPPING_WEIGHT * clipping) / 2)
    return torch.stack(costs)
