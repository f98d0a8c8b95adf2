"""How much top-1 accuracy a quantized network is expected to lose, without labels.

The float network gives every class a probability, which is how likely that class is the right one if its probabilities are honest. Where the machine answers
with another class than the float network, the difference of the two probabilities is the loss to be expected; over many images it is the drop of
top-1. An answer that flips between two classes that are as good as equal costs nothing, as it does in the mean over labelled images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.ir import F64, Graph
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.paired import float_scores


@dataclass(frozen=True)
class Drop:
    """`top1`: points of top-1 expected to be lost (negative: gained), and `error`, its standard error: how far another choice of as many images moves it.
    `agreement`: percent of images on which both name the same class."""

    top1: float
    agreement: float
    error: float = 0.0


class DropMeter:
    """The float network's probabilities on a set of images, to hold quantized networks against."""

    def __init__(self, graph: Graph, pixels: NDArray[np.uint8]) -> None:
        """`graph`: lowered float network. `pixels`: uint8 (N, C, H, W)."""
        self._pixels = pixels
        scores = torch.from_numpy(float_scores(graph, pixels))
        self._probabilities: F64 = np.asarray(torch.softmax(scores, 1).numpy(), dtype=np.float64)

    def of(self, qgraph: QuantGraph) -> Drop:
        """The drop of `qgraph`, of the same network, on these images."""
        rows = np.arange(len(self._pixels))
        answers = FastSimulator(qgraph).run(self._pixels).argmax(axis=1)
        best = self._probabilities.argmax(axis=1)
        lost = self._probabilities[rows, best] - self._probabilities[rows, answers]
        error = 100.0 * float(lost.std(ddof=1)) / len(lost) ** 0.5 if len(lost) > 1 else 0.0
        return Drop(100.0 * float(lost.mean()), 100.0 * float((answers == best).mean()), error)
