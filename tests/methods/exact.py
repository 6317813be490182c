"""Answers in 100 digits, for gradients whose lengths lie 20 orders of magnitude apart: beyond float64 and conic solvers."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np

EXACT = mpmath.MPContext()
EXACT.dps = 100
_ZERO = EXACT.mpf(10) ** -60

Number = Any
"""Of 100 digits."""


def scaled(matrix: np.ndarray, orders: float = 10) -> np.ndarray:
    """The matrix with rows of lengths 10^-orders to 10^orders, spread evenly and in a mixed order."""
    lengths_K = np.logspace(-orders, orders, len(matrix)) if len(matrix) > 1 else np.ones(1)
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return units * np.random.default_rng(len(matrix)).permutation(lengths_K)[:, None]  # type: ignore[no-any-return]


def exactly(matrix: np.ndarray) -> list[list[Number]]:
    """A float64 matrix's rows, as they are."""
    return [[EXACT.mpf(float(value)) for value in row] for row in matrix]


def gramian(rows: list[list[Number]]) -> Any:
    """The inner products of the rows."""
    result = EXACT.matrix(len(rows), len(rows))
    for i, left in enumerate(rows):
        for j, right in enumerate(rows[: i + 1]):
            result[i, j] = result[j, i] = EXACT.fdot(left, right)
    return result


def combination(weights: list[Number], rows: list[list[Number]]) -> list[Number]:
    """sum_k weights_k rows_k."""
    return [EXACT.fdot(weights, column) for column in zip(*rows, strict=True)]


def distance(result: np.ndarray, expected: list[Number], unit: Number = 1) -> float:
    """|result - expected| / unit."""
    difference = [EXACT.mpf(float(left)) - right for left, right in zip(result, expected, strict=True)]
    return float(EXACT.sqrt(EXACT.fdot(difference, difference)) / unit)


def length(vector: list[Number]) -> Number:
    """|vector|."""
    return EXACT.sqrt(EXACT.fdot(vector, vector))


def shortest(matrix: np.ndarray) -> list[Number]:
    """The shortest vector of the rows' convex hull, by Wolfe's algorithm (Math. Program. 11, 1976)."""
    rows = exactly(matrix)
    gram = gramian(rows)
    tasks = range(len(rows))
    weights = {min(tasks, key=lambda k: gram[k, k]): EXACT.mpf(1)}
    while True:
        products = [EXACT.fsum(gram[i, k] * weight for k, weight in weights.items()) for i in tasks]
        square = EXACT.fsum(products[k] * weight for k, weight in weights.items())
        least = min(tasks, key=lambda k: products[k])
        if least in weights or products[least] >= square * (1 - _ZERO):
            return combination([weights.get(k, EXACT.mpf(0)) for k in tasks], rows)
        weights[least] = EXACT.mpf(0)
        while True:
            nearest = _affine(gram, list(weights))
            if all(weight > 0 for weight in nearest.values()):
                weights = nearest
                break
            share = min(weights[k] / (weights[k] - nearest[k]) for k in weights if nearest[k] <= 0)
            moved = {k: weight + share * (nearest[k] - weight) for k, weight in weights.items()}
            weights = {k: weight for k, weight in moved.items() if weight > _ZERO * max(moved.values())}


def _affine(gram: Any, chosen: list[int]) -> dict[int, Number]:
    """Weights of sum 1, of any sign, of the shortest combination of the chosen rows."""
    part = EXACT.matrix([[gram[i, j] for j in chosen] for i in chosen])
    solution = EXACT.lu_solve(part, EXACT.ones(len(chosen), 1))
    total = EXACT.fsum(solution)
    return {k: value / total for k, value in zip(chosen, solution, strict=True)}
