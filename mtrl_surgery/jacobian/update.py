"""The straight trip of one network's update: task losses -> Jacobian -> method -> direction -> clip -> Adam."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import conflict_diagnostics
from mtrl_surgery.jacobian.curvature import curvature_of_last_step
from mtrl_surgery.jacobian.grouped import TaskLosses, task_jacobian, weighted_gradient
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.gramian import gramian


class _Trip(NamedTuple):
    """From the losses to the direction; without a look, a loss weighting builds no Jacobian."""

    direction_P: Tensor
    losses_K: Tensor
    finite_K: Tensor
    jacobian_KP: Tensor | None
    gramian_KK: Tensor | None


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
        self._room_KP: Tensor | None = None  # for the Jacobian of every step
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

    def step(self, task_losses: TaskLosses, update: int, look: bool = False, curvature: bool = False) -> Tensor:
        """Move the parameters once; looks at the gradients do not change where to.

        Args:
            task_losses: the losses as a function of the parameters.
            update: number of this update, for the error that names it.
            look: also measure how the task gradients conflict (`conflicts`); costs a loss weighting a Jacobian, any
                other method nothing to speak of.
            curvature: with a look, also measure the multi-task curvature over this step; two more backward passes.

        Returns:
            losses_K before the step.
        """
        vector_P = self.parameters.vector_P
        start_P = vector_P.clone() if look and curvature else None
        trip = self._trip(task_losses, look)
        direction_P = trip.direction_P
        self.direction_norm = torch.linalg.vector_norm(direction_P)
        if self.max_grad_norm is not None:
            direction_P *= (self.max_grad_norm / (self.direction_norm + 1e-6)).clamp(max=1.0)
        new_K = ~trip.finite_K & (self.first_bad_update_K < 0)
        self.first_bad_update_K = torch.where(new_K, update, self.first_bad_update_K)
        vector_P.grad = direction_P
        self._optimizer.step()
        if self.method.needs_losses_after_step:
            with torch.no_grad():
                self.method.observe(task_losses(vector_P))
        if trip.gramian_KK is not None and look:
            self.conflicts = conflict_diagnostics(trip.gramian_KK)
        if trip.jacobian_KP is not None and start_P is not None:
            step_P, gradient_P = vector_P - start_P, trip.jacobian_KP.mean(0)
            self.conflicts |= curvature_of_last_step(task_losses, self.parameters, step_P, gradient_P)
        return trip.losses_K

    def _trip(self, task_losses: TaskLosses, look: bool) -> _Trip:
        method = self.method
        if isinstance(method, LossWeighting):
            direction_P, losses_K = weighted_gradient(task_losses, self.parameters, method.weights)
            # Good losses may hide a bad gradient; which task's it is, only a Jacobian could tell: it is laid to all.
            whole_K = torch.isfinite(direction_P.sum()).expand(self._num_tasks)
            finite_K = _first_failing(torch.isfinite(losses_K), self._finite_weights(), whole_K)
            # The direction stays that of the one backward: the Jacobian's weighted sum differs in its last bits.
            jacobian_KP = task_jacobian(task_losses, self.parameters, self._num_tasks)[0] if look else None
            gramian_KK = None if jacobian_KP is None else gramian(jacobian_KP)
            return _Trip(direction_P, losses_K, finite_K, jacobian_KP, gramian_KK)
        if self._room_KP is None:
            self._room_KP = self.parameters.vector_P.new_empty(self._num_tasks, self.parameters.num_parameters)
        jacobian_KP, losses_K = task_jacobian(task_losses, self.parameters, self._num_tasks, self._room_KP)
        gramian_KK = gramian(jacobian_KP)
        if isinstance(method, GramianWeighting):
            direction_P = method.weights(gramian_KK, losses_K).to(jacobian_KP.dtype) @ jacobian_KP
        elif isinstance(method, JacobianMethod):
            direction_P = method.direction(jacobian_KP, gramian_KK, losses_K)
        else:
            raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
        finite_K = _first_failing(torch.isfinite(losses_K + gramian_KK.diagonal()), self._finite_weights())
        return _Trip(direction_P, losses_K, finite_K, jacobian_KP, gramian_KK)

    def _finite_weights(self) -> Tensor:
        # A method may refuse a task by a weight that is NaN: a log-loss that has no logarithm, say.
        return torch.isfinite(self.method.diagnostics()["weights_K"])

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


def _first_failing(*checks_K: Tensor) -> Tensor:
    """The first check that a task fails: what fails after it is its consequence."""
    result_K = checks_K[-1]
    for check_K in reversed(checks_K[:-1]):
        result_K = torch.where(check_K.all(), result_K, check_K)
    return result_K
