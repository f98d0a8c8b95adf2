"""Weights: the power-of-two scale of each output channel and the rounding of its weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import Int64, TensorFormat
from fpga_squeeze.ir import F64

CLIPPING_CANDIDATES = 3
DAMPING = 0.01
BLOCK = 32


def choose_weight_frac(weight: F64, bits: int, fmt_in: TensorFormat, fmt_out: TensorFormat) -> Int64:
    """Per output channel the frac of least squared rounding and clipping error: (OC, IC, K, K) -> (OC,) int64.

    The shift f_w + f_in - f_out never exceeds what can still change the output: with n products of `fmt_in` integers, a weight error of half
    a step moves the output by n * 2**(bits_in - 1 - shift) steps at most; below 1/16 step finer weights are pointless. A channel without weights
    gets shift 0, which makes its bias the output constant.
    """
    flat = weight.reshape(weight.shape[0], -1)
    qmax = 2.0 ** (bits - 1) - 1
    largest = np.abs(flat).max(axis=1)
    finest = np.floor(np.log2(qmax / np.where(largest > 0, largest, 1.0)))
    candidates = np.stack([finest + i for i in range(CLIPPING_CANDIDATES)])
    errors = np.stack([_rounding_error(flat, f, bits) for f in candidates])
    best = candidates[errors.argmin(axis=0), np.arange(len(flat))]
    useful_shift = fmt_in.bits + int(flat.shape[1]).bit_length() + 3
    offset = fmt_in.frac - fmt_out.frac
    best = np.where(largest > 0, np.minimum(best, useful_shift - offset), -offset)
    return np.asarray(best, dtype=np.int64)


def round_weights(weight: F64, frac: Int64, bits: int, second_moment: NDArray[np.float64] | None) -> Int64:
    """Integers of `bits` signed bits: (OC, IC, K, K) -> int64 of the same shape.

    With `second_moment`, (IC*K*K, IC*K*K), the covariance of the layer's inputs, each weight's rounding error is made up for by the weights
    rounded after it, so that the error of the layer's output rather than of its weights is small (Frantar et al., GPTQ, 2022).
    """
    scale = np.exp2(frac.astype(np.float64))[:, None]
    scaled = weight.reshape(weight.shape[0], -1) * scale
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    if second_moment is None:
        return np.asarray(np.clip(np.rint(scaled), low, high), dtype=np.int64).reshape(weight.shape)
    order = np.argsort(-np.diag(second_moment), kind="stable")
    upper = _inverse_factor(second_moment[np.ix_(order, order)])
    # Column by column inside a block; the columns behind it are updated once a block, by one product.
    work = np.ascontiguousarray(scaled[:, order].T)
    result = np.empty_like(work)
    for start in range(0, len(work), BLOCK):
        stop = min(start + BLOCK, len(work))
        errors = np.empty((stop - start, work.shape[1]))
        for i in range(start, stop):
            result[i] = np.clip(np.rint(work[i]), low, high)
            errors[i - start] = (work[i] - result[i]) / upper[i, i]
            work[i + 1 : stop] -= np.outer(upper[i, i + 1 : stop], errors[i - start])
        work[stop:] -= upper[start:stop, stop:].T @ errors
    restored = np.empty_like(result)
    restored[order] = result
    return np.asarray(restored.T, dtype=np.int64).reshape(weight.shape)


def _inverse_factor(covariance: F64) -> F64:
    """The upper Cholesky factor of the damped covariance's inverse, (n, n).

    An estimate from few patches may be indefinite: the damping grows until it is not; at the limit every weight is rounded on its own.
    """
    damping = DAMPING * max(float(np.diag(covariance).mean()), 1e-12)
    while True:
        damped = torch.from_numpy(covariance + np.eye(len(covariance)) * damping)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return np.asarray(upper.numpy(), dtype=np.float64)
        damping *= 10.0


def _rounding_error(flat: F64, frac: F64, bits: int) -> F64:
    scale = np.exp2(frac)[:, None]
    rounded = np.clip(np.rint(flat * scale), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) / scale
    return np.asarray(((flat - rounded) ** 2).sum(axis=1), dtype=np.float64)
