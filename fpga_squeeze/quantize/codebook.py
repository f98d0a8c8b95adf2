"""Weight sharing: the few integers that all weights of a layer may take, learned from the weights (Han et al., Deep Compression, 2016).

The integers are of `bits` bits (8), a layer has 2**index_bits of them, and every output channel has its own power-of-two scale as always. The machine
then stores indices and looks the integers up behind its weight memory (docs/weight-storage.md), so nothing but rounding differs from ordinary weights.
"""

from __future__ import annotations

import numpy as np

from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.ir import F64
from fpga_squeeze.quantize.weights import to_grid

INDEX_BITS = (1, 6)
ROUNDS = 12
SHIFTS = 2
"""How many bits finer than its own finest one a channel's scale may be: its largest weights are then clipped."""


def learn_codebook(weight: F64, bits: int, index_bits: int, importance: F64) -> tuple[F64, Int64]:
    """Scales and values by Lloyd's algorithm: each round gives every channel its best scale, every weight its nearest value, every value its weights' mean.

    Args:
        weight: (OC, IC, K, K). `bits`: of the values. `importance`: (IC*K*K,), variance of each input, what an error of its weights counts.
    Returns:
        (frac (OC,), the scale of each channel's integers; levels, sorted distinct integers, at most 2**index_bits, zero among them: pruned weights stay).
    """
    flat = weight.reshape(len(weight), -1)
    largest = np.abs(flat).max(axis=1)
    finest = np.where(largest > 0, np.floor(np.log2((2.0 ** (bits - 1) - 1) / np.where(largest > 0, largest, 1.0))), 0.0)
    share = np.broadcast_to(importance / max(float(importance.mean()), 1e-300), flat.shape)
    frac = finest
    scaled = flat * np.exp2(frac)[:, None]
    levels = _started(scaled, share, bits, index_bits)
    for _ in range(ROUNDS):
        frac = _best_scales(flat, share, finest, bits, levels)
        scaled = flat * np.exp2(frac)[:, None]
        # An error counts in real units: steps of coarse channels are larger.
        counted = share * np.exp2(-2.0 * (frac - frac.min()))[:, None]
        levels = _moved(scaled, counted, bits, levels)
    return _best_scales(flat, share, finest, bits, levels), levels


def _started(scaled: F64, share: F64, bits: int, index_bits: int) -> Int64:
    """Values at equal shares of the weights' spread: the density of the best quantizer goes with the cube root of that of the weights."""
    order = np.argsort(scaled, axis=None, kind="stable")
    values, mass = scaled.ravel()[order], share.ravel()[order]
    bins = np.linspace(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1, 257)
    counts = np.add.reduceat(np.append(mass, 0.0), np.minimum(np.searchsorted(values, bins[:-1]), len(mass)))
    counts = np.where(np.diff(np.searchsorted(values, bins)) > 0, counts, 0.0)
    spread = np.cumsum(np.cbrt(counts))
    wanted = (np.arange(2**index_bits) + 0.5) / 2**index_bits * spread[-1]
    return _distinct(np.interp(wanted, spread, (bins[1:] + bins[:-1]) / 2), bits)


def _best_scales(flat: F64, share: F64, finest: F64, bits: int, levels: Int64) -> F64:
    candidates = np.stack([finest + i for i in range(-1, SHIFTS + 1)])
    errors = []
    for frac in candidates:
        step = np.exp2(-frac)[:, None]
        errors.append((share * (to_grid(flat / step, bits, levels) * step - flat) ** 2).sum(axis=1))
    return np.asarray(candidates[np.stack(errors).argmin(axis=0), np.arange(len(flat))], dtype=np.float64)


def _moved(scaled: F64, counted: F64, bits: int, levels: Int64) -> Int64:
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, scaled.ravel())
    mass = np.bincount(nearest, counted.ravel(), len(levels))
    total = np.bincount(nearest, (counted * scaled).ravel(), len(levels))
    means = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), levels)
    means[np.abs(levels).argmin()] = 0.0
    return _distinct(means, bits)


def _distinct(values: F64, bits: int) -> Int64:
    rounded = np.clip(np.rint(values), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    rounded[np.abs(rounded).argmin()] = 0.0
    return np.unique(rounded).astype(np.int64)
