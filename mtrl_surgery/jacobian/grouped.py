"""The Jacobian [task, parameter] of K task losses in one backward pass (contract 2 of docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mtrl_surgery.jacobian.parameters import FlatParameters

TaskLosses = Callable[[Mapping[str, Tensor]], Tensor]
"""named parameters -> losses_K. The parameters come either with their own shapes or with a leading task axis of
stride zero; loss k may only depend on row k of the latter."""


def task_jacobian(
    task_losses: TaskLosses, parameters: FlatParameters, num_tasks: int, out_KP: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Differentiate every task's loss by the shared parameters, all tasks at once.

    Every parameter is handed out as K references to the same memory (an expanded leaf). The losses of different tasks
    touch different references, so the gradient of the *sum* of the losses by the references is the Jacobian.

    Args:
        task_losses: the network's losses as a function of its parameters; see `TaskLosses`.
        parameters: the P shared parameters.
        num_tasks: K.
        out_KP: memory for the result; allocated when not given.

    Returns:
        (jacobian_KP, losses_K), both detached.
    """
    leaves = parameters.leaves(num_tasks)
    losses_K = task_losses(leaves)
    gradients = torch.autograd.grad(losses_K.sum(), list(leaves.values()))
    jacobian_KP = parameters.vector_P.new_empty(num_tasks, parameters.num_parameters) if out_KP is None else out_KP
    for slot, gradient in zip(parameters.split(jacobian_KP).values(), gradients, strict=True):
        slot.copy_(gradient)
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
    leaves = parameters.leaves()
    losses_K = task_losses(leaves)
    weights_K = weigh(losses_K.detach())
    gradients = torch.autograd.grad((weights_K.to(losses_K.dtype) * losses_K).sum(), list(leaves.values()))
    return torch.cat([gradient.reshape(-1) for gradient in gradients]), losses_K.detach()
