"""Which reader of a tensor goes on with the main branch, and which are bypasses: graph only, no stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.need import Beats
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QMaxPool, QNode, QuantGraph

LookAhead = Callable[[tuple[str, ...]], Beats]
"""For a chain of convolutions and pools, by name: the input pixels that each of its output pixels needs."""


@dataclass(frozen=True)
class Bypass:
    """What leaves the main branch at tensor `source` and meets it again at `join`: as it is, or through the convolutions and max pools `nodes`."""

    source: str
    nodes: tuple[str, ...]
    join: str

    @property
    def operand(self) -> str:
        """The tensor that the join reads."""
        return self.nodes[-1] if self.nodes else self.source


def split_branches(qgraph: QuantGraph, tensor: str, opened: frozenset[str], look_ahead: LookAhead) -> tuple[tuple[QNode, ...], dict[str, Bypass]]:
    """(the readers of `tensor` on the main branch: one, or a Fire's expand pair; the bypasses that begin there by name of their join).

    A reader may be a bypass when it leads to an Add or Concat through nothing but convolutions and max pools that nothing else reads. Any other reader is
    the main branch. Where every reader may be a bypass, the main branch takes the one that needs the most of `tensor` before each pixel (a bypass must not
    need more, hardware/bypass.py), of equals the longest, then the one with the most weights. `opened`: joins whose bypass began earlier; what leads to
    them is the main branch.
    Raises InputError, naming the layer, for a join of a tensor with itself and where more than one reader would have to be the main branch: then the network
    is no chain (hardware/structure.py).
    """
    readers = qgraph.consumers(tensor)
    for n in readers:
        if isinstance(n.op, QAdd | QConcat) and n.inputs.count(tensor) > 1:
            does, instead = ("adds", "to itself; double the weights") if isinstance(n.op, QAdd) else ("concatenates", "with itself; double the channels")
            raise InputError(f"layer {n.name}: {does} {tensor} {instead} of the layer before instead")
    if len(readers) < 2:
        return readers, {}
    side = {n.name: _side(qgraph, tensor, n, opened) for n in readers}
    pair = expand_pair(qgraph, readers)
    if pair and all(side[n.name] for n in readers if n not in pair):
        return pair, {b.join: b for n in readers if n not in pair and (b := side[n.name])}
    main = tuple(n for n in readers if side[n.name] is None)
    bypasses = [b for n in readers if (b := side[n.name])]
    if not main:
        first = _main(qgraph, bypasses, look_ahead)
        if first is not None:
            bypasses.remove(first)
            main = (next(n for n in readers if side[n.name] is first),)
    joins = [b.join for b in bypasses]
    if len(main) != 1 or len(set(joins)) != len(joins):
        raise _too_many(tensor, readers)
    return main, {b.join: b for b in bypasses}


def no_join(node: QNode, tensor: str) -> InputError:
    """The refusal of an Add or Concat that no bypass leads to."""
    other = next((i for i in node.inputs if i != tensor), tensor)
    does, what = ("adds", "an addition") if isinstance(node.op, QAdd) else ("concatenates", "a Concat")
    return InputError(
        f"layer {node.name}: {does} {tensor} and {other}; {what} must join the main branch with an earlier tensor of it, as it is or through convolutions "
        "and max pools that nothing else reads"
    )


def _too_many(tensor: str, readers: tuple[QNode, ...]) -> InputError:
    names = ", ".join(n.name for n in readers)
    return InputError(
        f"layer {tensor}: read by {names}; besides one main branch, or a Fire's expand pair, every reader must lead to an Add or Concat through nothing but "
        "convolutions and max pools that nothing else reads"
    )


def _side(qgraph: QuantGraph, tensor: str, reader: QNode, opened: frozenset[str]) -> Bypass | None:
    nodes: list[str] = []
    node = reader
    while isinstance(node.op, QConv | QMaxPool):
        nodes.append(node.name)
        after = qgraph.consumers(node.name)
        if len(after) != 1:
            return None
        node = after[0]
    if not isinstance(node.op, QAdd | QConcat) or node.name in opened:
        return None
    return Bypass(tensor, tuple(nodes), node.name)


def expand_pair(qgraph: QuantGraph, readers: tuple[QNode, ...]) -> tuple[QNode, ...]:
    """The two readers that are a Fire's expand pair: a 1x1 and a same-padded KxK convolution of stride 1, concatenated in this order and read by nothing
    else; () without one."""
    for concat in (c for n in readers for c in qgraph.consumers(n.name) if isinstance(c.op, QConcat) and len(c.inputs) == 2):
        pair = [qgraph[name] for name in concat.inputs]
        if all(n in readers and qgraph.consumers(n.name) == (concat,) for n in pair):
            one, other = (n.op for n in pair)
            if not (isinstance(one, QConv) and isinstance(other, QConv)):
                continue
            half = other.kernel // 2
            small = one.kernel == 1 and one.stride == 1 and one.padding == (0, 0, 0, 0)
            if small and other.kernel % 2 == 1 and other.kernel > 1 and other.stride == 1 and other.padding == (half,) * 4:
                return tuple(n for n in readers if n in pair)
    return ()


def _main(qgraph: QuantGraph, bypasses: list[Bypass], look_ahead: LookAhead) -> Bypass | None:
    """Of branches that all may be bypasses the one to go on with. Its join must be the end of another one, or the way would lead nowhere."""
    ends = [b.join for b in bypasses]
    candidates = [b for b in bypasses if b.nodes and ends.count(b.join) > 1]
    best = None
    for b in candidates:
        if best is None or _more(qgraph, b, best, look_ahead):
            best = b
    return best


def _more(qgraph: QuantGraph, a: Bypass, b: Bypass, look_ahead: LookAhead) -> bool:
    """Whether `a` needs more of the tensor than `b`; of equals, whether it is longer, or holds more weights."""
    own, other = look_ahead(a.nodes), look_ahead(b.nodes)
    if own.shape == other.shape and not np.array_equal(own, other):
        return bool((own >= other).all())
    return (len(a.nodes), _weights(qgraph, a)) > (len(b.nodes), _weights(qgraph, b))


def _weights(qgraph: QuantGraph, bypass: Bypass) -> int:
    return sum(op.weight.size for name in bypass.nodes if isinstance(op := qgraph[name].op, QConv))
