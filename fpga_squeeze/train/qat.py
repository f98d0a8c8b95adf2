"""Quantization-aware training: a forward pass that is the fixed-point machine itself, with gradients passed straight through its rounding.

Every step the compiler's own passes and quantizer turn the float32 master weights into the machine's integers. The forward pass then computes in
real units, integer x power of two: as in the fast simulator every partial sum is exact in float32 (or, where the bound says so, in float64), hence
the class sums equal the simulator's bit for bit. Backward (Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013):
rounding counts as the identity; a clamped activation passes nothing. A saturated weight only takes what leads it back into its range, but that is decided
on the gradient of the whole batch (`block_saturated`): decided on shares of it, the shares would no longer add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from fpga_squeeze.fixed_point import Int64, TensorFormat
from fpga_squeeze.ir import Graph
from fpga_squeeze.load.preprocess import Preprocess
from fpga_squeeze.prescribed import Prescribed
from fpga_squeeze.quantize.calibrate import calibrate
from fpga_squeeze.quantize.prescribed import prescribed_of, quantize_prescribed
from fpga_squeeze.quantize.ptq import QuantOptions, quantize
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph
from fpga_squeeze.simulate.fast import layer_bound, prove_arithmetic
from fpga_squeeze.simulate.tensor_ops import max_pool, pad_channels
from fpga_squeeze.train.fold import Lowered, lowered_graph, lowered_parameters, rescale_module, weight_gradients
from fpga_squeeze.zoo.squeezenet import SqueezeNet

EVALUATION_BATCH = 32


@dataclass(frozen=True, eq=False)
class Scores:
    """`rectified` (N, classes): the machine's mean over the map; `linear` (N, classes): the same before the last requantizer and ReLU."""

    rectified: torch.Tensor
    linear: torch.Tensor


class _Replace(torch.autograd.Function):
    """The second tensor forward, the gradient to the first: straight through."""

    @staticmethod
    def forward(ctx: Any, real: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        return exact

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


class _Requantize(torch.autograd.Function):
    """clamp(round_half_even(x * 2**frac)) * 2**-frac, float32; no gradient outside the clamp."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, fmt: TensorFormat) -> torch.Tensor:
        low, high = fmt.qmin * fmt.scale, fmt.qmax * fmt.scale
        ctx.save_for_backward((x > low) & (x < high))
        ctx.dtype = x.dtype
        # Scaling by a power of two and clamping are exact, so only round() rounds.
        return ((x * 2.0**fmt.frac).clamp_(fmt.qmin, fmt.qmax).round_() * fmt.scale).to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0].to(ctx.dtype) * inside, None


def machine_forward(qgraph: QuantGraph, parameters: Lowered, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, Scores]:
    """Run the machine on pixels; differentiable with respect to `parameters`.

    Args:
        qgraph: the integers that `parameters` (real values, same layers) have now. `pixels`: (N, C, H, W), values 0..255, float32.
        mask: dropout's factors for what the last convolution reads, (N, C', H', W'); None at inference.
    Returns:
        (class sums (N, classes), integers in float64, the machine's own; scores for the loss).
    """
    prove_arithmetic(torch.get_num_threads())
    values: dict[str, torch.Tensor] = {}
    raw = pixels
    scoring = qgraph[qgraph.output].inputs[0]
    # NNPACK's transforms are not exact (see the fast simulator).
    with torch.backends.nnpack.flags(enabled=False):
        for node in qgraph.nodes:
            if isinstance(node.op, QInput):
                values[node.name] = pixels
                continue
            inputs = tuple(values[i] for i in node.inputs)
            if mask is not None and node.name == scoring:
                inputs = tuple(x * mask for x in inputs)
            found = _arithmetic(qgraph, node, inputs, parameters)
            if node.name == scoring:
                raw = found
            requantized = isinstance(node.op, QConv | QAdd)
            values[node.name] = _Requantize.apply(found, node.fmt) if requantized else found  # type: ignore[no-untyped-call]
    total = values[qgraph.output].flatten(1)
    area = raw.shape[2] * raw.shape[3]
    sums = total.detach().to(torch.float64) * 2.0 ** qgraph[qgraph.output].fmt.frac
    return sums, Scores(total.to(torch.float32) / area, raw.mean((2, 3)).to(torch.float32))


def _arithmetic(qgraph: QuantGraph, node: QNode, inputs: tuple[torch.Tensor, ...], parameters: Lowered) -> torch.Tensor:
    """One operator in real units, before requantizing; a global sum stays a sum."""
    op = node.op
    if isinstance(op, QMaxPool):
        return max_pool(inputs[0], op.kernel, op.stride, op.padding)
    if isinstance(op, QConcat):
        return torch.cat(inputs, 1)
    dtype = layer_bound(qgraph, node).dtype
    if isinstance(op, QConv):
        return _convolve(op, qgraph[node.inputs[0]].fmt, inputs[0].to(dtype), parameters[node.name])
    if isinstance(op, QAdd):
        return inputs[0].to(dtype) + inputs[1].to(dtype)
    assert isinstance(op, QGlobalSum)
    return inputs[0].to(dtype).sum((2, 3), keepdim=True)


def _convolve(op: QConv, fmt_in: TensorFormat, x: torch.Tensor, real: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    step = np.exp2(-op.weight_frac.astype(np.float64))
    weight = _Replace.apply(real[0].to(x.dtype), torch.from_numpy(op.weight * step[:, None, None, None]).to(x))  # type: ignore[no-untyped-call]
    bias = _Replace.apply(real[1].to(x.dtype), torch.from_numpy(op.bias * step * fmt_in.scale).to(x))  # type: ignore[no-untyped-call]
    pads: torch.Tensor | float = 0.0
    if any(op.pad_value):
        pads = torch.tensor(op.pad_value, dtype=x.dtype, device=x.device) * fmt_in.scale
    return F.conv2d(pad_channels(x, op.padding, pads), weight, bias, stride=op.stride)


class QatNetwork(nn.Module):
    """A module of the family seen through the machine. Its parameters are the module's own, in float32; `prescribed` is what stays frozen."""

    def __init__(self, model: SqueezeNet, preprocess: Preprocess, prescribed: Prescribed) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.prescribed = prescribed
        self._trained: QuantGraph | None = None

    def quantized(self) -> QuantGraph:
        """The machine that the weights of this moment make: what `export` would make of them."""
        return quantize_prescribed(lowered_graph(self.model, self.preprocess), self.prescribed)

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> Scores:
        """Scores of (N, C, H, W) raw pixels 0..255; `mask` as in `machine_forward`."""
        self._trained = self.quantized()
        return machine_forward(self._trained, lowered_parameters(self.model, self.preprocess), pixels.to(torch.float32), mask)[1]

    def block_saturated(self) -> None:
        """Between backward and the optimizer's step: no gradient where it would move a saturated weight further out of its range."""
        assert self._trained is not None
        with torch.no_grad():
            for name, real, gradient, sign in weight_gradients(self.model, self.preprocess):
                op = self._trained[name].op
                assert isinstance(op, QConv)
                steps = torch.from_numpy(np.exp2(-op.weight_frac.astype(np.float64))).to(real).view(-1, 1, 1, 1)
                off = real / steps - torch.from_numpy(op.weight).to(real)
                gradient.masked_fill_(((off > 0.5) & (gradient * sign < 0)) | ((off < -0.5) & (gradient * sign > 0)), 0.0)

    def class_sums(self, pixels: NDArray[np.uint8]) -> Int64:
        """The machine's class sums: uint8 (N, C, H, W) -> int64 (N, classes)."""
        device = next(self.model.parameters()).device
        qgraph, parameters = self.quantized(), lowered_parameters(self.model, self.preprocess)
        parts = []
        with torch.no_grad():
            for start in range(0, len(pixels), EVALUATION_BATCH):
                x = torch.from_numpy(np.ascontiguousarray(pixels[start : start + EVALUATION_BATCH])).to(device, torch.float32)
                parts.append(machine_forward(qgraph, parameters, x)[0].to("cpu", torch.int64).numpy())
        return np.concatenate(parts)


def choose_prescribed(
    model: SqueezeNet,
    preprocess: Preprocess,
    pixels: NDArray[np.uint8],
    options: QuantOptions,
    equalize: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Prescribed:
    """Formats by the ordinary post-training calibration on `pixels`, uint8 (N, C, H, W).

    `equalize` also evens out the module's channels in place (the same function, see `quantize.equalize`): for the start only, since an optimizer
    that has begun would find its weights moved.
    """
    graph: Graph = lowered_graph(model, preprocess)
    calibration = calibrate(graph, pixels, progress, options.act_bits, equalize)
    prescribed = prescribed_of(quantize(graph, calibration, options))
    if equalize:
        rescale_module(model, graph, calibration.scales)
    return prescribed
