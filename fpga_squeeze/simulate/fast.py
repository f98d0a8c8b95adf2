"""Fast exact simulator: integers carried in torch's float convolutions, with the bound that makes them exact checked layer by layer.

A float32 holds every integer below 2**24. If no subset of a layer's products (and its bias) can reach that, then every partial sum is exact
in whatever order a kernel adds, and so is the result. Weights and bias are scaled by 2**-shift per channel beforehand, which only moves the
exponent: the convolution gives acc * 2**-shift exactly and requantizing is one round-half-even and one clamp. A layer whose bound is larger
runs in float64 (2**53); beyond that the layer is refused.

Requantizing is monotonic, so max pooling may come before it: the large maps are pooled first unless they are traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fpga_squeeze.errors import CheckFailedError, InputError
from fpga_squeeze.fixed_point import Int64, accumulator_range
from fpga_squeeze.quantize.qgraph import QAdd, QConcat, QConv, QGlobalSum, QInput, QMaxPool, QNode, QuantGraph
from fpga_squeeze.simulate.reference import check_pixels
from fpga_squeeze.simulate.tensor_ops import is_symmetric, max_pool, pad_channels

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


@dataclass(frozen=True)
class LayerBound:
    """Largest magnitude that any partial sum of a layer can reach, and the float type whose integers hold it exactly."""

    name: str
    bound: int
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _ConvTensors:
    weight: torch.Tensor
    bias: torch.Tensor
    pad_value: torch.Tensor | None


class FastSimulator:
    """Bit-exact batch simulator of a QuantGraph. `layer_bounds` records the proof of exactness per arithmetic layer.

    Raises InputError when a layer's bound reaches 2**53, CheckFailedError when this machine's convolution is not exact.
    """

    batch = 8

    def __init__(self, qgraph: QuantGraph) -> None:
        prove_arithmetic(torch.get_num_threads())
        self.qgraph = qgraph
        self.layer_bounds = tuple(layer_bound(qgraph, n) for n in qgraph.nodes if isinstance(n.op, QConv | QAdd | QGlobalSum))
        self._dtypes = {b.name: b.dtype for b in self.layer_bounds}
        self._convs = {n.name: _conv_tensors(n.op, self._dtypes[n.name]) for n in qgraph.nodes if isinstance(n.op, QConv)}
        self._deferred = _deferred(qgraph, self._dtypes)
        self._last_reader = {name: n.name for n in qgraph.nodes for name in n.inputs}

    def run(self, pixels: NDArray[np.uint8]) -> Int64:
        """Class sums: uint8 (N, C, H, W) -> int64 (N, classes)."""
        check_pixels(self.qgraph, pixels)
        classes = int(np.prod(self.qgraph[self.qgraph.output].shape))
        sums = np.empty((len(pixels), classes), dtype=np.int64)
        for start in range(0, len(pixels), self.batch):
            values = self._execute(pixels[start : start + self.batch], keep=False)
            sums[start : start + self.batch] = values[self.qgraph.output].flatten(1).to(torch.int64).numpy()
        return sums

    def trace(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.integer]]:
        """Every node's tensor by name: uint8 (N, C, H, W) -> int32 (N, C, H, W); the class sums int64 (N, classes, 1, 1)."""
        check_pixels(self.qgraph, pixels)
        values = self._execute(pixels, keep=True)
        wide = {n.name for n in self.qgraph.nodes if isinstance(n.op, QGlobalSum)}
        return {k: np.ascontiguousarray(v.numpy().astype(np.int64 if k in wide else np.int32)) for k, v in values.items()}

    def apply(self, node: QNode, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """One operator on integer-valued float32 tensors (N, C, H, W), requantized."""
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            return self._step(node, inputs, frozenset())

    def _execute(self, pixels: NDArray[np.uint8], keep: bool) -> dict[str, torch.Tensor]:
        deferred = frozenset[str]() if keep else self._deferred
        values: dict[str, torch.Tensor] = {}
        # NNPACK's transforms are not exact; oneDNN's direct convolution and plain GEMM are.
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            for node in self.qgraph.nodes:
                if isinstance(node.op, QInput):
                    x = torch.from_numpy(np.ascontiguousarray(pixels))
                    values[node.name] = x.to(torch.float32, memory_format=torch.channels_last)
                    continue
                values[node.name] = self._step(node, tuple(values[i] for i in node.inputs), deferred)
                if not keep:
                    for name in set(node.inputs):
                        if self._last_reader[name] == node.name and name != self.qgraph.output:
                            del values[name]
        return values

    def _step(self, node: QNode, inputs: tuple[torch.Tensor, ...], deferred: frozenset[str]) -> torch.Tensor:
        op = node.op
        pending = node.inputs[0] in deferred
        if isinstance(op, QConv):
            raw = _convolve(op, self._convs[node.name], inputs[0])
        elif isinstance(op, QMaxPool):
            raw = max_pool(inputs[0], op.kernel, op.stride, op.padding)
        elif isinstance(op, QConcat):
            return _concat(node, inputs, tuple(i in deferred for i in node.inputs), node.name in deferred)
        elif isinstance(op, QAdd):
            dtype = self._dtypes[node.name]
            raw = inputs[0].to(dtype) * 2.0 ** (op.align[0] - op.shift) + inputs[1].to(dtype) * 2.0 ** (op.align[1] - op.shift)
        else:
            return inputs[0].sum((2, 3), keepdim=True, dtype=self._dtypes[node.name])
        if node.name in deferred or (isinstance(op, QMaxPool) and not pending):
            return raw
        return raw.clamp_(node.fmt.qmin, node.fmt.qmax).round_().to(torch.float32)


def _convolve(op: QConv, tensors: _ConvTensors, x: torch.Tensor) -> torch.Tensor:
    x = x.to(tensors.weight.dtype)
    if tensors.pad_value is None and is_symmetric(op.padding):
        return F.conv2d(x, tensors.weight, tensors.bias, stride=op.stride, padding=op.padding[:2])
    padded = pad_channels(x, op.padding, 0.0 if tensors.pad_value is None else tensors.pad_value)
    return F.conv2d(padded, tensors.weight, tensors.bias, stride=op.stride)


def _concat(node: QNode, inputs: tuple[torch.Tensor, ...], pending: tuple[bool, ...], defer: bool) -> torch.Tensor:
    """Concatenate; clamping on the way into the result saves a pass over the map."""
    if defer or not any(pending):
        return torch.cat(inputs, 1)
    n, _, h, w = inputs[0].shape
    out = torch.empty((n, node.shape[0], h, w), memory_format=torch.channels_last)
    start = 0
    for x in inputs:
        torch.clamp(x, node.fmt.qmin, node.fmt.qmax, out=out[:, start : start + x.shape[1]])
        start += x.shape[1]
    return out.round_()


def _deferred(qgraph: QuantGraph, dtypes: dict[str, torch.dtype]) -> frozenset[str]:
    """Nodes whose requantization their only reader (a pool or a concat of the same format) does after its own work."""
    found: set[str] = set()
    for node in qgraph.nodes:
        readers = qgraph.consumers(node.name)
        if len(readers) != 1 or node.name == qgraph.output or readers[0].fmt != node.fmt or readers[0].inputs.count(node.name) != 1:
            continue
        if isinstance(node.op, QConv) and dtypes[node.name] == torch.float32 and isinstance(readers[0].op, QMaxPool | QConcat):
            found.add(node.name)
        if isinstance(node.op, QConcat) and isinstance(readers[0].op, QMaxPool) and all(i in found for i in node.inputs):
            found.add(node.name)
    return frozenset(found)


def layer_bound(qgraph: QuantGraph, node: QNode) -> LayerBound:
    """The proof for one convolution, addition or global sum. Raises InputError beyond what a float64 holds exactly."""
    op, formats = node.op, tuple(qgraph[i].fmt for i in node.inputs)
    if isinstance(op, QConv):
        low_in, high_in = (min(formats[0].qmin, *op.pad_value), max(formats[0].qmax, *op.pad_value))
        low, high = accumulator_range(op.weight, op.bias, low_in, high_in)
        # A kernel may add the bias first, last or in between: bound the sums with and without it.
        bound = int(max(np.abs(v).max() for v in (low, high, low - op.bias, high - op.bias)))
    elif isinstance(op, QAdd):
        bound = sum(max(-f.qmin, f.qmax) << a for f, a in zip(formats, op.align, strict=True))
    else:
        _, h, w = qgraph[node.inputs[0]].shape
        bound = h * w * max(-formats[0].qmin, formats[0].qmax)
    if bound >= FLOAT64_EXACT:
        raise InputError(f"layer {node.name}: sums reach {bound}, beyond the 2^53 that the fast simulator holds exactly; use fewer bits")
    return LayerBound(node.name, bound, torch.float32 if bound < FLOAT32_EXACT else torch.float64)


def _conv_tensors(op: QConv, dtype: torch.dtype) -> _ConvTensors:
    scale = np.exp2(-op.shift.astype(np.float64))
    weight = torch.from_numpy(op.weight * scale[:, None, None, None]).to(dtype)
    bias = torch.from_numpy(op.bias * scale).to(dtype)
    pad_value = torch.tensor(op.pad_value, dtype=dtype) if any(op.padding) and any(op.pad_value) else None
    return _ConvTensors(weight.contiguous(memory_format=torch.channels_last), bias, pad_value)


@lru_cache(maxsize=8)
def prove_arithmetic(threads: int) -> None:
    """Convolve integers whose sums come just under 2**24 and compare with int64: reduced-precision modes of the kernel library show here.

    Raises CheckFailedError when this machine's kernels are not exact at this number of threads.
    """
    rng = np.random.default_rng(threads)
    for kernel, channels in ((3, 64), (1, 512)):
        weight = rng.choice(np.array([-127, -1, 1, 127]), size=(32, channels, kernel, kernel))
        # Every sum of absolute products stays below 64 * 9 * 127 * 229 and 512 * 127 * 257, both under 2**24.
        x = rng.integers(0, 229, size=(2, channels, 9, 9))
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            got = F.conv2d(
                torch.from_numpy(x).to(torch.float32, memory_format=torch.channels_last),
                torch.from_numpy(weight).to(torch.float32, memory_format=torch.channels_last),
            )
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
        expected = np.einsum("ncyxhw,ochw->noyx", windows, weight)
        if not np.array_equal(got.to(torch.int64).numpy(), expected):
            raise CheckFailedError("torch's float32 convolution is not exact on integers here; unset reduced-precision modes (ONEDNN_DEFAULT_FPMATH_MODE)")
