"""The targets of a descent (the minima of L1 + L2, the Pareto set), the arrivals there, and the curves of a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from experiments_vision.toy.descent import Descent
from experiments_vision.toy.problems import Array, Problem
from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.jacobian.curvature import multi_task_curvature

LOOKS = 150  # points of a curve over time: more are not seen in a figure
WINDOW = ((-12.0, 12.0), (-13.0, 12.0))
"""x and y between which we look; all losses rise beyond it."""
_SPACING = 0.05
_SAME = 1e-6  # two minima of the sum are as good as each other within this


@dataclass(frozen=True)
class Targets:
    """The points that a descent should reach."""

    optima_NP: Array  # the global minima of L1 + L2, [N, 2], by x; exact to 1e-7
    pareto_MP: Array  # points of the Pareto set, [M, 2], by x and not 0.02 apart; its ends are exact to 0.05
    front_MK: Array  # their losses, [M, 2]

    def from_optima(self, theta_P: Array) -> Array:
        """Distances [...] of points [..., 2]."""
        return _distance(theta_P, self.optima_NP)

    def from_pareto(self, theta_P: Array) -> Array:
        """Distances [...] of points [..., 2]."""
        return _distance(theta_P, self.pareto_MP)


def _distance(theta_P: Array, points_MP: Array) -> Array:
    distance: Array = KDTree(points_MP).query(theta_P)[0]
    return distance


def targets_of(problem: Problem) -> Targets:
    """Search a grid, then refine."""
    theta_GP = grid(481, 501)  # _SPACING apart
    losses_GK = problem.losses_and_jacobian(theta_GP.reshape(-1, 2))[0].reshape(theta_GP.shape)
    optima_NP = _minima(problem, theta_GP, losses_GK.sum(axis=-1))
    pareto_MP = _pareto_set(problem, theta_GP, losses_GK)
    return Targets(optima_NP, pareto_MP, problem.losses_and_jacobian(pareto_MP)[0])


def grid(columns: int, rows: int) -> Array:
    """Points [rows, columns, 2] evenly over the window."""
    x, y = (np.linspace(low, high, count) for (low, high), count in zip(WINDOW, (columns, rows), strict=True))
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


@dataclass(frozen=True)
class Arrival:
    """The end of one start's path, and the steps from which it stayed near a target."""

    start: tuple[float, float]
    end: tuple[float, float]
    losses: tuple[float, float]
    from_optimum: float  # distance of the end to the nearest minimum of L1 + L2
    from_pareto: float  # and to the Pareto set
    optimum_step: int | None  # the first step from which it stays near that minimum; None if the end is not near
    pareto_step: int | None
    stopped: int | None  # the step at which the method had no finite direction, None for never


def arrivals(problem: Problem, descent: Descent, targets: Targets, within: float) -> list[Arrival]:
    """One for each start; within so much of a target it has arrived."""
    theta_TSP = descent.theta_TSP
    losses_SK = problem.losses_and_jacobian(theta_TSP[-1])[0]
    found = []
    for start, stop in enumerate(descent.stopped_S):
        theta_TP = theta_TSP[:, start]
        optimum_T, pareto_T = targets.from_optima(theta_TP), targets.from_pareto(theta_TP)
        found.append(
            Arrival(
                _pair(theta_TP[0]), _pair(theta_TP[-1]), _pair(losses_SK[start]),
                float(optimum_T[-1]), float(pareto_T[-1]),
                _stays(optimum_T <= within), _stays(pareto_T <= within), None if stop < 0 else stop,
            )
        )  # fmt: skip
    return found


def _pair(vector: Array) -> tuple[float, float]:
    return float(vector[0]), float(vector[1])


def _stays(near_T: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int | None:
    """The first index from which all are true."""
    if not near_T[-1]:
        return None
    away = np.flatnonzero(~near_T)
    return int(away[-1]) + 1 if len(away) else 0


def curves(problem: Problem, descent: Descent, looks: int = LOOKS) -> dict[str, Array]:
    """Measures at so many steps, evenly spaced, for figures.

    Returns:
        step: [looks].
        cosine, magnitude_similarity: Of the two gradients, [looks, S].
        curvature: The multi-task curvature over the step that follows, by the squared length of the mean gradient (so
            it is the second derivative of the mean loss along its gradient), [looks, S].
    """
    theta_TSP = descent.theta_TSP
    step_L = np.unique(np.linspace(0, len(theta_TSP) - 2, looks).astype(np.int64))
    jacobian_LSKP = torch.from_numpy(problem.losses_and_jacobian(theta_TSP[step_L])[1])
    gramian_LSKK = jacobian_LSKP @ jacobian_LSKP.mT
    found = torch.vmap(torch.vmap(conflict_diagnostics))(gramian_LSKK)
    curvature_LS = np.empty(theta_TSP[step_L].shape[:2])
    for row, step in enumerate(step_L):
        here_SP, there_SP = (torch.from_numpy(theta_TSP[at]) for at in (step, step + 1))
        for start, (here_P, there_P) in enumerate(zip(here_SP, there_SP, strict=True)):
            bent = multi_task_curvature(problem.losses, here_P, there_P - here_P)
            curvature_LS[row, start] = bent["normalised_curvature"].item()
    return {
        "step": step_L,
        "cosine": found["mean_cosine"].numpy(),
        "magnitude_similarity": found["magnitude_similarity"].numpy(),
        "curvature": curvature_LS,
    }
