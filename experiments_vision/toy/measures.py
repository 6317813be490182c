"""How a descent went: when a start arrived, and how its gradients fought on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from experiments_vision.toy.descent import Descent
from experiments_vision.toy.problems import Array, Problem
from experiments_vision.toy.targets import Targets
from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.jacobian.curvature import multi_task_curvature

LOOKS = 150  # points of a curve over time: more are not seen in a figure


@dataclass(frozen=True)
class Arrival:
    """Where one start ended, and when it came to stay.

    Attributes:
        start: The point.
        end: The last point.
        losses: There.
        from_optimum: Distance of the end to the nearest minimum of L1 + L2.
        from_pareto: Distance of the end to the Pareto set.
        optimum_step: The first step from which it stays near that minimum; None if the end is not near.
        pareto_step: The same for the Pareto set.
        stopped: The step at which the method had no finite direction, None for never.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    losses: tuple[float, float]
    from_optimum: float
    from_pareto: float
    optimum_step: int | None
    pareto_step: int | None
    stopped: int | None


def arrivals(problem: Problem, descent: Descent, targets: Targets, within: float) -> list[Arrival]:
    """One for each start.

    Args:
        problem: For the losses at the end.
        descent: Where the starts went.
        targets: What counts as arrived.
        within: How near.
    """
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
    """Measures over time, for figures.

    Args:
        problem: Losses and Jacobian.
        descent: Where the starts went.
        looks: At so many steps, evenly spaced.

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
