"""What a foreign graph's tensors are in terms of the IR: which node's map, under which shape and in which memory order.

Frameworks reshape and transpose freely around the same numbers. A `Feature` therefore keeps the map (C, H, W) of an IR node and describes the
foreign tensor as a view of it: reshaping changes only the view, and an operator that needs channels, height and width finds out whether they are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.ir import Padding, Shape

Axes = str
"""Some of "CHW", in memory order; axes of size 1 are left out, as they have no order."""


class UnsupportedNode(Exception):
    """An operator cannot be brought into the IR; the text is the reason. Importers collect these and report all at once."""


class BlockedNode(Exception):
    """An operator reads what an unsupported one would have made: nothing can be said about it beyond its own attributes."""


@dataclass(frozen=True)
class Feature:
    """A view of IR node `node`, whose map is `shape` (C, H, W): foreign shape `dims` (batch 1 included), memory order `order`.

    `pads` are what a Pad put around it (top, left, bottom, right) and its reader must take over: zeros, or `pad_value` by channel. `tail` names
    an operator that was left out because it keeps the ranking of class scores (softmax): only the output may follow. `quantized`: the tensor
    holds the integers of this format.
    """

    node: str
    shape: Shape
    dims: tuple[int, ...]
    order: Axes
    pads: Padding = (0, 0, 0, 0)
    tail: str | None = None
    quantized: TensorFormat | None = None
    pad_value: tuple[float, ...] | None = None

    @property
    def layout(self) -> str | None:
        """NCHW, NHWC or NC (a 1 x 1 map without its height and width) when the view is one of these.

        >>> Feature("a", (8, 4, 4), (1, 4, 4, 8), "HWC").layout
        'NHWC'
        """
        c, h, w = self.shape
        if self.dims == (1, c, h, w) and self.order == present("CHW", self.shape):
            return "NCHW"
        if self.dims == (1, h, w, c) and self.order == present("HWC", self.shape):
            return "NHWC"
        return "NC" if self.dims == (1, c) and h == w == 1 else None

    @property
    def channel_dim(self) -> int | None:
        """Which foreign dimension counts the channels, where the view has one."""
        return {"NCHW": 1, "NHWC": 3, "NC": 1}.get(self.layout or "")


def view(node: str, shape: Shape, layout: str = "NCHW") -> Feature:
    """The plain view of a node's map, `layout` NCHW, NHWC or NC."""
    c, h, w = shape
    dims = {"NCHW": (1, c, h, w), "NHWC": (1, h, w, c), "NC": (1, c)}[layout]
    return Feature(node, shape, dims, present("HWC" if layout == "NHWC" else "CHW", shape))


def like(source: Feature, node: str, shape: Shape) -> Feature:
    """The view of another node's map in the layout of `source`."""
    layout = source.layout
    if layout is None:
        raise UnsupportedNode(f"its input of shape {text(source.dims)} is neither channels-first nor channels-last")
    return view(node, shape, layout)


def present(axes: Axes, shape: Shape) -> Axes:
    """`axes` without those of size 1."""
    sizes = dict(zip("CHW", shape, strict=True))
    return "".join(a for a in axes if sizes[a] > 1)


def reshape(x: Feature, wanted: tuple[int, ...]) -> Feature:
    """The view under another shape; one -1 is worked out. Raises UnsupportedNode when the sizes do not fit or the batch would not stay 1."""
    total = prod(x.dims)
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        raise UnsupportedNode(f"the target shape {text(wanted)} is not valid")
    known = prod(d for d in wanted if d != -1)
    if -1 in wanted and (known == 0 or total % known):
        raise UnsupportedNode(f"a tensor of shape {text(x.dims)} cannot take the shape {text(wanted)}")
    dims = tuple(total // known if d == -1 else d for d in wanted)
    if prod(dims) != total:
        raise UnsupportedNode(f"a tensor of shape {text(x.dims)} cannot take the shape {text(wanted)}")
    return replace(unpadded(x), dims=dims)


def axis_groups(x: Feature) -> tuple[Axes, ...]:
    """The axes that each foreign dimension runs over. Raises UnsupportedNode when one cuts an axis into parts.

    >>> axis_groups(Feature("a", (8, 4, 2), (1, 8, 8), "CHW"))
    ('', 'C', 'HW')
    """
    sizes = dict(zip("CHW", x.shape, strict=True))
    rest = list(x.order)
    groups: list[Axes] = []
    for size in x.dims:
        group, covered = "", 1
        while covered < size and rest:
            covered *= sizes[rest[0]]
            group += rest.pop(0)
        if covered != size:
            raise UnsupportedNode(f"the shape {text(x.dims)} cuts channels, height or width of a {text(x.shape)} map into parts")
        groups.append(group)
    return tuple(groups)


def transpose(x: Feature, permutation: tuple[int, ...]) -> Feature:
    """The view with its dimensions permuted."""
    if sorted(permutation) != list(range(len(x.dims))):
        raise UnsupportedNode(f"the permutation {text(permutation)} does not fit a tensor of {len(x.dims)} dimensions")
    groups = axis_groups(unpadded(x))
    return replace(x, dims=tuple(x.dims[p] for p in permutation), order="".join(groups[p] for p in permutation))


def unpadded(x: Feature) -> Feature:
    """`x`, when no Pad waits for a reader that can take it over."""
    if any(x.pads):
        raise UnsupportedNode("it reads a padded tensor; a Pad may only stand before Conv or MaxPool")
    return x


def to_map(values: NDArray[np.float32], x: Feature) -> NDArray[np.float32]:
    """The foreign tensor's values as the IR node's map, (C, H, W)."""
    sizes = dict(zip("CHW", x.shape, strict=True))
    order = x.order + "".join(a for a in "CHW" if a not in x.order)
    return values.reshape([sizes[a] for a in order]).transpose([order.index(a) for a in "CHW"])


def from_map(values: NDArray[np.float32], x: Feature) -> NDArray[np.float32]:
    """A map (C, H, W) as the foreign tensor: the inverse of `to_map`."""
    order = x.order + "".join(a for a in "CHW" if a not in x.order)
    return np.ascontiguousarray(values.transpose(["CHW".index(a) for a in order]).reshape(x.dims))


def text(values: tuple[int, ...]) -> str:
    """A shape in an error message: (3, 4) -> 3x4."""
    return "x".join(str(v) for v in values) if values else "a single number"


def clean(name: str, limit: int = 80) -> str:
    """A foreign name made fit for one line of a message."""
    shown = "".join(c if c.isprintable() else "?" for c in name[:limit])
    return shown + ("..." if len(name) > limit else "")
