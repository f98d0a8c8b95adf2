"""The knapsack of widths: exact against trying everything, and on the shapes of a real network."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_squeeze.quantize.allocate import allocate

INF = float("inf")


def brute(costs: np.ndarray, sizes: np.ndarray, limit: int) -> float | None:
    """The least cost within the limit, by trying everything."""
    rows = range(len(costs))
    totals = [sum(costs[i, c] for i, c in zip(rows, chain, strict=True)) for chain in product(range(costs.shape[1]), repeat=len(costs))
              if sum(sizes[i, c] for i, c in zip(rows, chain, strict=True)) <= limit]  # fmt: skip
    least = min(totals, default=INF)
    return None if least == INF else float(least)


def total(table: np.ndarray, chain: tuple[int, ...]) -> float:
    return float(sum(table[i, c] for i, c in enumerate(chain)))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), layers=st.integers(1, 5), choices=st.integers(1, 4), shape=st.sampled_from(["any", "ties", "falling", "banned"]))
def test_equals_trying_everything(seed: int, layers: int, choices: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.random((layers, choices))
    if shape == "ties":
        costs = rng.integers(0, 3, (layers, choices)).astype(float)
    elif shape == "falling":
        costs = rng.random((layers, 1)) * 4.0 ** -np.arange(choices)[None, :]
    elif shape == "banned":
        costs[rng.random((layers, choices)) < 0.3] = INF
        costs[:, 0] = 1.0
    sizes = rng.integers(1, 40, (layers, 1)) * np.arange(2, 2 + choices)[None, :]
    for limit in (0, int(sizes[:, 0].sum()), int(sizes.sum(axis=0).mean()), int(sizes.sum())):
        expected, chain = brute(costs, sizes, limit), allocate(costs, sizes, limit)
        if expected is None:
            assert chain is None
        else:
            assert chain is not None and total(sizes, chain) <= limit and total(costs, chain) == pytest.approx(expected, abs=1e-9)


def test_of_equal_costs_the_smaller_size() -> None:
    assert allocate(np.zeros((3, 2)), np.array([[2, 4]] * 3), 100) == (0, 0, 0)


def test_a_network_of_sixty_layers_with_odd_sizes() -> None:
    """Sizes without a common factor: a table over sizes would have millions of rows. No single or double change of the answer is better."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1000, 600_000, (60, 1))
    costs = rng.random((60, 1)) * np.array([3.0 ** -b for b in range(7)]) * rng.uniform(0.8, 1.2, (60, 7))
    sizes = counts * np.arange(2, 9)[None, :]
    limit = int(counts.sum() * 4.3)
    chain = allocate(costs, sizes, limit)
    assert chain is not None and total(sizes, chain) <= limit
    assert chain == allocate(costs, sizes, limit)
    best = total(costs, chain)
    at, room = np.array(chain), limit - int(total(sizes, chain))
    for i, j in product(range(60), range(60)):
        saved = costs[i, at[i]] - costs[i][:, None] + (costs[j, at[j]] - costs[j][None, :] if i != j else 0.0)
        grown = sizes[i][:, None] - sizes[i, at[i]] + (sizes[j][None, :] - sizes[j, at[j]] if i != j else 0)
        saved, grown = np.broadcast_arrays(saved, grown)
        assert saved[grown <= room].max() <= best * 1e-12
