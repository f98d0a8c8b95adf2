"""Which width each layer gets: a multiple-choice knapsack, solved exactly by a dynamic program whose hopeless states are cut away by bounds.

One choice a layer, the sum of the sizes within a limit, the sum of the costs least. Layer by layer the table keeps, of all partial choices, those
that no other beats in both size and cost. A relaxation (Lagrange: sizes priced at p instead of limited) bounds what the remaining layers must cost,
and partial choices that cannot beat a known solution are dropped, so the table stays short; what is dropped is never better, so the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpga_squeeze.ir import F64

BISECTIONS = 60
TOLERANCE = 1e-12

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Table:
    """Partial choices over the first layers, by rising size and falling cost: each came from state `parent` of the table before by `choice`."""

    sizes: Int64
    costs: F64
    parent: Int64
    choice: Int64


def allocate(costs: F64, sizes: Int64, limit: int) -> tuple[int, ...] | None:
    """The choice of every layer with the least total cost of those whose total size is at most `limit`; None when even the smallest do not fit.

    Of equal costs (to the last bits of a float64) the smaller size wins, then the lower choices of the last layers.

    Args:
        costs: (layers, choices), inf where a choice is not allowed; at least one of each layer is. `sizes`: (layers, choices), integers.

    >>> allocate(np.array([[9.0, 1.0], [5.0, 1.0]]), np.array([[2, 4], [2, 4]]), 6)
    (1, 0)
    """
    allowed = np.isfinite(costs)
    smallest = np.where(allowed, sizes, np.iinfo(np.int64).max).min(axis=1)
    if int(smallest.sum()) > limit:
        return None
    known, price = _relaxed(costs, sizes, limit)
    # Least that the layers behind may add: in size, and in cost once sizes are priced.
    size_behind = np.append(np.cumsum(smallest[::-1])[::-1], 0)
    priced_behind = np.append(np.cumsum((costs + price * sizes).min(axis=1)[::-1])[::-1], 0.0)
    tables = [_Table(np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))]
    for i, (cost, size) in enumerate(zip(costs, sizes, strict=True)):
        tables.append(_extended(tables[-1], cost, size, limit - int(size_behind[i + 1]), (known, float(priced_behind[i + 1]) - price * limit, price)))
    at = len(tables[-1].costs) - 1  # costs fall as sizes rise
    chosen = []
    for table in reversed(tables[1:]):
        chosen.append(int(table.choice[at]))
        at = int(table.parent[at])
    return tuple(chosen[::-1])


def _extended(table: _Table, cost: F64, size: Int64, limit: int, bound: tuple[float, float, float]) -> _Table:
    """One more layer. `bound`: (known cost, what lies behind, price): a state that costs `cost + behind + price * size > known` cannot win."""
    known, behind, price = bound
    sizes = (table.sizes[:, None] + size[None, :]).ravel()
    costs = (table.costs[:, None] + cost[None, :]).ravel()
    parent, choice = (a.ravel() for a in np.indices((len(table.sizes), len(size))))
    slack = TOLERANCE * max(1.0, abs(known), abs(behind))  # sums in another order differ in their last bits
    kept = np.flatnonzero((sizes <= limit) & (costs + behind + price * sizes <= known + slack))
    kept = kept[np.lexsort((choice[kept], costs[kept], sizes[kept]))]
    # Of rising size only what is cheaper than everything smaller.
    before = np.minimum.accumulate(np.append(np.inf, costs[kept][:-1]))
    kept = kept[costs[kept] < before]
    return _Table(sizes[kept], costs[kept], parent[kept], choice[kept])


def _relaxed(costs: F64, sizes: Int64, limit: int) -> tuple[float, float]:
    """(cost of a solution within the limit, the price a unit of size at which it was found): bisection over the price."""

    def at(price: float) -> tuple[int, float]:
        priced = costs + price * sizes
        # Of equal ones the smaller.
        best = np.array([np.lexsort((s, p))[0] for s, p in zip(sizes, priced, strict=True)])
        rows = np.arange(len(costs))
        return int(sizes[rows, best].sum()), float(costs[rows, best].sum())

    size, cost = at(0.0)
    if size <= limit:
        return cost, 0.0
    finite = costs[np.isfinite(costs)]
    low, high = 0.0, float(finite.max() - finite.min()) + 1.0  # at this price a smaller choice is worth any cost
    known = at(high)[1]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        size, cost = at(middle)
        if size <= limit:
            high, known = middle, min(known, cost)
        else:
            low = middle
    return known, high
