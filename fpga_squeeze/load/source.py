"""What an importer hands over beside the graph: the foreign model still able to run, so that the graph can be held against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.features import Feature
from fpga_squeeze.prescribed import Prescribed

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Tap:
    """The foreign tensor `tensor` holds the values of an IR node, as `feature` says, divided by `unit`."""

    tensor: str
    feature: Feature
    unit: float = 1.0


@dataclass(frozen=True, eq=False)
class SourceModel:
    """The model as its file describes it, run by something that shares no code with the IR.

    `evaluate`: (the image as the file's input tensor, names of tensors wanted) -> their values. `image`: the input tensor as a view of the
    IR's, which holds pixels 0..255 when `raw_pixels`. `taps` in running order; the last holds the class scores. `tolerance`: largest
    difference, relative to a tensor's largest magnitude.
    """

    runner: str
    image: Feature
    taps: tuple[Tap, ...]
    evaluate: Callable[[F32, Sequence[str]], dict[str, F32]]
    tolerance: float = 1e-4
    raw_pixels: bool = False


@dataclass(frozen=True, eq=False)
class Imported:
    """A foreign model: float graph, its source, what had to be assumed, and the number formats that it brings along.

    `prescribed` is by the names of the lowered graph; the source's taps are then too, and hold dequantized integers.
    """

    graph: Graph
    source: SourceModel
    assumptions: tuple[str, ...]
    prescribed: Prescribed | None = None


def renamed(source: SourceModel, names: dict[str, str]) -> SourceModel:
    """The same source for a graph whose nodes got other names; taps of nodes that are gone are dropped."""
    kept = tuple(replace(t, feature=replace(t.feature, node=names[t.feature.node])) for t in source.taps if t.feature.node in names)
    return replace(source, taps=kept, image=replace(source.image, node=names[source.image.node]))


def renamed_formats(prescribed: Prescribed, names: dict[str, str]) -> Prescribed:
    """The same formats under other names."""
    return Prescribed({names[n]: f for n, f in prescribed.activations.items()}, {names[n]: w for n, w in prescribed.weights.items()})


def refuse(path: object, total: int, refusals: Sequence[tuple[str, str]]) -> InputError:
    """One error about every operator that cannot be built, (node, reason) each."""
    said = "; ".join(f"{node}: {reason}" for node, reason in refusals)
    return InputError(f"{path}: {len(refusals)} of {total} operators cannot be built: {said}")
