"""All starts in one descent: one vectorised Jacobian a step, one method a start, one Adam for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments_vision.toy.problems import Problem
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

    theta_TSP: Tensor
    weights_TSK: Tensor
    stopped_S: tuple[int, ...]


def methods_for(config: MethodConfig, num_starts: int, seed: int) -> list[AnyMethod]:
    """A method for each start, for they remember; start s draws from the stream (seed, s)."""
    streams = (np.random.SeedSequence(seed, spawn_key=(start,)) for start in range(num_starts))
    return [make_method(config, 2, int(stream.generate_state(1)[0])) for stream in streams]


@torch.no_grad()
def descend(
    problem: Problem,
    starts_SP: Tensor,
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
    theta_SP = starts_SP.detach().clone()
    direction_SP = torch.zeros_like(theta_SP)
    theta_SP.grad = direction_SP
    adam = torch.optim.Adam([theta_SP], lr=lr, fused=True)
    theta_TSP = theta_SP.new_empty(steps + 1, num_starts, 2)
    weights_TSK = theta_SP.new_full((steps, num_starts, 2), torch.nan)
    stopped = [-1] * num_starts
    row_S, weights_row_TS = direction_SP.unbind(), weights_TSK.unbind()

    theta_TSP[0] = theta_SP
    losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_SP)
    for step in range(steps):
        # Two columns: a product and a sum, so that a start's bits do not depend on how many there are.
        gramian_SKK = (jacobian_SKP[:, :, None] * jacobian_SKP[:, None]).sum(-1)
        shown = zip(
            methods, row_S, weights_row_TS[step], jacobian_SKP.unbind(), gramian_SKK.unbind(), losses_SK.unbind(),
            strict=True,
        )  # fmt: skip
        for start, (method, row_P, weights_K, *seen) in enumerate(shown):
            if stopped[start] < 0:
                row_P.copy_(_direction(method, *seen))
                weights_K.copy_(method.diagnostics()["weights_K"])
        if max_norm is not None:
            norm_S1 = torch.linalg.vector_norm(direction_SP, dim=1, keepdim=True)
            direction_SP.mul_((max_norm / (norm_S1 + 1e-6)).clamp_(max=1.0))
        if not torch.isfinite(direction_SP.sum()):
            _stop(stopped, direction_SP, step)
        adam.step()
        for start, stop in enumerate(stopped):
            if stop >= 0:
                theta_SP[start] = theta_TSP[step, start]
        theta_TSP[step + 1] = theta_SP
        losses_SK, jacobian_SKP = problem.losses_and_jacobian(theta_SP)
        if methods[0].needs_losses_after_step:
            for method, losses_K, stop in zip(methods, losses_SK.unbind(), stopped, strict=True):
                if stop < 0:
                    method.observe(losses_K)
        if progress is not None and (step + 1) % _SHOW_EVERY == 0:
            progress(step + 1)
    return Descent(theta_TSP, weights_TSK, tuple(stopped))


def _direction(method: AnyMethod, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
    if isinstance(method, JacobianMethod):
        return method.direction(jacobian_KP, gramian_KK, losses_K)
    if isinstance(method, GramianWeighting):
        return method.weights(gramian_KK, losses_K) @ jacobian_KP
    if isinstance(method, LossWeighting):
        return method.weights(losses_K) @ jacobian_KP
    raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")


def _stop(stopped: list[int], direction_SP: Tensor, step: int) -> None:
    """Notes who has no finite direction, and takes the direction away."""
    for start, fine in enumerate(torch.isfinite(direction_SP).all(dim=1).tolist()):
        if not fine:
            stopped[start] = step
            direction_SP[start] = 0.0
