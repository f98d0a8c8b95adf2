"""The chain knapsack as a mixed-integer program, solved by HiGHS (scipy.optimize.milp): what prices alone cannot decide.

A 0/1 variable for each choice of each stage, one of them a stage; for each link a variable in [0, 1] for every pair of lanes that can meet there, tied to the
choices on both sides, so that converters are counted exactly; a row for each resource. HiGHS runs on one thread and is bounded in nodes, never in time: the
same input gives the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

Vector = NDArray[np.float64]
Joins = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""(index of the lanes out of each choice before, index of the lanes into each choice behind, float64 (lanes out, lanes in, resources) costs)."""

NODE_LIMIT = 250
"""Nodes of the search tree; an ImageNet SqueezeNet mostly takes fewer than a hundred."""

_INFEASIBLE = 2


@dataclass(frozen=True)
class Exact:
    """`chain`: a choice of every stage within the limits, None when none was found; `impossible`: proven that there is none."""

    chain: tuple[int, ...] | None
    impossible: bool


class _Rows:
    """A sparse matrix, row by row, with its bounds."""

    def __init__(self) -> None:
        self.entries: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, columns: NDArray[np.int64], values: NDArray[np.float64], low: float, high: float) -> None:
        self.entries.append((columns, values))
        self.low.append(low)
        self.high.append(high)

    def constraint(self, variables: int) -> LinearConstraint:
        rows = np.repeat(np.arange(len(self.entries)), [len(columns) for columns, _ in self.entries])
        columns = np.concatenate([columns for columns, _ in self.entries])
        values = np.concatenate([values for _, values in self.entries])
        matrix = coo_matrix((values, (rows, columns)), shape=(len(self.entries), variables)).tocsr()
        return LinearConstraint(matrix, self.low, self.high)


def solve(tables: list[Vector], joins: list[Joins], limits: Vector) -> Exact:
    """A chain within `limits`: the first that is found, since there is nothing to prefer (an objective would take many times as long).

    Args:
        tables: per stage float64 (choices, resources). joins: per link, before each stage. limits: float64 (resources,).
    """
    choice_at = np.concatenate([[0], np.cumsum([len(t) for t in tables])]).astype(np.int64)
    pair_at = (choice_at[-1] + np.concatenate([[0], np.cumsum([j[2][:, :, 0].size for j in joins])])).astype(np.int64)
    variables = int(pair_at[-1])
    usage = np.vstack([*tables, *(costs.reshape(-1, costs.shape[2]) for _, _, costs in joins)])

    rows = _Rows()
    every = np.arange(variables, dtype=np.int64)
    for r, limit in enumerate(limits):
        rows.add(every, usage[:, r] / max(1.0, limit), -np.inf, limit / max(1.0, limit))
    for i, table in enumerate(tables):
        rows.add(np.arange(choice_at[i], choice_at[i + 1], dtype=np.int64), np.ones(len(table)), 1.0, 1.0)
    for i, join in enumerate(joins):
        _tie(rows, join, int(pair_at[i]), int(choice_at[i - 1]) if i else None, int(choice_at[i]))

    whole = np.zeros(variables)
    whole[: choice_at[-1]] = 1
    nothing = np.zeros(variables)
    result = milp(nothing, constraints=rows.constraint(variables), integrality=whole, bounds=Bounds(0, 1), options={"node_limit": NODE_LIMIT})
    if result.x is None:
        return Exact(None, result.status == _INFEASIBLE)
    chain = tuple(int(np.argmax(result.x[choice_at[i] : choice_at[i + 1]])) for i in range(len(tables)))
    return Exact(chain, False)


def _tie(rows: _Rows, join: Joins, pairs: int, before: int | None, behind: int) -> None:
    """Pair (a, b) of link lanes is taken when the choice before sends a and the choice behind takes b: sums over b and over a equal the choices'.
    `before` None: the image, whose lanes are given."""
    outs, ins, costs = join
    shape = costs.shape[:2]
    index = pairs + np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape)
    for a in range(shape[0]):
        if before is None:
            rows.add(index[a], np.ones(shape[1]), 1.0, 1.0)
            continue
        senders = before + np.flatnonzero(outs == a)
        rows.add(np.concatenate([index[a], senders]), np.concatenate([np.ones(shape[1]), -np.ones(len(senders))]), 0.0, 0.0)
    for b in range(shape[1]):
        takers = behind + np.flatnonzero(ins == b)
        rows.add(np.concatenate([index[:, b], takers]), np.concatenate([np.ones(shape[0]), -np.ones(len(takers))]), 0.0, 0.0)
