"""Post-training quantization: a lowered float graph and its calibration become a QuantGraph, layer by layer."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.errors import InputError
from fpga_squeeze.fixed_point import Int64, TensorFormat, accumulator_range, signed_bits
from fpga_squeeze.ir import F64, Add, Concat, Conv, GlobalAveragePool, Graph, Input, MaxPool, Node, has_caps
from fpga_squeeze.quantize.answer_ranges import free_groups
from fpga_squeeze.quantize.calibrate import Calibration, Progress, calibrate
from fpga_squeeze.quantize.codebook import INDEX_BITS, learn_codebook
from fpga_squeeze.quantize.formats import choose_formats
from fpga_squeeze.quantize.groups import format_groups
from fpga_squeeze.quantize.methods import FAST, FINE_BITS, Methods
from fpga_squeeze.quantize.propagate import LayerData, Propagation
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QOp, QuantGraph
from fpga_squeeze.quantize.weights import choose_weight_frac, descend, pruned_weights, round_weights, useful_frac

WEIGHT_BITS = (2, 16)
ACT_BITS = (4, 16)
SHIFT_LIMIT = 40
ACC_BITS_LIMIT = 62
SUM_BITS = 32


@dataclass(frozen=True)
class QuantOptions:
    """Widths: weights 2 to 16 bits, activations 4 to 16; `layer_bits` overrides the weight bits of single convolutions by name. `methods`: how to round.

    `codebook_bits`: each convolution's weights are at most 2**codebook_bits integers of its weight bits (1 to 6; 0: any); `layer_codebooks` overrides it
    by name. `layer_act_bits`: activation bits of single layers' results, and of all that share their format.
    """

    weight_bits: int = 8
    act_bits: int = 8
    layer_bits: tuple[tuple[str, int], ...] = ()
    methods: Methods = FAST
    codebook_bits: int = 0
    layer_codebooks: tuple[tuple[str, int], ...] = ()
    layer_act_bits: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for label, bits, (low, high) in (
            ("weight bits", self.weight_bits, WEIGHT_BITS),
            ("activation bits", self.act_bits, ACT_BITS),
            *((f"weight bits of layer {name}", bits, WEIGHT_BITS) for name, bits in self.layer_bits),
            *((f"activation bits of layer {name}", bits, ACT_BITS) for name, bits in self.layer_act_bits),
        ):
            if not low <= bits <= high:
                raise InputError(f"{label}: {low} to {high} was expected, got {bits}")
        for label, bits in (("codebook bits", self.codebook_bits), *((f"codebook bits of layer {n}", b) for n, b in self.layer_codebooks)):
            if bits and not INDEX_BITS[0] <= bits <= INDEX_BITS[1]:
                raise InputError(f"{label}: {INDEX_BITS[0]} to {INDEX_BITS[1]} was expected, or 0 for none, got {bits}")


    @property
    def fine(self) -> bool:
        """All weights have one width of FINE_BITS or more and no codebook, so that activations cause most of the error."""
        return self.weight_bits >= FINE_BITS and not self.layer_bits and not self.codebook_bits and not self.layer_codebooks


Observer = Callable[[Node, Conv, tuple[TensorFormat, TensorFormat], LayerData], None]
"""Called with every convolution before it is rounded: its node and operator, the formats of its input and output, the data it is rounded for."""


def calibrate_for(graph: Graph, pixels: NDArray[np.uint8], options: QuantOptions, progress: Progress | None = None) -> Calibration:
    """The calibration that `options` ask for. Arguments and errors as of `calibrate`."""
    methods = options.methods
    # Caps fall on the largest integer of their tensors, so the scales depend on the width.
    act_bits = options.act_bits if has_caps(graph) or methods.answer_ranges else 8
    by_channel = methods.channel_ranges and options.fine
    return calibrate(graph, pixels, progress, act_bits, methods.equalize, methods.answer_ranges, by_channel)


def quantize(graph: Graph, calibration: Calibration, options: QuantOptions, observe: Observer | None = None) -> QuantGraph:
    """Choose formats, round the weights, correct the biases on the quantized network's own activations.

    Args:
        graph: lowered (Input, Conv, MaxPool, Concat, Add, GlobalAveragePool), takes raw pixels; the one calibrated. What is quantized is
            `calibration.graph`, the same function with equalized channels: compare tensors with that one.
    Raises:
        InputError: calibration of another graph, an unknown layer in `layer_bits`, an operator the machine lacks, or a scale beyond the machine's limits.
    """
    if [(n.name, n.shape) for n in graph.nodes] != [(n.name, n.shape) for n in calibration.graph.nodes]:
        raise InputError("quantization: the calibration of this very network was expected, got another one's; calibrate again")
    graph = calibration.graph
    bits, codebooks = layer_weight_bits(graph, options), layer_codebook_bits(graph, options)
    methods = options.methods
    chosen = calibration.fracs if options.act_bits == calibration.act_bits else {}
    formats = choose_formats(graph, calibration.stats, options.act_bits, clip=methods.error_ranges, fracs=chosen, own_bits=own_act_bits(graph, options))
    propagation = Propagation(graph, calibration.pixels, clipped=methods.clipped_reference and options.fine)
    nodes: list[QNode] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv):
            if _makes_scores(graph, node) and op.cap is None and methods.error_ranges:
                formats[node.name] = propagation.scores_format(node, op, formats[node.name])
            formats_in_out = formats[node.inputs[0]], formats[node.name]
            data = propagation.layer_data(node, op, cross=methods.refit or methods.descend)
            if observe is not None:
                observe(node, op, formats_in_out, data)
            quantized: QOp = _quantize_conv(node, op, formats_in_out, (bits[node.name], codebooks[node.name]), data, methods)
        else:
            quantized = quantize_other(graph, node, formats)
        fmt = formats[node.name] if not isinstance(op, GlobalAveragePool) else sum_format(graph, node, formats)
        nodes.append(QNode(node.name, quantized, node.inputs, node.shape, fmt))
        propagation.advance(node, nodes[-1])
    return QuantGraph(tuple(nodes), graph.output)


def layer_weight_bits(graph: Graph, options: QuantOptions) -> dict[str, int]:
    """Weight bits of every convolution by name. Raises InputError for a name that is none, with the closest that are."""
    return _by_layer(graph, options.weight_bits, options.layer_bits, "layer bits")


def layer_codebook_bits(graph: Graph, options: QuantOptions) -> dict[str, int]:
    """Index bits of every convolution's codebook by name, 0 where it has none: a codebook with as many indices as its integers have bits is none.

    Raises InputError for a name that is none, with the closest that are.
    """
    found = _by_layer(graph, options.codebook_bits, options.layer_codebooks, "layer codebook")
    widths = layer_weight_bits(graph, options)
    return {name: bits if bits < widths[name] else 0 for name, bits in found.items()}


def own_act_bits(graph: Graph, options: QuantOptions) -> dict[str, int]:
    """`layer_act_bits` by name. Raises InputError for a name that makes no activations of its own, or whose format has an upper limit."""
    free = {name for names in free_groups(graph) for name in names}
    for name, _ in options.layer_act_bits:
        if name not in free:
            close = difflib.get_close_matches(name, sorted(free), n=3, cutoff=0.4) or sorted(free)[:3]
            hint = f"did you mean {', '.join(close)}?" if close else "this network has none"
            raise InputError(
                f"layer act bits: {name!r} is no layer whose result may have bits of its own (the image, the class scores, layers with an upper limit and "
                f"those tied by an addition keep theirs); {hint}"
            )
    groups = format_groups(graph)
    given: dict[str, tuple[str, int]] = {}
    for name, bits in options.layer_act_bits:
        other, known = given.setdefault(groups[name], (name, bits))
        if known != bits:
            raise InputError(f"layer act bits: {other} and {name} share one format, {known} and {bits} bits were given; give one of them")
    return dict(options.layer_act_bits)


def _by_layer(graph: Graph, common: int, own: tuple[tuple[str, int], ...], what: str) -> dict[str, int]:
    bits = {n.name: common for n in graph.nodes if isinstance(n.op, Conv)}
    for name, value in own:
        if name not in bits:
            close = difflib.get_close_matches(name, bits, n=3, cutoff=0.4) or list(bits)[:3]
            raise InputError(f"{what}: {name!r} is no convolution of this network; did you mean {', '.join(close)}?")
        bits[name] = value
    return bits


def _quantize_conv(
    node: Node, op: Conv, formats: tuple[TensorFormat, TensorFormat], widths: tuple[int, int], data: LayerData, methods: Methods
) -> QConv:  # fmt: skip
    """`widths`: bits of the integers, index bits of their codebook or 0."""
    frac, weight = rounded(op, formats, widths, data, methods)
    bias = data.corrected_bias(op, real_weights(weight, frac)) if methods.correct_bias else op.bias
    return assemble_conv(node.name, op, formats, widths[0], frac, weight, bias)


def rounded(
    op: Conv, formats: tuple[TensorFormat, TensorFormat], widths: tuple[int, int], data: LayerData, methods: Methods = FAST
) -> tuple[Int64, Int64]:  # fmt: skip
    """Scales (OC,) and integers (OC, IC, K, K) of the weights, for the inputs in `data` and the formats of input and output.

    `widths`: bits of the integers, and index bits of the codebook that they are of, or 0 without one.
    """
    bits, index_bits = widths
    pruned = pruned_weights(op.weight)
    wanted = data.refitted(op.weight, pruned) if methods.refit else op.weight
    levels = None
    if index_bits:
        scales, levels = learn_codebook(wanted, bits, index_bits, np.diag(data.second_moment))
        frac = useful_frac(scales, wanted, *formats)
    else:
        frac = choose_weight_frac(wanted, bits, *formats, clip=methods.error_ranges)
    weight = round_weights(wanted, frac, bits, data.second_moment if methods.compensate else None, levels, pruned)
    if methods.descend:
        weight = descend(wanted, weight, frac, bits, data.second_moment, levels, pruned)
    return frac, weight


def real_weights(weight: Int64, frac: Int64) -> F64:
    """What the integers (OC, IC, K, K) at scales 2**-frac, (OC,), stand for."""
    return np.asarray(weight * np.exp2(-frac.astype(np.float64))[:, None, None, None], dtype=np.float64)


def assemble_conv(name: str, op: Conv, formats: tuple[TensorFormat, TensorFormat], bits: int, frac: Int64, weight: Int64, bias_real: F64) -> QConv:
    """The integer convolution of rounded weights: its bias at the accumulator's scale, its shifts, and its accumulator's width proven.

    Args:
        formats: of the input and of the output. `frac` (OC,) and `weight` (OC, IC, K, K): integers of `bits` bits. `bias_real` (OC,).
    Raises:
        InputError: a shift, a bias, a sum or a pad value beyond the machine's limits.
    """
    fmt_in, fmt_out = formats
    pad_value = _pad_pixels(name, op, fmt_in)
    shift = np.asarray(frac + fmt_in.frac - fmt_out.frac, dtype=np.int64)
    if np.abs(shift).max() > SHIFT_LIMIT:
        raise InputError(
            f"layer {name}: requantizing needs a shift of {int(shift[np.abs(shift).argmax()])}, the machine's limit is {SHIFT_LIMIT} either way; "
            "check the scale of its weights"
        )
    bias = _integer_bias(name, bias_real, np.asarray(frac + fmt_in.frac, dtype=np.int64))
    low, high = accumulator_range(weight, bias, min(fmt_in.qmin, *pad_value), max(fmt_in.qmax, *pad_value))
    acc_bits = signed_bits(int(min(low.min(), 0)), int(max(high.max(), 0)))
    if acc_bits > ACC_BITS_LIMIT:
        raise InputError(f"layer {name}: its sums need {acc_bits} bits, the machine's limit is {ACC_BITS_LIMIT}; use fewer bits")
    return QConv(weight.astype(np.int32), bits, frac, bias, shift, op.stride, op.padding, pad_value, acc_bits)


def _makes_scores(graph: Graph, node: Node) -> bool:
    """True when nothing but the final global mean reads the convolution."""
    readers = graph.consumers(node.name)
    return len(readers) == 1 and isinstance(readers[0].op, GlobalAveragePool)


def _integer_bias(name: str, bias: F64, frac_acc: Int64) -> Int64:
    scaled = np.rint(bias * np.exp2(frac_acc.astype(np.float64)))
    if np.abs(scaled).max(initial=0.0) >= 2.0 ** (ACC_BITS_LIMIT - 1):
        raise InputError(f"layer {name}: a bias of {float(bias[np.abs(scaled).argmax()]):g} does not fit its accumulator; check its weights")
    return np.asarray(scaled, dtype=np.int64)


def _pad_pixels(name: str, op: Conv, fmt_in: TensorFormat) -> tuple[int, ...]:
    channels = int(op.weight.shape[1])
    if op.pad_value is None or not any(op.padding):
        return (0,) * channels
    values = tuple(round(v / fmt_in.scale) for v in op.pad_value)
    outside = [v for v in values if not fmt_in.qmin <= v <= fmt_in.qmax]
    if outside:
        raise InputError(f"layer {name}: its padding is the value {outside[0]}, pixels hold {fmt_in.qmin} to {fmt_in.qmax}; check the preprocessing")
    return values


def quantize_other(graph: Graph, node: Node, formats: dict[str, TensorFormat]) -> QOp:
    """Any operator but a convolution, from the formats of its inputs and its own. Raises InputError for what the machine lacks."""
    op = node.op
    if isinstance(op, Input):
        return QInput()
    if isinstance(op, MaxPool):
        return QMaxPool(op.kernel, op.stride, op.padding)
    if isinstance(op, Concat):
        return QConcat()
    if isinstance(op, Add):
        fracs = tuple(formats[i].frac for i in node.inputs)
        finest = max(fracs)
        shift = finest - formats[node.name].frac
        if max(finest - min(fracs), abs(shift)) > SHIFT_LIMIT:
            raise InputError(f"layer {node.name}: adding needs a shift beyond {SHIFT_LIMIT}; check the scales of {' and '.join(node.inputs)}")
        return QAdd((finest - fracs[0], finest - fracs[1]), shift)
    if isinstance(op, GlobalAveragePool):
        if node.name != graph.output:
            raise InputError(f"layer {node.name}: global average pooling must be the last layer, {graph.consumers(node.name)[0].name} follows it")
        return QGlobalSum()
    raise InputError(f"layer {node.name}: {type(op).__name__} must be folded away before quantization")


def sum_format(graph: Graph, node: Node, formats: dict[str, TensorFormat]) -> TensorFormat:
    """The format of a global sum: its input's scale, wide enough for the whole map."""
    fmt = formats[node.inputs[0]]
    _, h, w = graph[node.inputs[0]].shape
    return TensorFormat(max(SUM_BITS, signed_bits(h * w * fmt.qmin, h * w * fmt.qmax)), fmt.frac, signed=True)
