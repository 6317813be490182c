"""The contract of a method: what it is shown, what it returns, and how its state is saved.

Three kinds, by what they need. The public calls (`weights`, `direction`) check shapes, switch gradients off
and keep the diagnostics; a method implements `solve`. Nothing in a call waits for the device: no `.item()`, no
Python branch on a tensor's value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy
import torch
from torch import Tensor, nn

from mtrl_surgery.methods._solvers.arrays import one_blas_thread
from mtrl_surgery.methods.config import MethodConfig, MethodError

ConfigT = TypeVar("ConfigT", bound=MethodConfig)

Axis = Literal["task", "parameter", "other"]


class Method(nn.Module, ABC, Generic[ConfigT]):
    """What every method shares: its options and its state.

    All of a method's memory is in its buffers and, for a `Stochastic` one, in its generator: `to`, `state_dict` and
    `load_state_dict` are Torch's. As of every module, what `state_dict` gives is the memory itself, no copy.

    Args:
        num_tasks: K, at least 1.
        config: The options.
        seed: Seeds the generator of a stochastic method.

    Attributes:
        state_axes: Buffer -> what its axes count. Where a batch lacks tasks, their entries are left out along the axes
            of tasks; several learners hold a slice each along the axis of parameters, the last.

    Raises:
        MethodError: if `num_tasks < 1`; and from `load_state_dict`, for names or shapes of another method or another
            number of tasks, before any buffer is changed.
    """

    needs: ClassVar[Literal["losses", "gramian", "jacobian"]]
    period: int = 1
    """After how many steps what it costs repeats."""

    def __init__(self, num_tasks: int, config: ConfigT, seed: int = 0) -> None:
        super().__init__()
        if num_tasks < 1:
            raise MethodError(f"{config.name}: num_tasks={num_tasks}: must be at least 1")
        self.name = config.name
        self.num_tasks = num_tasks
        self.config = config
        self.state_axes: dict[str, tuple[Axis, ...]] = {}
        self._lazy: set[str] = set()
        self._diagnostics: dict[str, Tensor] = {}
        self.register_load_state_dict_pre_hook(_check_state)  # type: ignore[no-untyped-call]

    def add_state(self, name: str, value: Tensor | None, *axes: Axis, saved: bool = True) -> None:
        """Registers a buffer.

        Args:
            name: The attribute.
            value: What it begins as; None where the first call tells its shape.
            axes: What each of its axes counts, as in `state_axes`; none for a scalar.
            saved: Whether `state_dict` has it; a constant of the options needs not be there.
        """
        self.register_buffer(name, value, persistent=saved)
        self.state_axes[name] = axes
        if value is None:
            self._lazy.add(name)

    @property
    def needs_losses_after_step(self) -> bool:
        """Whether `observe` wants the losses of the same batch after the step that the last call was for."""
        return False

    def diagnostics(self) -> dict[str, Tensor]:
        """Device tensors of the last call: always `weights_K` ([K]) once there was one."""
        return dict(self._diagnostics)

    def record(self, **tensors: Tensor) -> None:
        """Keeps tensors for `diagnostics`."""
        self._diagnostics.update(tensors)

    def observe(self, losses_K: Tensor) -> None:
        """Shows the losses [K] of the same batch after the step; see `needs_losses_after_step`."""

    def _check(self, what: str, tensor: Tensor, *shape: int) -> None:
        if tuple(tensor.shape) != shape:
            raise MethodError(f"{self.name}: {what} has shape {tuple(tensor.shape)}, expected {shape}")


def _check_state(method: Method[Any], state: Mapping[str, Any], prefix: str, *_: object) -> None:
    """Before a state is loaded: refuses another method's, and gives lazy buffers the shapes of what comes."""
    given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own, lazy = method.state_dict(), method._lazy
    missing, unexpected = sorted(own.keys() - lazy - given.keys()), sorted(given.keys() - own.keys() - lazy)
    if missing or unexpected:
        raise MethodError(f"{method.name}: state of another method: missing {missing}, unexpected {unexpected}")
    for name in own.keys() & method.state_axes.keys() - lazy:
        method._check(f"state {name!r}", given[name], *own[name].shape)
    device = next((buffer.device for buffer in method.buffers()), None)
    for name in lazy:
        setattr(method, name, torch.empty_like(given[name], device=device) if name in given else None)


class Stochastic(Method[ConfigT]):
    """A method that draws random numbers: its generator is part of its state.

    A base class beside that of the method's kind: `class RLW(Stochastic[RlwConfig], LossWeighting[RlwConfig])`.
    """

    def __init__(self, num_tasks: int, config: ConfigT, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        # On the CPU for every device: the same draws everywhere, and a checkpoint that moves between devices.
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Any:
        """The generator's state, for `state_dict`."""
        return self.generator.get_state()

    def set_extra_state(self, state: Any) -> None:
        """Restores the generator, for `load_state_dict`."""
        self.generator.set_state(state.cpu())

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Float64 uniform numbers in [0, 1) from the method's own generator, on `device`.

        Raises:
            MethodError: while a CUDA graph is captured, since a replay would repeat the captured draw.
        """
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise MethodError(f"{self.name}: draws on the host and cannot be captured in a CUDA graph")
        draw = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return draw.to(device, non_blocking=True)


class LossWeighting(Method[ConfigT]):
    """Weights from the losses alone: the engine does one backward of the weighted sum."""

    needs = "losses"

    @torch.no_grad()
    def weights(self, losses_K: Tensor) -> Tensor:
        """The weights [K], in the losses' dtype; the direction is the gradient of `weights @ losses`.

        Args:
            losses_K: The task losses, [K].
        """
        self._check("losses_K", losses_K, self.num_tasks)
        weights_K = self.solve(losses_K)
        self.record(weights_K=weights_K)
        return weights_K

    @abstractmethod
    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> weights [K]; gradients are off."""


class GramianWeighting(Method[ConfigT]):
    """Weights from the Gramian: the direction is `weights @ jacobian`."""

    needs = "gramian"
    eps: float = torch.finfo(torch.float64).eps
    """The precision of the Gramian that was measured; a dependent gradient is told from rounding by it."""

    @torch.no_grad()
    def weights(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights [K], in the Gramian's dtype.

        Args:
            gramian_KK: Inner products of the task gradients, [K, K].
            losses_K: The task losses, [K].
        """
        self._check("gramian_KK", gramian_KK, self.num_tasks, self.num_tasks)
        self._check("losses_K", losses_K, self.num_tasks)
        self.eps = torch.finfo(gramian_KK.dtype).eps
        with one_blas_thread(), numpy.errstate(all="ignore"):  # what is not finite spreads, and the learner names it
            weights_K = self.solve(gramian_KK.detach().double(), losses_K).to(gramian_KK.dtype)
        self.record(weights_K=weights_K)
        return weights_K

    @abstractmethod
    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """Float64 Gramian [K, K] and losses [K] -> float64 weights [K]; gradients are off."""


class JacobianMethod(Method[ConfigT]):
    """A direction from the whole Jacobian, by operations that are independent per parameter.

    So a method can be shown a slice of the Jacobian's columns, with the Gramian of the whole one
    (`set_column_shard`); what it sums over the parameters itself goes through `total`.
    """

    needs = "jacobian"
    columnwise: ClassVar[bool] = True
    """Whether it keeps to that; else it must be shown all columns."""
    first_column: int = 0
    """The number of the first column that it is shown."""
    _total: Callable[[Tensor], Tensor] | None = None

    def set_column_shard(self, first: int, total: Callable[[Tensor], Tensor]) -> None:
        """Says that it will be shown some columns only, and instances like it the others.

        Args:
            first: The number of the first column; the same at every call.
            total: Adds a tensor up over all these instances, with an all-reduce for instance.

        Raises:
            MethodError: if it needs all columns.
        """
        if not self.columnwise:
            raise MethodError(f"{self.name}: can't be shown some of the Jacobian's columns, it needs all of them")
        self.first_column, self._total = first, total

    def total(self, part: Tensor) -> Tensor:
        """Adds a tensor up over the slices that the Jacobian's columns are cut into; as it is where there is one."""
        return part if self._total is None else self._total(part)

    @torch.no_grad()
    def direction(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The direction [P], to be given to the optimizer as the gradient; in the Jacobian's dtype.

        Args:
            jacobian_KP: The task gradients, [K, P]; P is the same at every call. Left as it is.
            gramian_KK: `jacobian @ jacobian.T`, [K, K].
            losses_K: The task losses, [K].
        """
        self._check("gramian_KK", gramian_KK, self.num_tasks, self.num_tasks)
        self._check("losses_K", losses_K, self.num_tasks)
        if jacobian_KP.ndim != 2 or jacobian_KP.shape[0] != self.num_tasks:
            shape = tuple(jacobian_KP.shape)
            raise MethodError(f"{self.name}: jacobian_KP has shape {shape}, expected ({self.num_tasks}, P)")
        direction_P, weights_K = self.solve(jacobian_KP, gramian_KK.double(), losses_K)
        self.record(weights_K=weights_K)
        return direction_P

    @abstractmethod
    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """Jacobian, float64 Gramian, losses -> (direction [P], weights [K] to log); gradients are off."""


AnyMethod = Method[Any]
