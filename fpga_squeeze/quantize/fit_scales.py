"""Channel factors with which coarse weights fit their power-of-two grids: for widths of 6 bits and less.

A weight's step is a power of two, so a channel's weights may use the grid of a width badly: up to half of it can lie idle. A channel may be multiplied by
any factor where it is made and its readers' weights divided by it (quantize/equalize.py), and a factor between 1 and 2 is all it takes to put the channel's
weights where rounding to the nearest power-of-two step hurts them least. As the channel's activations move within their format too, none is made larger
than the tensor's largest one; at 8 bits the activations' loss outweighs the weights' gain.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.ir import F64, Add, Conv, Graph
from fpga_squeeze.quantize.equalize import capped, tied_channels, tied_groups, unscaled_groups

STEPS = 8
"""Factors tried an octave."""
CLIPPING_CANDIDATES = 3
MOST_BITS = 6
"""Widest weights for which fitting pays."""


def fit_factors(graph: Graph, peaks: dict[str, F64], bits: int) -> dict[str, F64]:
    """The factor of every channel of every tensor, (C,) by node name, for weights of `bits` bits; 1 where a channel must keep its scale or several
    convolutions make it.

    Args:
        graph: equalized. `peaks`: the largest magnitude of every channel of its tensors, (C,) by node name.
    """
    channel = tied_channels(graph)
    count = 1 + max(int(c.max()) for c in channel.values())
    groups, unscaled, caps = tied_groups(graph), unscaled_groups(graph), capped(graph)
    makers, kept, peak, group = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool), np.zeros(count), np.zeros(count, dtype=np.int64)
    largest = np.zeros(len(graph.nodes))
    for n in graph.nodes:
        numbers = channel[n.name]
        makers[numbers] += isinstance(n.op, Conv | Add)
        kept[numbers] |= groups[n.name] in unscaled or n.name in caps
        np.maximum.at(peak, numbers, peaks[n.name])
        group[numbers] = groups[n.name]
        largest[groups[n.name]] = max(largest[groups[n.name]], float(peaks[n.name].max()))
    free = (makers == 1) & ~kept
    room = np.where(peak > 0, largest[group] / np.where(peak > 0, peak, 1.0), 1.0)
    # The highest factor of each channel's octave: the root of two where the format has room for it.
    top = np.floor(np.minimum(np.log2(room), 0.5) * STEPS)
    factor = np.ones(count)
    for n in graph.nodes:
        if isinstance(n.op, Conv):
            own = channel[n.name]
            weight = (n.op.weight / factor[channel[n.inputs[0]]][None, :, None, None]).reshape(len(own), -1)
            factor[own] = np.where(free[own], _best(weight, top[own], bits), 1.0)
    return {n.name: factor[channel[n.name]] for n in graph.nodes}


def _best(weight: F64, top: F64, bits: int) -> F64:
    """Of the STEPS factors 2**(i / STEPS), i <= top, of one octave the one after which rounding each row of `weight` (OC, n) loses least, (OC,)."""
    limit = 2.0 ** (bits - 1)
    largest = np.abs(weight).max(axis=1)
    largest = np.where(largest > 0, largest, 1.0)
    best, found = np.full(len(weight), np.inf), np.ones(len(weight))
    for i in range(STEPS):
        factor = np.exp2((top - i) / STEPS)
        scaled = weight * factor[:, None]
        finest = np.floor(np.log2((limit - 1) / (largest * factor)))
        for clipped in range(CLIPPING_CANDIDATES):
            step = np.exp2(-(finest + clipped))[:, None]
            error = ((scaled - np.clip(np.rint(scaled / step), -limit, limit - 1) * step) ** 2).sum(axis=1) / factor**2
            better = error < best
            best, found = np.where(better, error, best), np.where(better, factor, found)
    return found
