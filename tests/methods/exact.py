"""Answers in 100 digits, for gradients whose lengths lie 20 orders of magnitude apart: beyond conic solvers."""

from __future__ import annotations

from functools import cache
from typing import Any

import mpmath
import numpy as np

EXACT = mpmath.MPContext()
EXACT.dps = 100
_ZERO = EXACT.mpf(10) ** -60

Number = Any
"""Of 100 digits."""


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


def shortest(matrix: np.ndarray, start: np.ndarray) -> list[Number]:
    """The shortest vector of the rows' convex hull, by Wolfe's algorithm (Math. Program. 11, 1976).

    Args:
        matrix: The gradients.
        start: Non-negative weights to begin with; how long it takes depends on them, its end does not.
    """
    rows = exactly(matrix)
    gram = gramian(rows)
    tasks = range(len(rows))
    weights = {k: EXACT.mpf(float(start[k])) for k in tasks if start[k] > 0}
    while True:
        weights = _corral(gram, weights)
        products = [EXACT.fsum(gram[i, k] * weight for k, weight in weights.items()) for i in tasks]
        square = EXACT.fsum(products[k] * weight for k, weight in weights.items())
        least = min(tasks, key=lambda k: products[k])
        if least in weights or products[least] >= square * (1 - _ZERO):
            return combination([weights.get(k, EXACT.mpf(0)) for k in tasks], rows)
        weights[least] = EXACT.mpf(0)


def _corral(gram: Any, weights: dict[int, Number]) -> dict[int, Number]:
    """Walks from the weights to the shortest combination of a part of their rows, of positive weights."""
    while True:
        nearest = _affine(gram, list(weights))
        if all(weight > 0 for weight in nearest.values()):
            return nearest
        share = min(weights[k] / (weights[k] - nearest[k]) for k in weights if nearest[k] <= 0)
        moved = {k: weight + share * (nearest[k] - weight) for k, weight in weights.items()}
        weights = {k: weight for k, weight in moved.items() if weight > _ZERO * max(moved.values())}


def _affine(gram: Any, chosen: list[int]) -> dict[int, Number]:
    """Weights of sum 1, of any sign, of the shortest combination of the chosen rows."""
    part = EXACT.matrix([[gram[i, j] for j in chosen] for i in chosen])
    solution = EXACT.lu_solve(part, EXACT.ones(len(chosen), 1))
    total = EXACT.fsum(solution)
    return {k: value / total for k, value in zip(chosen, solution, strict=True)}


def aligned(matrix: np.ndarray, rank: int, mode: str) -> tuple[list[Number], Number]:
    """The sum of the aligned gradients, of `rank` components, and their length: the chosen component's."""
    rows = exactly(matrix)
    eigenvalues, vectors = _eigensystem(tuple(map(tuple, matrix.astype(float).tolist())))
    tasks = range(len(rows))
    kept = list(tasks)[-rank:]  # they rise
    chosen = {"min": kept[:1], "median": [kept[(rank + 1) // 2 - 1]], "rmse": kept}[mode]
    square = EXACT.fsum(eigenvalues[k] for k in chosen) / len(chosen)
    shares = {k: EXACT.fsum(vectors[:, k]) * EXACT.sqrt(square / eigenvalues[k]) for k in kept}
    weights = [EXACT.fsum(vectors[i, k] * share for k, share in shares.items()) for i in tasks]
    return combination(weights, rows), EXACT.sqrt(square)


@cache
def _eigensystem(matrix: tuple[tuple[float, ...], ...]) -> Any:
    """Of the rows' Gramian; once for all the modes that are asked about."""
    return EXACT.eigsy(gramian(exactly(np.array(matrix))))
