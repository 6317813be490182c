"""Where a problem's descent should end: the minima of L1 + L2, and the Pareto set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments_vision.toy.problems import Array, Problem

WINDOW = ((-12.0, 12.0), (-13.0, 12.0))
"""x and y between which we look; all losses rise beyond it."""
_SPACING = 0.05
_SAME = 1e-6  # two minima of the sum are as good as each other within this


@dataclass(frozen=True)
class Targets:
    """What a point is compared with.

    Attributes:
        optima_NP: The global minima of L1 + L2, [N, 2], by x; exact to 1e-7.
        pareto_MP: Points of the Pareto set, [M, 2], by x and not 0.02 apart; its ends are exact to 0.05.
        front_MK: Their losses, [M, 2].
    """

    optima_NP: Array
    pareto_MP: Array
    front_MK: Array

    def from_optima(self, theta_P: Array) -> Array:
        """Distances [...] of the points [..., 2] to the nearest minimum of L1 + L2."""
        return _distance(theta_P, self.optima_NP)

    def from_pareto(self, theta_P: Array) -> Array:
        """Distances [...] of the points [..., 2] to the nearest point of the Pareto set."""
        return _distance(theta_P, self.pareto_MP)


def targets_of(problem: Problem) -> Targets:
    """Searches a grid, then refines."""
    theta_GP = _grid(_SPACING)
    losses_GK = problem.losses_and_jacobian(theta_GP.reshape(-1, 2))[0].reshape(theta_GP.shape)
    optima_NP = _minima(problem, theta_GP, losses_GK.sum(axis=-1))
    pareto_MP = _pareto_set(problem, theta_GP, losses_GK)
    return Targets(optima_NP, pareto_MP, problem.losses_and_jacobian(pareto_MP)[0])


def _grid(spacing: float) -> Array:
    """[rows, columns, 2]."""
    x, y = (np.arange(round((high - low) / spacing) + 1) * spacing + low for low, high in WINDOW)
    return np.stack(np.meshgrid(x, y), axis=-1)


def _minima(problem: Problem, theta_GP: Array, sum_G: Array) -> Array:
    """The best of the grid's local minima, each by a grid that shrinks around it."""
    inner = sum_G[1:-1, 1:-1]
    around = (sum_G[:-2, 1:-1], sum_G[2:, 1:-1], sum_G[1:-1, :-2], sum_G[1:-1, 2:])
    lowest = np.logical_and.reduce([inner <= other for other in around])
    candidates = theta_GP[1:-1, 1:-1][lowest & (inner < inner.min() + 0.1)]
    offsets = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)), axis=-1).reshape(-1, 2)
    found: list[tuple[float, Array]] = []
    for theta_P in candidates:
        radius = 2 * _SPACING
        while radius > 1e-10:
            near_MP = theta_P + radius * offsets
            total_M = problem.losses_and_jacobian(near_MP)[0].sum(axis=-1)
            theta_P, radius = near_MP[total_M.argmin()], 0.5 * radius
        found.append((float(total_M.min()), theta_P))
    least = min(value for value, _ in found)
    best: list[Array] = []
    for value, theta_P in found:
        if value < least + _SAME and all(np.linalg.norm(theta_P - other) > 1e-3 for other in best):
            best.append(theta_P)
    return np.array(sorted(best, key=lambda theta_P: float(theta_P[0])))


def _pareto_set(problem: Problem, theta_GP: Array, losses_GK: Array) -> Array:
    """The curve y(x) on which the gradients oppose each other, as far as the grid's undominated points reach.

    A grid's undominated points are a band, for the losses hardly change across the curve. Inside the band the
    Jacobian's determinant changes its sign once for every x, where it is sought by bisection.
    """
    theta_MP, losses_MK = theta_GP.reshape(-1, 2), losses_GK.reshape(-1, 2)
    order = np.lexsort((losses_MK[:, 1], losses_MK[:, 0]))  # by L1: what follows may only be better in L2
    second = losses_MK[order, 1]
    before = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
    band_MP = theta_MP[order[second < before]]

    x = np.linspace(band_MP[:, 0].min(), band_MP[:, 0].max(), 1001)
    low, high = (np.full_like(x, edge) for edge in (band_MP[:, 1].min() - 0.1, band_MP[:, 1].max() + 0.1))
    sign = np.sign(_determinant(problem, x, low))
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = np.sign(_determinant(problem, x, middle)) == sign
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.stack((x, 0.5 * (low + high)), axis=-1)


def _determinant(problem: Problem, x: Array, y: Array) -> Array:
    determinant: Array = np.linalg.det(problem.losses_and_jacobian(np.stack((x, y), axis=-1))[1])
    return determinant


def _distance(theta_P: Array, points_MP: Array) -> Array:
    """To the nearest of the points, to 1e-6: |a|^2 + |b|^2 - 2 a b is a matrix product, and ten times as fast."""
    flat_RP = theta_P.reshape(-1, 2)
    square_M = (points_MP**2).sum(axis=-1)
    square_R = np.empty(len(flat_RP))
    for start in range(0, len(flat_RP), 512):  # all pairs at once would not fit into a cache
        part = slice(start, start + 512)
        square_R[part] = (square_M - 2.0 * (flat_RP[part] @ points_MP.T)).min(axis=-1)
    distance_R = np.sqrt(np.maximum(square_R + (flat_RP**2).sum(axis=-1), 0.0))
    shaped: Array = distance_R.reshape(theta_P.shape[:-1])
    return shaped
