"""All starts in one descent: one vectorised Jacobian a step, one call of the method, one Adam for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments_vision.toy.guides import Guide
from experiments_vision.toy.problems import Array, Problem

_SHOW_EVERY = 250  # steps between two calls of `progress`


@dataclass(frozen=True)
class Descent:
    """Where every start went.

    Attributes:
        theta_TSP: The points, the start first: [steps + 1, starts, 2]. One that stopped stays where it was.
        weights_TSK: The method's weights at each step, [steps, starts, 2]; NaN after a stop.
        stopped_S: The step at which the method had no finite direction, -1 for never.
    """

    theta_TSP: Array
    weights_TSK: Array
    stopped_S: tuple[int, ...]


def descend(
    problem: Problem,
    starts_SP: Array,
    guide: Guide,
    *,
    steps: int,
    lr: float,
    max_norm: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Descent:
    """Adam along the method's directions.

    What one start does, no other sees: a run of several is that of each alone, to the bit.

    Args:
        problem: Losses and Jacobian.
        starts_SP: float64 [S, 2].
        guide: Tells the directions; a fresh one.
        steps: Of Adam.
        lr: Adam's step size.
        max_norm: Every direction is clipped to it, whatever the method.
        progress: Told now and then how many steps are done.
    """
    num_starts = len(starts_SP)
    theta_TSP = np.empty((steps + 1, num_starts, 2))
    theta_TSP[0] = starts_SP
    weights_TSK = np.full((steps, num_starts, 2), np.nan)
    stopped_S = np.full(num_starts, -1)
    going_S: NDArray[np.bool_] = np.ones(num_starts, dtype=np.bool_)
    adam = _Adam((num_starts, 2), lr)

    losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_TSP[0])
    for step in range(steps):
        direction_SP, weights_SK = guide.ask(losses_SK, jacobian_SKP, going_S)
        if max_norm is not None:
            norm_S1 = np.sqrt((direction_SP * direction_SP).sum(axis=1, keepdims=True))
            direction_SP = direction_SP * np.minimum(max_norm / (norm_S1 + 1e-6), 1.0)
        weights_TSK[step] = weights_SK
        if not (going_S.all() and np.isfinite(direction_SP).all()):
            weights_TSK[step, ~going_S] = np.nan
            lost_S = going_S & ~np.isfinite(direction_SP).all(axis=1)
            stopped_S[lost_S] = step
            going_S = going_S & ~lost_S
            if not going_S.any():
                theta_TSP[step + 1 :] = theta_TSP[step]
                break
            direction_SP = np.where(going_S[:, None], direction_SP, 0.0)
            # Adam's momentum would move on.
            theta_SP = np.where(going_S[:, None], theta_TSP[step] - adam.step(direction_SP), theta_TSP[step])
        else:
            theta_SP = theta_TSP[step] - adam.step(direction_SP)
        theta_TSP[step + 1] = theta_SP
        losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_SP)
        if guide.observes:
            guide.observe(losses_SK, going_S)
        if progress is not None and (step + 1) % _SHOW_EVERY == 0:
            progress(step + 1)
    return Descent(theta_TSP, weights_TSK, tuple(int(stop) for stop in stopped_S))


class _Adam:
    """`torch.optim.Adam` for an array (betas 0.9 and 0.999, eps 1e-8)."""

    def __init__(self, shape: tuple[int, ...], lr: float) -> None:
        self._lr, self._steps = lr, 0
        self._mean, self._square = np.zeros(shape), np.zeros(shape)

    def step(self, gradient: Array) -> Array:
        """What is to be subtracted from the parameters."""
        self._steps += 1
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.001 * (gradient * gradient - self._square)
        root = np.sqrt(self._square / (1.0 - 0.999**self._steps))
        moved: Array = self._lr / (1.0 - 0.9**self._steps) * self._mean / (root + 1e-8)
        return moved
