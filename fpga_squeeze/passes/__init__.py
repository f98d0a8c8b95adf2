"""Graph -> Graph transformations; `lower` lists them in order."""

from __future__ import annotations

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool, verify
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.passes.diagonal import even_signs, separate_image
from fpga_squeeze.passes.fold_batchnorm import fold_batchnorm
from fpga_squeeze.passes.fold_preprocess import fold_preprocess
from fpga_squeeze.passes.fuse_relu import fuse_relu
from fpga_squeeze.passes.remove_identity import remove_identity
from fpga_squeeze.passes.split_concat import split_concat

_CANONICAL = (Input, Conv, MaxPool, Concat, Add, GlobalAveragePool)


def lower(graph: Graph, preprocess: Preprocess) -> Graph:
    """The graph the quantizer reads: canonical operators only, taking raw pixels 0..255 in RGB (or L) order.

    Raises InputError naming the layer for whatever cannot be brought there.
    """
    verify(graph)
    for a_pass in (remove_identity, fold_batchnorm, fuse_relu, split_concat, separate_image, even_signs):
        graph = a_pass(graph)
    graph = fold_preprocess(graph, preprocess)
    for n in graph.nodes:
        if not isinstance(n.op, _CANONICAL):
            raise InputError(f"layer {n.name}: {type(n.op).__name__} is left over and has no place in the hardware")
    return graph


__all__ = ["even_signs", "fold_batchnorm", "fold_preprocess", "fuse_relu", "lower", "remove_identity", "separate_image", "split_concat"]
