"""The Jacobian [task, parameter] of K task losses in one backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtrl_surgery.jacobian.parameters import FlatParameters

TaskLosses = Callable[[Tensor], Tensor]
"""theta -> losses_K. Theta is a network's flat parameters, theta_P, or theta_KP with one row a task; loss k may depend
on row k only. Networks read it through `FlatParameters.split`, or through `TaskMLP`, which is faster."""


def task_jacobian(
    task_losses: TaskLosses, parameters: FlatParameters, num_tasks: int, room_KP: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Differentiate every task's loss by the shared parameters, all tasks at once.

    The parameters are handed out as K references to the same memory (an expanded leaf). The losses of different tasks
    touch different references, so the gradient of the *sum* of the losses by the references is the Jacobian.

    Args:
        task_losses: the network's losses as a function of its parameters; see `TaskLosses`.
        parameters: the P shared parameters.
        num_tasks: K.
        room_KP: memory that the Jacobian may be written into, so that it lasts until the room is lent again.

    Returns:
        (jacobian_KP, losses_K), both detached.
    """
    theta_KP = parameters.leaf(num_tasks)
    losses_K = task_losses(theta_KP)
    parameters.lend(room_KP)
    try:
        (jacobian_KP,) = torch.autograd.grad(losses_K.sum(), theta_KP)
    finally:
        parameters.lend(None)
    return jacobian_KP, losses_K.detach()


def weighted_gradient(
    task_losses: TaskLosses, parameters: FlatParameters, weigh: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradient of a weighted sum of the losses by one plain backward, for methods that need no Jacobian.

    Args:
        task_losses: see `TaskLosses`.
        parameters: the P shared parameters.
        weigh: losses_K (detached) -> weights_K.

    Returns:
        (direction_P, losses_K), both detached.
    """
    theta_P = parameters.leaf()
    losses_K = task_losses(theta_P)
    weights_K = weigh(losses_K.detach()).to(losses_K.dtype)
    (direction_P,) = torch.autograd.grad(losses_K, theta_P, weights_K)
    return direction_P, losses_K.detach()
