"""The straight trip of one network's update: task losses -> Jacobian -> method -> direction -> clip -> Adam."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import alignment, conflict_diagnostics, conflict_map
from mtrl_surgery.jacobian.curvature import curvature_of_last_step
from mtrl_surgery.jacobian.grouped import TaskLosses, task_jacobian, weighted_gradient
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.sharding import Whole
from mtrl_surgery.methods._common import gramian
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting

_ADAM_SLICES = ("exp_avg", "exp_avg_sq")


class _Trip(NamedTuple):
    """From the losses to the direction; without diagnostics, a loss weighting builds no Jacobian.

    C are the columns of this learner: all P where it is alone.
    """

    direction_C: Tensor
    losses_K: Tensor
    finite_K: Tensor
    jacobian_KC: Tensor | None
    gramian_KK: Tensor | None


class SurgeryOptimizer:
    """One network's parameters with the method and the optimizer that move them.

    No call in `step` waits for the device. A NaN or an infinity in a task's loss or gradient is remembered on the
    device (`first_bad_update_K`), to be read with the metrics.

    Args:
        parameters: The P shared parameters; several learners start with the same.
        method: The surgery; several learners have an instance each, of the same options and seed.
        learning_rate: Of Adam.
        eps: Of Adam.
        max_grad_norm: The direction is clipped to this length; None for not at all.
        sharding: What the learners tell each other, if there are several; all make the same calls.
    """

    def __init__(
        self,
        parameters: FlatParameters,
        method: AnyMethod,
        learning_rate: float,
        eps: float,
        max_grad_norm: float | None,
        sharding: Whole | None = None,
    ) -> None:
        self.parameters = parameters
        self.method = method
        self.max_grad_norm = max_grad_norm
        self._sharding = sharding or Whole()
        vector_P = parameters.vector_P
        method.to(vector_P.device)
        self._num_tasks = method.num_tasks
        self._columns = self._sharding.columns(parameters.num_parameters)
        if isinstance(method, JacobianMethod) and method.columnwise:
            method.set_column_shard(self._columns.start, self._sharding.total)
        # One flat tensor: the optimizer is a single fused kernel whatever the network's depth.
        self._own_C = vector_P[self._columns]
        self._optimizer = torch.optim.Adam([self._own_C], lr=learning_rate, eps=eps, fused=True)
        self._room_KP: Tensor | None = None  # for the Jacobian of every step
        self.direction_norm = vector_P.new_zeros(())
        self.conflicts: dict[str, Tensor] = {}
        self.first_bad_update_K = torch.full((self._num_tasks,), -1, dtype=torch.int64, device=vector_P.device)

    @property
    def direction_C(self) -> Tensor | None:
        """What the optimizer was last given, after the clip, at this learner's columns."""
        return self._own_C.grad

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.param_groups[0]["lr"] = value

    def step(self, task_losses: TaskLosses, update: int, diagnose: bool = False, curvature: bool = False) -> Tensor:
        """Move the parameters once; diagnostics do not change where to.

        Args:
            task_losses: the losses as a function of the parameters.
            update: number of this update, for the error that names it.
            diagnose: also measure how the task gradients conflict (`conflicts`); costs a loss weighting a Jacobian, any
                other method nothing to speak of.
            curvature: with `diagnose`, also measure the multi-task curvature over this step; two more backward passes.

        Returns:
            losses_K before the step; of several learners, their means.
        """
        vector_P, sharding = self.parameters.vector_P, self._sharding
        start_P = vector_P.clone() if diagnose and curvature else None
        trip = self._trip(task_losses, diagnose)
        direction_C = trip.direction_C
        self.direction_norm = sharding.norm(direction_C)
        if self.max_grad_norm is not None:
            direction_C *= (self.max_grad_norm / (self.direction_norm + 1e-6)).clamp(max=1.0)
        new_K = ~trip.finite_K & (self.first_bad_update_K < 0)
        self.first_bad_update_K = torch.where(new_K, update, self.first_bad_update_K)
        self._own_C.grad = direction_C
        self._optimizer.step()
        if sharding.size > 1:
            vector_P.copy_(sharding.gather(self._own_C, len(vector_P)))
        if self.method.needs_losses_after_step:
            with torch.no_grad():
                self.method.observe(sharding.mean(task_losses(vector_P)))
        if diagnose and trip.gramian_KK is not None and trip.jacobian_KC is not None:
            inner_K = sharding.total(trip.jacobian_KC @ direction_C)
            self.conflicts = conflict_diagnostics(trip.gramian_KK) | conflict_map(trip.gramian_KK)
            self.conflicts["alignment_K"] = alignment(trip.gramian_KK, inner_K, sharding.norm(direction_C))
        if trip.jacobian_KC is not None and start_P is not None:
            step_P, gradient_P = vector_P - start_P, sharding.gather(trip.jacobian_KC.mean(0), len(vector_P))
            self.conflicts |= curvature_of_last_step(
                task_losses, self.parameters, step_P, gradient_P, mean=sharding.mean
            )
        return trip.losses_K

    def _trip(self, task_losses: TaskLosses, diagnose: bool) -> _Trip:
        method = self.method
        if isinstance(method, LossWeighting):
            return self._plain_trip(task_losses, method, diagnose)
        jacobian_KC, gramian_KK, losses_K = self._measure(task_losses)
        if isinstance(method, GramianWeighting):
            direction_C = method.weights(gramian_KK, losses_K).to(jacobian_KC.dtype) @ jacobian_KC
        elif isinstance(method, JacobianMethod):
            direction_C = self._direction(method, jacobian_KC, gramian_KK, losses_K)
        else:
            raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
        finite_K = _first_failing(torch.isfinite(losses_K + gramian_KK.diagonal()), self._finite_weights())
        return _Trip(direction_C, losses_K, finite_K, jacobian_KC, gramian_KK)

    def _plain_trip(self, task_losses: TaskLosses, method: LossWeighting[Any], diagnose: bool) -> _Trip:
        """One backward of the weighted losses: P numbers to exchange, not K P."""
        sharding = self._sharding
        means: list[Tensor] = []

        def weigh(losses_K: Tensor) -> Tensor:
            means.append(sharding.mean(losses_K))
            return method.weights(means[0])

        direction_P, _ = weighted_gradient(task_losses, self.parameters, weigh)
        direction_C, losses_K = sharding.scatter(direction_P), means[0]
        # Good losses may hide a bad gradient; which task's it is, only a Jacobian could tell: it is laid to all.
        whole_K = torch.isfinite(sharding.total(direction_C.sum())).expand(self._num_tasks)
        finite_K = _first_failing(torch.isfinite(losses_K), self._finite_weights(), whole_K)
        if not diagnose:
            return _Trip(direction_C, losses_K, finite_K, None, None)
        # The direction stays that of the one backward: the Jacobian's weighted sum differs in its last bits.
        jacobian_KC = sharding.scatter(task_jacobian(task_losses, self.parameters, self._num_tasks)[0])
        return _Trip(direction_C, losses_K, finite_K, jacobian_KC, sharding.total(gramian(jacobian_KC)))

    def _measure(self, task_losses: TaskLosses) -> tuple[Tensor, Tensor, Tensor]:
        """The mean Jacobian's own columns, the Gramian of all of them, and the losses."""
        sharding = self._sharding
        if self._room_KP is None:
            self._room_KP = self.parameters.vector_P.new_empty(self._num_tasks, self.parameters.num_parameters)
        jacobian_KP, losses_K = task_jacobian(task_losses, self.parameters, self._num_tasks, self._room_KP)
        jacobian_KC = sharding.scatter(jacobian_KP)
        own_KK = gramian(jacobian_KC)
        if sharding.size == 1:
            return jacobian_KC, own_KK, losses_K
        # One exchange for both: what so few numbers cost is the call.
        sums = sharding.total(torch.cat([own_KK, (losses_K / sharding.size)[:, None]], dim=1))
        return jacobian_KC, sums[:, :-1], sums[:, -1]

    def _direction(
        self, method: JacobianMethod[Any], jacobian_KC: Tensor, gramian_KK: Tensor, losses_K: Tensor
    ) -> Tensor:
        if method.columnwise:
            return method.direction(jacobian_KC, gramian_KK, losses_K)
        # Every learner does all of the method's work: the price of methods that can't be cut.
        jacobian_KP = self._sharding.gather(jacobian_KC, self.parameters.num_parameters)
        return method.direction(jacobian_KP, gramian_KK, losses_K)[self._columns]

    def _finite_weights(self) -> Tensor:
        # A method may refuse a task by a weight that is NaN: a log-loss that has no logarithm, say.
        return torch.isfinite(self.method.diagnostics()["weights_K"])

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, of all columns: it is the same however many learners there are."""
        adam, slices = self._optimizer.state.get(self._own_C, {}), self._slices
        return {
            "parameters": self.parameters.vector_P.detach().clone(),
            "adam": {name: self._whole(value.detach(), name in _ADAM_SLICES) for name, value in adam.items()},
            "method": {name: self._whole(value, name in slices) for name, value in self.method.state_dict().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value; the next steps are the same to the bit."""
        self.parameters.vector_P.detach().copy_(state["parameters"])
        if state["adam"]:
            self._optimizer.state[self._own_C] = {
                name: self._mine(value, name in _ADAM_SLICES).to(self._own_C.device)
                for name, value in state["adam"].items()
            }
        slices = self._slices
        self.method.load_state_dict(
            {name: self._mine(value, name in slices) for name, value in state["method"].items()}
        )

    @property
    def _slices(self) -> set[str]:
        """Names of the method's state that there is of every column, which is its last axis."""
        method = self.method
        if isinstance(method, JacobianMethod) and not method.columnwise:
            return set()  # it sees all of them
        return {name for name, axes in method.state_axes.items() if axes[-1:] == ("parameter",)}

    def _whole(self, value: Any, cut: bool) -> Any:
        return copy.deepcopy(self._sharding.gather(value, self.parameters.num_parameters) if cut else value)

    def _mine(self, value: Any, cut: bool) -> Any:
        return value[..., self._columns].clone() if cut else copy.deepcopy(value)


def _first_failing(*checks_K: Tensor) -> Tensor:
    """The first check that a task fails: what fails after it is its consequence."""
    result_K = checks_K[-1]
    for check_K in reversed(checks_K[:-1]):
        result_K = torch.where(check_K.all(), result_K, check_K)
    return result_K
