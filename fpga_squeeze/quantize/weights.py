"""Weights: the power-of-two scale of each output channel and the rounding of its weights.

Rounding goes to a grid: all integers of a width, or the few values of a codebook (`levels`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fpga_squeeze.fixed_point import Int64, TensorFormat
from fpga_squeeze.ir import F64

CLIPPING_CANDIDATES = 3
DAMPING = 0.01
BLOCK = 32
SWEEPS = 2
PRUNED = 0.25

Mask = NDArray[np.bool_]


def choose_weight_frac(weight: F64, bits: int, fmt_in: TensorFormat, fmt_out: TensorFormat, *, clip: bool = True) -> Int64:
    """Per output channel the frac of least squared rounding and clipping error: (OC, IC, K, K) -> (OC,) int64; the finest without clipping if not `clip`."""
    flat = weight.reshape(weight.shape[0], -1)
    qmax = 2.0 ** (bits - 1) - 1
    largest = np.abs(flat).max(axis=1)
    finest = np.floor(np.log2(qmax / np.where(largest > 0, largest, 1.0)))
    candidates = np.stack([finest + i for i in range(CLIPPING_CANDIDATES if clip else 1)])
    errors = np.stack([_rounding_error(flat, f, bits) for f in candidates])
    return useful_frac(candidates[errors.argmin(axis=0), np.arange(len(flat))], weight, fmt_in, fmt_out)


def useful_frac(frac: F64, weight: F64, fmt_in: TensorFormat, fmt_out: TensorFormat) -> Int64:
    """`frac` (OC,), no finer than what can still change the output, int64.

    With n products of `fmt_in` integers, a weight error of half a step moves the output by n * 2**(bits_in - 1 - shift) steps at most, where the shift is
    f_w + f_in - f_out; below 1/16 step finer weights are pointless. A channel without weights gets shift 0, which makes its bias the output constant.
    """
    flat = weight.reshape(weight.shape[0], -1)
    useful_shift = fmt_in.bits + int(flat.shape[1]).bit_length() + 3
    offset = fmt_in.frac - fmt_out.frac
    return np.asarray(np.where(flat.any(axis=1), np.minimum(frac, useful_shift - offset), -offset), dtype=np.int64)


def pruned_weights(weight: F64) -> Mask | None:
    """Which weights are zero and stay so, (OC, IC, K, K); None unless at least PRUNED of them are: a network pruned in training is smaller for them."""
    zeros = np.asarray(weight == 0.0)
    return zeros if zeros.mean() >= PRUNED else None


def round_weights(
    weight: F64, frac: Int64, bits: int, second_moment: NDArray[np.float64] | None, levels: Int64 | None = None, pruned: Mask | None = None
) -> Int64:
    """Integers of `bits` signed bits: (OC, IC, K, K) -> int64 of the same shape; of `levels` (sorted integers) only where given; 0 where `pruned`.

    With `second_moment`, (IC*K*K, IC*K*K), the covariance of the layer's inputs, each weight's rounding error is made up for by the weights
    rounded after it, so that the error of the layer's output rather than of its weights is small (Frantar et al., GPTQ, 2022).
    """
    scale = np.exp2(frac.astype(np.float64))[:, None]
    scaled = weight.reshape(weight.shape[0], -1) * scale
    free = np.ones(scaled.shape) if pruned is None else 1.0 - pruned.reshape(scaled.shape)
    if second_moment is None:
        return np.asarray(to_grid(scaled, bits, levels) * free, dtype=np.int64).reshape(weight.shape)
    order = np.argsort(-np.diag(second_moment), kind="stable")
    upper = _inverse_factor(second_moment[np.ix_(order, order)])
    # Column by column inside a block; the columns behind it are updated once a block, by one product.
    work = np.ascontiguousarray(scaled[:, order].T)
    free = np.ascontiguousarray(free[:, order].T)
    result = np.empty_like(work)
    for start in range(0, len(work), BLOCK):
        stop = min(start + BLOCK, len(work))
        errors = np.empty((stop - start, work.shape[1]))
        for i in range(start, stop):
            result[i] = to_grid(work[i], bits, levels) * free[i]
            errors[i - start] = (work[i] - result[i]) / upper[i, i]
            work[i + 1 : stop] -= np.outer(upper[i, i + 1 : stop], errors[i - start])
        work[stop:] -= upper[start:stop, stop:].T @ errors
    restored = np.empty_like(result)
    restored[order] = result
    return np.asarray(restored.T, dtype=np.int64).reshape(weight.shape)


def descend(
    weight: F64, start: Int64, frac: Int64, bits: int, second_moment: F64, levels: Int64 | None = None, pruned: Mask | None = None
) -> Int64:  # fmt: skip
    """`start`, (OC, IC, K, K) integers, after SWEEPS sweeps that move single weights on the grid wherever it lowers the layer's error.

    The error is that of the layer's output, sum of (w - weight)' second_moment (w - weight), which AdaRound (Nagel et al., 2020) relaxes and learns by
    gradient steps. It is quadratic, so the best value of one weight with all others held is known in closed form, and the error never rises.
    """
    scale = np.exp2(frac.astype(np.float64))[:, None]
    goal = weight.reshape(weight.shape[0], -1) * scale
    damping = DAMPING * max(float(np.diag(second_moment).mean()), 1e-12)
    moment = second_moment + np.eye(len(second_moment)) * damping
    curvature = np.diag(moment)
    # Inputs first, so that a weight of all output channels is one contiguous row.
    found = np.ascontiguousarray(start.reshape(goal.shape).T.astype(np.float64))
    slope = moment @ (found - goal.T)
    free = np.ones(found.shape) if pruned is None else 1.0 - pruned.reshape(goal.shape).T
    for _ in range(SWEEPS):
        for i in range(len(found)):
            best = to_grid(found[i] - slope[i] / curvature[i], bits, levels) * free[i]
            step = best - found[i]
            (moved,) = np.nonzero(step)
            if len(moved):
                found[i] = best
                slope[:, moved] += np.outer(moment[:, i], step[moved])
    return np.asarray(found.T, dtype=np.int64).reshape(weight.shape)


def to_grid(values: F64, bits: int, levels: Int64 | None = None) -> F64:
    """The nearest integers of `bits` signed bits, or the nearest of `levels`, sorted; halfway to the even one, of levels to the lower one.

    >>> to_grid(np.array([-9.0, 0.5, 2.4]), 4).tolist(), to_grid(np.array([-9.0, 0.4, 2.4]), 4, np.array([-5, 0, 3])).tolist()
    ([-8.0, 0.0, 2.0], [-5.0, 0.0, 3.0])
    """
    if levels is None:
        return np.asarray(np.clip(np.rint(values), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1), dtype=np.float64)
    return np.asarray(levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)], dtype=np.float64)


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
    return np.asarray(((flat - to_grid(flat * scale, bits) / scale) ** 2).sum(axis=1), dtype=np.float64)
