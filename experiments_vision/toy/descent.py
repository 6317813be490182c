"""One start's descent: the closed-form Jacobian, one call of the method and one step of Adam, again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch

from experiments_vision.toy.problems import Array, Problem
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import make_method

_TELL_EVERY = 250  # steps between two calls of `progress`


class Path(NamedTuple):
    """The path of one start."""

    theta_TP: Array  # the points, the start first: [steps + 1, 2]; from a stop on they stay where they are
    weights_TK: Array  # the method's weights at each step, [steps, 2]; NaN after a stop
    stopped: int  # the step at which the method had no finite direction, -1 for never


class Descent(NamedTuple):
    """The paths of all starts: theta_TSP [steps + 1, starts, 2], weights_TSK [steps, starts, 2], and stopped_S."""

    theta_TSP: Array
    weights_TSK: Array
    stopped_S: tuple[int, ...]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Self:
        """Stack the paths."""
        theta_STP, weights_STK, stopped_S = zip(*paths, strict=True)
        return cls(np.stack(theta_STP, axis=1), np.stack(weights_STK, axis=1), stopped_S)


def method_of(config: MethodConfig, start: int, seed: int) -> AnyMethod:
    """A fresh method for the start of that number, which draws from the stream (seed, start)."""
    stream = np.random.SeedSequence(seed, spawn_key=(start,))
    return make_method(config, 2, int(stream.generate_state(1)[0]))


@np.errstate(all="ignore")  # a direction that is not finite stops the start
def descend(
    problem: Problem,
    start_P: Array,
    method: AnyMethod,
    *,
    steps: int,
    lr: float,
    max_norm: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Steps of Adam along the directions of a fresh method, each clipped to `max_norm`.

    `progress` is told now and then how many more steps are done.
    """
    theta_TP, weights_TK = np.empty((steps + 1, 2)), np.full((steps, 2), np.nan)
    theta_TP[0] = theta_P = np.array(start_P)
    stopped, told, adam = -1, 0, _Adam(lr)
    losses_K, jacobian_KP = problem.losses_and_jacobian(theta_P)
    for step in range(steps):
        direction_P, weights_TK[step] = ask(method, losses_K, jacobian_KP)
        if max_norm is not None:
            norm = np.sqrt((direction_P * direction_P).sum())
            direction_P = direction_P * np.minimum(max_norm / (norm + 1e-6), 1.0)
        if not np.isfinite(direction_P).all():
            stopped, theta_TP[step + 1 :] = step, theta_P
            break
        theta_TP[step + 1] = theta_P = theta_P - adam.step(direction_P)
        losses_K, jacobian_KP = problem.losses_and_jacobian(theta_P)
        if method.needs_losses_after_step:
            method.observe(torch.from_numpy(losses_K))
        if progress is not None and (step + 1) % _TELL_EVERY == 0:
            progress(_TELL_EVERY)
            told = step + 1
    if progress is not None:
        progress(steps - told)
    return Path(theta_TP, weights_TK, stopped)


def ask(method: AnyMethod, losses_K: Array, jacobian_KP: Array) -> tuple[Array, Array]:
    """The method's direction [P] and weights [K]; not finite where it has none."""
    x_K, y_K = jacobian_KP.T
    # By hand: a matrix product may round the two tasks' sides differently, and Adam blows that up.
    gramian_KK = torch.from_numpy(np.multiply.outer(x_K, x_K) + np.multiply.outer(y_K, y_K))
    losses = torch.from_numpy(losses_K)
    if isinstance(method, JacobianMethod):
        direction_P = method.direction(torch.from_numpy(jacobian_KP), gramian_KK, losses)
        return direction_P.numpy(), method.diagnostics()["weights_K"].numpy()
    if isinstance(method, GramianWeighting):
        weights_K = method.weights(gramian_KK, losses).numpy()
    elif isinstance(method, LossWeighting):
        weights_K = method.weights(losses).numpy()
    else:
        raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
    return weights_K[0] * jacobian_KP[0] + weights_K[1] * jacobian_KP[1], weights_K


class _Adam:
    """`torch.optim.Adam` for a point (betas 0.9 and 0.999, eps 1e-8), in a few calls of NumPy."""

    def __init__(self, lr: float) -> None:
        self._lr, self._steps = lr, 0
        self._mean, self._square = np.zeros(2), np.zeros(2)

    def step(self, gradient_P: Array) -> Array:
        """Return what to subtract from the parameters."""
        self._steps += 1
        self._mean += 0.1 * (gradient_P - self._mean)
        self._square += 0.001 * (gradient_P * gradient_P - self._square)
        root_P = np.sqrt(self._square / (1.0 - 0.999**self._steps))
        moved_P: Array = self._lr / (1.0 - 0.9**self._steps) * self._mean / (root_P + 1e-8)
        return moved_P
