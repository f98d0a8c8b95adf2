"""Folds scale, mean, deviation and channel order into the first convolutions, exactly, so that the hardware takes raw RGB pixels.

The network's channel c is (p[r(c)] * scale - mean[c]) / std[c] of the raw pixel p. Hence w'[:, r(c)] = w[:, c] * scale / std[c] and
b' = b - sum over c and the kernel of w[:, c] * mean[c] / std[c]. The sum holds at the border only if the padding, 0 for the network,
becomes the pixel that maps to 0: mean[c] / scale.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, Graph, Op, replace, rewrite
from fpga_squeeze.load.preprocess import Preprocess


def fold_preprocess(graph: Graph, preprocess: Preprocess) -> Graph:
    """The same function of raw pixels 0..255 in RGB (or L) order; float64 throughout, nothing rounded.

    Raises InputError when channels differ, when a layer other than a convolution reads the image, or when padding needs a pixel outside 0..255.
    """
    channels = graph.input.shape[0]
    if channels != preprocess.channels:
        raise InputError(f"layer {graph.input.name}: the model takes {channels} channels, preprocessing {preprocess.name} gives {preprocess.channels}")
    replacements: dict[str, Op] = {}
    for n in graph.consumers(graph.input.name):
        if not isinstance(n.op, Conv):
            raise InputError(f"layer {n.name}: {type(n.op).__name__} reads the image; preprocessing can only be folded into convolutions")
        replacements[n.name] = _fold(n.name, n.op, preprocess)
    return rewrite(graph, replacements, {})


def _fold(name: str, conv: Conv, preprocess: Preprocess) -> Conv:
    weight = np.empty_like(conv.weight)
    bias = conv.bias.copy()
    pads = [0.0] * preprocess.channels
    old_pads = conv.pad_value if conv.pad_value is not None else (0.0,) * preprocess.channels
    for c in range(preprocess.channels):
        mean, std, r = preprocess.mean[c], preprocess.std[c], preprocess.rgb_index(c)
        weight[:, r] = conv.weight[:, c] * (preprocess.scale / std)
        bias -= conv.weight[:, c].sum(axis=(1, 2)) * (mean / std)
        pads[r] = (old_pads[c] * std + mean) / preprocess.scale
    if not any(conv.padding):
        return replace(conv, weight=weight, bias=bias, pad_value=None)
    outside = [p for p in pads if not 0.0 <= p <= 255.0]
    if outside:
        raise InputError(f"layer {name}: its zero padding is the pixel value {outside[0]:.4g} before preprocessing, which is outside 0..255")
    return replace(conv, weight=weight, bias=bias, pad_value=tuple(pads))
