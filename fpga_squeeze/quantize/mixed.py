"""Mixed precision under a memory goal: the widths of all layers that disturb the answer least among those whose weights fit a number of bits.

Measured once, chosen as often as wanted: what a weight occupies on chip is known exactly only once the machine is folded (a fold that does not
divide the channels pads its rows), so the pipeline may have to choose again with what the memories really hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.quantize.allocate import allocate
from fpga_squeeze.quantize.calibrate import Calibration
from fpga_squeeze.quantize.methods import FAST, Methods
from fpga_squeeze.quantize.ptq import QuantOptions, layer_weight_bits, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.quantize.sensitivity import WIDTHS, Progress, Sensitivity, measure, widths_of


@dataclass(frozen=True)
class WidthOptions:
    """What may be chosen: layers named in `fixed` have those bits (2 to 16), every other one WIDTHS[0] to `widest` bits.

    `shared`: layers of few bits get a codebook, bits being those of an index. `methods`: how to round.
    """

    act_bits: int = 8
    widest: int = WIDTHS[-1]
    fixed: tuple[tuple[str, int], ...] = ()
    shared: bool = False
    methods: Methods = field(default=FAST)

    def __post_init__(self) -> None:
        if not WIDTHS[0] <= self.widest <= WIDTHS[-1]:
            raise InputError(f"--weight-bits: with --weight-budget, {WIDTHS[0]} to {WIDTHS[-1]} (the widest layer) was expected, got {self.widest}")


@dataclass(frozen=True)
class LayerWidth:
    """The width of one layer: `weights` as they are trained, `bits` each in their memory, and the divergence (nats) measured for it alone; None for a
    layer whose width was given and was not measured. `codebook`: the bits are an index of one of 2**bits integers of 8 bits."""

    name: str
    weights: int
    bits: int
    divergence: float | None
    given: bool
    codebook: bool = False


@dataclass(frozen=True)
class Widths:
    """The widths of all layers, in the network's order, for `limit_bytes` of weights."""

    limit_bytes: int
    layers: tuple[LayerWidth, ...]

    @property
    def layer_bits(self) -> tuple[tuple[str, int], ...]:
        """(name, bits of its integers) of every layer."""
        return tuple((row.name, WIDTHS[-1] if row.codebook else row.bits) for row in self.layers)

    @property
    def layer_codebooks(self) -> tuple[tuple[str, int], ...]:
        """(name, index bits) of every layer with a codebook."""
        return tuple((row.name, row.bits) for row in self.layers if row.codebook)

    @property
    def weight_bits(self) -> int:
        """Bits of all weights, without any padding of a fold."""
        return sum(row.weights * row.bits for row in self.layers)

    @property
    def average_bits(self) -> float:
        """Bits a weight."""
        return self.weight_bits / sum(row.weights for row in self.layers)

    def to_json(self) -> dict[str, object]:
        """{"limit_bytes", "weight_bytes", "average_bits", "layers": [{"name", "weights", "bits", "divergence", "given", "codebook"}]}."""
        return {
            "limit_bytes": self.limit_bytes, "weight_bytes": -(-self.weight_bits // 8), "average_bits": round(self.average_bits, 4),
            "layers": [vars(row) for row in self.layers],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class WidthSearch:
    """A measured network: `choose` widths for any size, `quantize` at them."""

    graph: Graph
    calibration: Calibration
    options: WidthOptions
    sensitivity: Sensitivity

    def choose(self, limit_bytes: int, stored: Mapping[str, int] | None = None) -> Widths:
        """The best widths within `limit_bytes`. `stored`: by layer, how many weights its memory holds, padding included, where that is known.

        Raises CheckFailedError with the least possible size when none fits.
        """
        counts = {**weight_counts(self.graph), **(stored or {})}
        check_feasible(counts, self.options, limit_bytes)
        fixed = dict(self.options.fixed)
        widths = sorted({*WIDTHS, *fixed.values()})
        known = {(name, bits): float(c) for name, row in zip(self.sensitivity.layers, self.sensitivity.costs, strict=True)
                 for bits, c in zip(self.sensitivity.widths, row, strict=True)}  # fmt: skip
        costs = np.full((len(counts), len(widths)), np.inf)
        for i, name in enumerate(counts):
            for j, bits in enumerate(widths):
                if name in fixed:
                    costs[i, j] = 0.0 if bits == fixed[name] else np.inf
                elif bits <= self.options.widest:
                    costs[i, j] = known.get((name, bits), np.inf)
        sizes = np.array(list(counts.values()), dtype=np.int64)[:, None] * np.array(widths, dtype=np.int64)[None, :]
        chosen = allocate(costs, sizes, 8 * limit_bytes)
        assert chosen is not None  # check_feasible has seen that the smallest fit
        trained = weight_counts(self.graph)
        rows = []
        for name, c in zip(counts, chosen, strict=True):
            codebook = name not in fixed and widths_of(widths[c], self.options.shared)[1] > 0
            rows.append(LayerWidth(name, trained[name], widths[c], known.get((name, widths[c])), name in fixed, codebook))
        return Widths(limit_bytes, tuple(rows))

    def quantize(self, widths: Widths) -> QuantGraph:
        """The network at these widths."""
        o = self.options
        options = QuantOptions(act_bits=o.act_bits, layer_bits=widths.layer_bits, methods=o.methods, layer_codebooks=widths.layer_codebooks)
        return quantize(self.graph, self.calibration, options)


def search_widths(graph: Graph, calibration: Calibration, options: WidthOptions, progress: Progress | None = None) -> WidthSearch:
    """Measure the network. Minutes for SqueezeNet.

    Args:
        graph: lowered, the one calibrated. `progress`: called with (done, total) layers measured.
    Raises:
        InputError: as `quantize`; an unknown layer in `options.fixed`.
    """
    return WidthSearch(graph, calibration, options, measure(graph, calibration, options.act_bits, progress, methods=options.methods, shared=options.shared))


def weight_counts(graph: Graph) -> dict[str, int]:
    """Trained weights of every convolution by name."""
    return {n.name: int(n.op.weight.size) for n in graph.nodes if isinstance(n.op, Conv)}


def check_feasible(counts: Mapping[str, int], options: WidthOptions, limit_bytes: int) -> None:
    """Raise CheckFailedError unless the smallest widths fit."""
    fixed = dict(options.fixed)
    least = -(-sum(count * fixed.get(name, WIDTHS[0]) for name, count in counts.items()) // 8)
    if least > limit_bytes:
        given = f" and the {len(fixed)} of --layer-bits as given" if fixed else ""
        raise CheckFailedError(f"--weight-budget: {limit_bytes:,} bytes are too few, the weights take at least {least:,} (layers at {WIDTHS[0]} bits{given})")


def check_names(graph: Graph, options: WidthOptions) -> None:
    """Raise InputError for a layer in `options.fixed` that is none, with the closest that are."""
    layer_weight_bits(graph, QuantOptions(layer_bits=options.fixed))
