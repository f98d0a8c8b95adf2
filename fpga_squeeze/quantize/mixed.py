"""Mixed precision under a memory goal: the widths of all layers that disturb the answer least among those whose weights fit a number of bits.

Measured once, chosen as often as wanted: what a weight occupies on chip is known exactly only once the machine is folded (a fold that does not
divide the channels pads its rows), so the pipeline may have to choose again with what the memories really hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.ir import Conv, Graph
from fpga_squeeze.quantize.activations import ACT_WIDTHS, ActivationSensitivity, measure_activations
from fpga_squeeze.quantize.allocate import allocate
from fpga_squeeze.quantize.calibrate import Calibration
from fpga_squeeze.quantize.drop import Drop, DropMeter
from fpga_squeeze.quantize.methods import FAST, Methods
from fpga_squeeze.quantize.ptq import QuantOptions, layer_weight_bits, own_act_bits, quantize
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.quantize.sensitivity import WIDTHS, Progress, Sensitivity, measure, widths_of
from fpga_squeeze.quantize.weights import pruned_weights

DROP_STEPS = 7
"""Sizes tried for --max-drop: the last two differ by about two percent."""


@dataclass(frozen=True)
class WidthOptions:
    """What may be chosen: layers named in `fixed` have those bits (2 to 16), every other one WIDTHS[0] to `widest` bits.

    `shared`: layers of few bits get a codebook, bits being those of an index. `methods`: how to round. `layer_act_bits`: given.
    """

    act_bits: int = 8
    widest: int = WIDTHS[-1]
    fixed: tuple[tuple[str, int], ...] = ()
    shared: bool = False
    methods: Methods = field(default=FAST)
    layer_act_bits: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not WIDTHS[0] <= self.widest <= WIDTHS[-1]:
            raise InputError(f"--weight-bits: with --weight-budget, {WIDTHS[0]} to {WIDTHS[-1]} (the widest layer) was expected, got {self.widest}")


@dataclass(frozen=True)
class LayerWidth:
    """The width of one layer: `weights` as they are trained, `bits` each in their memory, and the divergence (nats) measured for it alone; None for a
    layer whose width was given and was not measured. `codebook`: the bits are an index of one of 2**bits integers of 8 bits. `stored_bits`: of all its
    weights, where zeros take a bit; `pruned`: they do."""

    name: str
    weights: int
    bits: int
    divergence: float | None
    given: bool
    codebook: bool
    stored_bits: int

    @property
    def pruned(self) -> bool:
        """Its zeros are marked in a bitmap and left out."""
        return self.stored_bits < self.weights * self.bits


@dataclass(frozen=True)
class ActivationWidth:
    """The bits of one format: `tensor` is its first layer, `values` what line buffers hold of it, `divergence` (nats) what it alone causes."""

    tensor: str
    values: int
    bits: int
    divergence: float


@dataclass(frozen=True)
class Widths:
    """The widths of all layers, in the network's order, for `limit_bytes` of weights. `drop`: what is expected to be lost, where it was measured.
    `activations`: where their bits were chosen too, and the limit is for line buffers as well."""

    limit_bytes: int
    layers: tuple[LayerWidth, ...]
    drop: Drop | None = None
    activations: tuple[ActivationWidth, ...] = ()

    @property
    def layer_act_bits(self) -> tuple[tuple[str, int], ...]:
        """(layer, activation bits) of every format whose bits were chosen."""
        return tuple((row.tensor, row.bits) for row in self.activations)

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
        return sum(row.stored_bits for row in self.layers)

    @property
    def average_bits(self) -> float:
        """Bits a weight."""
        return self.weight_bits / sum(row.weights for row in self.layers)

    def to_json(self) -> dict[str, object]:
        """{"limit_bytes", "expected_drop", "expected_drop_error", "agreement", "weight_bytes", "average_bits",
        "layers": [{"name", "weights", "bits", "divergence", "given", "codebook", "stored_bits"}],
        "activations": [{"tensor", "values", "bits", "divergence"}]}."""
        return {
            "limit_bytes": self.limit_bytes, "expected_drop": None if self.drop is None else round(self.drop.top1, 3),
            "expected_drop_error": None if self.drop is None else round(self.drop.error, 3),
            "agreement": None if self.drop is None else round(self.drop.agreement, 2),
            "weight_bytes": -(-self.weight_bits // 8), "average_bits": round(self.average_bits, 4),
            "layers": [vars(row) for row in self.layers], "activations": [vars(row) for row in self.activations],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class WidthSearch:
    """A measured network: `choose` widths for any size, `quantize` at them."""

    graph: Graph
    calibration: Calibration
    options: WidthOptions
    sensitivity: Sensitivity
    activations: ActivationSensitivity | None = None

    def choose(self, limit_bytes: int, overhead: Mapping[str, float] | None = None) -> Widths:
        """The best widths within `limit_bytes`. `overhead`: by layer, how many times `layer_bits` its memory takes, where that is known. With `activations` the
        limit is for their buffers as well, and their bits are chosen too.

        Raises CheckFailedError with the least possible size when none fits.
        """
        trained = weight_counts(self.graph)
        fixed = dict(self.options.fixed)
        widths = sorted({*WIDTHS, *fixed.values()})
        known = {(name, bits): float(c) for name, row in zip(self.sensitivity.layers, self.sensitivity.costs, strict=True)
                 for bits, c in zip(self.sensitivity.widths, row, strict=True)}  # fmt: skip
        costs = np.full((len(trained), len(widths)), np.inf)
        sizes = np.zeros((len(trained), len(widths)), dtype=np.int64)
        for i, name in enumerate(trained):
            for j, bits in enumerate(widths):
                if name in fixed:
                    costs[i, j] = 0.0 if bits == fixed[name] else np.inf
                elif bits <= self.options.widest:
                    costs[i, j] = known.get((name, bits), np.inf)
                sizes[i, j] = ceil(self.layer_bits(name, bits) * (overhead or {}).get(name, 1.0))
        acts = self.activations
        if acts is not None:
            own = np.array(acts.values, dtype=np.int64)[:, None] * np.array(ACT_WIDTHS, dtype=np.int64)[None, :]
            both = max(len(widths), len(ACT_WIDTHS))
            costs, sizes = _stacked(costs, acts.costs, both, np.inf), _stacked(sizes, own, both, 0)
        chosen = allocate(costs, sizes, 8 * limit_bytes)
        if chosen is None:
            least = int(np.where(np.isfinite(costs), sizes, np.iinfo(np.int64).max).min(axis=1).sum())
            raise _too_few(least, self.options, limit_bytes, whole=acts is not None)
        rows = []
        for name, c in zip(trained, chosen, strict=False):
            codebook = name not in fixed and widths_of(widths[c], self.options.shared)[1] > 0
            rows.append(LayerWidth(name, trained[name], widths[c], known.get((name, widths[c])), name in fixed, codebook, self.layer_bits(name, widths[c])))
        found = []
        if acts is not None:
            for tensor, values, row, c in zip(acts.tensors, acts.values, acts.costs, chosen[len(trained) :], strict=True):
                found.append(ActivationWidth(tensor, values, ACT_WIDTHS[c], float(row[c])))
        return Widths(limit_bytes, tuple(rows), activations=tuple(found))

    @property
    def sizes(self) -> tuple[int, int]:
        """Bits of the narrowest and of the widest weights that may be chosen."""
        fixed, names = dict(self.options.fixed), weight_counts(self.graph)
        low, high = (sum(self.layer_bits(name, fixed.get(name, bits)) for name in names) for bits in (WIDTHS[0], self.options.widest))
        return low, high

    def layer_bits(self, name: str, bits: int) -> int:
        """What a layer's weights take at `bits` bits each: where codebooks may be stored, no more than a bitmap of the zeros that stay and the others."""
        op = self.graph[name].op
        assert isinstance(op, Conv)
        dense = op.weight.size * bits
        pruned = pruned_weights(op.weight) if self.options.shared else None
        return dense if pruned is None else min(dense, op.weight.size + int((~pruned).sum()) * bits)

    def quantize(self, widths: Widths) -> QuantGraph:
        """The network at these widths."""
        o = self.options
        act_bits = widths.layer_act_bits or o.layer_act_bits
        options = QuantOptions(
            act_bits=o.act_bits, layer_bits=widths.layer_bits, methods=o.methods, layer_codebooks=widths.layer_codebooks, layer_act_bits=act_bits
        )
        return quantize(self.graph, self.calibration, options)

    def expected_drop(self, widths: Widths) -> Drop:
        """What the network at these widths is expected to lose on images that its weights were not rounded on: each half of the calibration images is tried on
        the network quantized on the other half. Ranges and widths are of all images; half of them round the weights a little worse than all do. A single
        image is tried on itself."""
        pixels = self.calibration.pixels
        if len(pixels) < 2:
            return DropMeter(self.graph, pixels).of(self.quantize(widths))
        parts = []
        for half in (0, 1):
            own = replace(self, calibration=replace(self.calibration, pixels=pixels[half::2]))
            parts.append(DropMeter(self.graph, pixels[1 - half :: 2]).of(own.quantize(widths)))
        return Drop(sum(p.top1 for p in parts) / 2, sum(p.agreement for p in parts) / 2, hypot(*(p.error for p in parts)) / 2)

    def smallest(self, max_drop: float, progress: Progress | None = None) -> Widths:
        """The smallest weights found that are expected to lose at most `max_drop` points of top-1, a standard error for the few images included: by bisection
        over the size. Without that error the size would be the one that chance favours, and lose more on other images.

        Raises CheckFailedError when the widest weights lose more.
        """
        low, high = (bits / 8 + 1 for bits in self.sizes)
        best: Widths | None = None
        for step in range(DROP_STEPS):
            limit = int(high) if best is None else int((low * high) ** 0.5)
            widths = self.choose(limit)
            drop = self.expected_drop(widths)
            if drop.top1 + drop.error <= max_drop:
                best, high = replace(widths, drop=drop), limit
            elif best is None:
                raise CheckFailedError(
                    f"--max-drop: {max_drop:g} points were allowed, {drop.top1:.2f} (standard error {drop.error:.2f}) are expected to be lost with the widest "
                    "weights; allow more, or give more --act-bits or calibration images"
                )
            else:
                low = limit
            if progress is not None:
                progress(step + 1, DROP_STEPS)
        assert best is not None
        return best


def _stacked(above: NDArray[Any], below: NDArray[Any], columns: int, empty: float) -> NDArray[Any]:
    """Two tables, one above the other, filled up to `columns` with `empty`."""
    parts = [np.pad(part, ((0, 0), (0, columns - part.shape[1])), constant_values=empty) for part in (above, below)]
    return np.concatenate(parts)


def search_widths(
    graph: Graph, calibration: Calibration, options: WidthOptions, progress: Progress | None = None, *, activations: bool = False
) -> WidthSearch:  # fmt: skip
    """Measure the network. Minutes for SqueezeNet.

    Args:
        graph: lowered, the one calibrated. `progress`: called with (done, total) layers measured. `activations`: measure them too.
    Raises:
        InputError: as `quantize`; an unknown layer in `options.fixed`.
    """
    acts = measure_activations(calibration, options.act_bits) if activations else None
    found = measure(graph, calibration, options.act_bits, progress, methods=options.methods, shared=options.shared)
    return WidthSearch(graph, calibration, options, found, acts)


def weight_counts(graph: Graph) -> dict[str, int]:
    """Trained weights of every convolution by name."""
    return {n.name: int(n.op.weight.size) for n in graph.nodes if isinstance(n.op, Conv)}


def check_feasible(counts: Mapping[str, int], options: WidthOptions, limit_bytes: int, option: str = "--weight-budget") -> None:
    """Raise CheckFailedError unless the smallest widths fit, without measuring anything: where zeros may be left out, a bit a weight is the least. `option`:
    where the limit comes from."""
    fixed = dict(options.fixed)
    least = sum(count * fixed.get(name, 1 if options.shared else WIDTHS[0]) for name, count in counts.items())
    if least > 8 * limit_bytes:
        raise _too_few(sum(count * fixed.get(name, WIDTHS[0]) for name, count in counts.items()), options, limit_bytes, option)


def _too_few(least_bits: int, options: WidthOptions, limit_bytes: int, option: str = "--weight-budget", *, whole: bool = False) -> CheckFailedError:
    given = f" and the {len(options.fixed)} of --layer-bits as given" if options.fixed else ""
    if whole:
        return CheckFailedError(
            f"--budget: {limit_bytes:,} bytes are left for weights and buffers, they take at least {-(-least_bits // 8):,} "
            f"(weights of {WIDTHS[0]} bits{given}, activations of {ACT_WIDTHS[0]})"
        )
    return CheckFailedError(
        f"{option}: {limit_bytes:,} bytes are too few, the weights take at least {-(-least_bits // 8):,} (layers at {WIDTHS[0]} bits{given})"
    )


def check_names(graph: Graph, options: WidthOptions) -> None:
    """Raise InputError for a layer in `options.fixed` or `options.layer_act_bits` that is none, with the closest that are."""
    layer_weight_bits(graph, QuantOptions(layer_bits=options.fixed))
    own_act_bits(graph, QuantOptions(layer_act_bits=options.layer_act_bits))
