"""All starts in one descent: one vectorised Jacobian a step, one method a start, one Adam for all.

The methods see Torch tensors; everything around them is NumPy on a few numbers, at a quarter of Torch's cost a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from experiments_vision.toy.problems import Array, Problem
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import make_method

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


def methods_for(config: MethodConfig, starts: Sequence[int], seed: int) -> list[AnyMethod]:
    """A method for each start, for they remember; start s draws from the stream (seed, s)."""
    streams = (np.random.SeedSequence(seed, spawn_key=(start,)) for start in starts)
    return [make_method(config, 2, int(stream.generate_state(1)[0])) for stream in streams]


def descend(
    problem: Problem,
    starts_SP: Array,
    methods: Sequence[AnyMethod],
    *,
    steps: int,
    lr: float,
    max_norm: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Descent:
    """Adam along the methods' directions.

    What one start does, no other sees: a run of several is that of each alone, to the bit.

    Args:
        problem: Losses and Jacobian.
        starts_SP: float64 [S, 2].
        methods: A fresh one for each start.
        steps: Of Adam.
        lr: Adam's step size.
        max_norm: Every direction is clipped to it, whatever the method.
        progress: Told now and then how many steps are done.
    """
    num_starts = len(methods)
    theta_TSP = np.empty((steps + 1, num_starts, 2))
    theta_TSP[0] = starts_SP
    weights_TSK = np.full((steps, num_starts, 2), np.nan)
    direction_SP = np.zeros((num_starts, 2))
    stopped_S = np.full(num_starts, -1)
    active = list(range(num_starts))
    adam = _Adam(direction_SP.shape, lr)
    observes = methods[0].needs_losses_after_step

    losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_TSP[0])
    for step in range(steps):
        _ask(methods, active, losses_SK, jacobian_SKP, direction_SP, weights_TSK[step])
        if max_norm is not None:
            norm_S1 = np.sqrt((direction_SP * direction_SP).sum(axis=1, keepdims=True))
            direction_SP *= np.minimum(max_norm / (norm_S1 + 1e-6), 1.0)
        if not np.isfinite(direction_SP).all():
            lost_S: NDArray[np.bool_] = np.logical_not(np.isfinite(direction_SP).all(axis=1))
            stopped_S[lost_S] = step
            direction_SP[lost_S] = 0.0
            active = [start for start in active if not lost_S[start]]
        theta_SP = theta_TSP[step] - adam.step(direction_SP)
        if len(active) < num_starts:
            theta_SP = np.where(stopped_S[:, None] < 0, theta_SP, theta_TSP[step])  # Adam's momentum moves on
        theta_TSP[step + 1] = theta_SP
        losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_SP)
        if observes:
            seen_SK = torch.from_numpy(losses_SK)
            for start in active:
                methods[start].observe(seen_SK[start])
        if progress is not None and (step + 1) % _SHOW_EVERY == 0:
            progress(step + 1)
    return Descent(theta_TSP, weights_TSK, tuple(int(stop) for stop in stopped_S))


def _ask(
    methods: Sequence[AnyMethod],
    active: Sequence[int],
    losses_SK: Array,
    jacobian_SKP: Array,
    direction_SP: Array,
    weights_SK: Array,
) -> None:
    """Writes the active starts' directions and weights."""
    # Products by hand: the bits of a matrix product depend on how many starts there are.
    left, right = jacobian_SKP[..., :1], jacobian_SKP[..., 1:]
    gramian_SKK = left * left.swapaxes(1, 2) + right * right.swapaxes(1, 2)
    jacobian_S, gramian_S, losses_S = (
        torch.from_numpy(array).unbind() for array in (jacobian_SKP, gramian_SKK, losses_SK)
    )
    for start in active:
        method = methods[start]
        if isinstance(method, JacobianMethod):
            direction_SP[start] = method.direction(jacobian_S[start], gramian_S[start], losses_S[start]).numpy()
            weights_SK[start] = method.diagnostics()["weights_K"].numpy()
            continue
        if isinstance(method, GramianWeighting):
            weights_SK[start] = method.weights(gramian_S[start], losses_S[start]).numpy()
        elif isinstance(method, LossWeighting):
            weights_SK[start] = method.weights(losses_S[start]).numpy()
        else:
            raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
        direction_SP[start] = (
            weights_SK[start, 0] * jacobian_SKP[start, 0] + weights_SK[start, 1] * jacobian_SKP[start, 1]
        )


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
