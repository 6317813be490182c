"""The straight trip of one network's update: task losses -> Jacobian -> method -> direction -> clip -> Adam."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.jacobian.grouped import TaskLosses, task_jacobian, weighted_gradient
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting


class SurgeryOptimizer:
    """One network's parameters with the method and the optimizer that move them.

    No call in `step` waits for the device. A NaN or an infinity in a task's loss or gradient is remembered on the
    device (`first_bad_update_K`), to be read with the metrics.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        method: AnyMethod,
        learning_rate: float,
        eps: float,
        max_grad_norm: float | None,
    ) -> None:
        self.parameters = parameters
        self.method = method
        self.max_grad_norm = max_grad_norm
        vector_P = parameters.vector_P
        method.to(vector_P.device)
        self._num_tasks = method.num_tasks
        # One flat tensor: the optimizer is a single fused kernel whatever the network's depth.
        self._optimizer = torch.optim.Adam([vector_P], lr=learning_rate, eps=eps, fused=True)
        self.direction_norm = vector_P.new_zeros(())
        self.conflicts: dict[str, Tensor] = {}
        self.first_bad_update_K = torch.full((self._num_tasks,), -1, dtype=torch.int64, device=vector_P.device)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.param_groups[0]["lr"] = value

    def step(self, task_losses: TaskLosses, update: int, look: bool = False) -> Tensor:
        """Move the parameters once.

        Args:
            task_losses: the losses as a function of the parameters.
            update: number of this update, for the error that names it.
            look: also measure how the task gradients conflict (`conflicts`); costs a loss weighting its one Jacobian,
                any other method nothing to speak of.

        Returns:
            losses_K before the step.
        """
        direction_P, losses_K, finite_K = self._direction(task_losses, look)
        self.direction_norm = torch.linalg.vector_norm(direction_P)
        if self.max_grad_norm is not None:
            direction_P *= (self.max_grad_norm / (self.direction_norm + 1e-6)).clamp(max=1.0)
        new_K = ~finite_K & (self.first_bad_update_K < 0)
        self.first_bad_update_K = torch.where(new_K, update, self.first_bad_update_K)
        self.parameters.vector_P.grad = direction_P
        self._optimizer.step()
        if self.method.needs_losses_after_step:
            with torch.no_grad():
                self.method.observe(task_losses(self.parameters.vector_P))
        return losses_K

    def _direction(self, task_losses: TaskLosses, look: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(direction_P, losses_K, finite_K)."""
        method = self.method
        if isinstance(method, LossWeighting) and not look:
            direction_P, losses_K = weighted_gradient(task_losses, self.parameters, method.weights)
            finite_K = torch.isfinite(losses_K)
            # The tasks' own gradients are never built: a bad gradient behind good losses is laid to every task.
            return direction_P, losses_K, torch.where(finite_K.all(), torch.isfinite(direction_P.sum()), finite_K)
        jacobian_KP, losses_K = task_jacobian(task_losses, self.parameters, self._num_tasks)
        gramian_KK = jacobian_KP @ jacobian_KP.T
        if look:
            self.conflicts = conflict_diagnostics(gramian_KK)
        if isinstance(method, LossWeighting):
            direction_P = method.weights(losses_K).to(jacobian_KP.dtype) @ jacobian_KP
        elif isinstance(method, GramianWeighting):
            direction_P = method.weights(gramian_KK, losses_K).to(jacobian_KP.dtype) @ jacobian_KP
        elif isinstance(method, JacobianMethod):
            direction_P = method.direction(jacobian_KP, gramian_KK, losses_K)
        else:
            raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
        return direction_P, losses_K, torch.isfinite(losses_K + gramian_KK.diagonal())

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        adam = self._optimizer.state.get(self.parameters.vector_P, {})
        return {
            "parameters": self.parameters.vector_P.detach().clone(),
            "adam": {name: value.detach().clone() for name, value in adam.items()},
            "method": self.method.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value; the next steps are the same to the bit."""
        vector_P = self.parameters.vector_P
        vector_P.detach().copy_(state["parameters"])
        if state["adam"]:
            restored = {name: value.clone() for name, value in state["adam"].items()}
            for name in ("exp_avg", "exp_avg_sq"):
                restored[name] = restored[name].to(vector_P.device)
            restored["step"] = restored["step"].to(vector_P.device)
            self._optimizer.state[vector_P] = restored
        self.method.load_state_dict(state["method"])
