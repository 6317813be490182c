"""Who tells every start where to go: the library's own methods, one call for all starts where that is possible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments_vision.toy.lanes import Lanes
from experiments_vision.toy.problems import Array
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting, Stochastic
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import find_method, make_method

Going = NDArray[np.bool_]
_DRAWS = 256  # calls


def guide_for(config: MethodConfig, starts: Sequence[int], seed: int) -> Guide:
    """The fastest that there is for a method.

    Args:
        config: The method's options.
        starts: The numbers of the starts; start s draws from the stream (seed, s).
        seed: The run's.
    """
    if config.name == "upgrad":
        return SideBySide(config, len(starts))
    methods = methods_for(config, starts, seed)
    return Together(methods) if asks_once(config) else OneByOne(methods)


def asks_once(config: MethodConfig) -> bool:
    """Whether one call serves all starts, so that many cost hardly more than one."""
    return find_method(config.name).origin == "ours"


def methods_for(config: MethodConfig, starts: Sequence[int], seed: int) -> list[AnyMethod]:
    """A method for each start, for they remember; start s draws from the stream (seed, s)."""
    streams = (np.random.SeedSequence(seed, spawn_key=(start,)) for start in starts)
    return [make_method(config, 2, int(stream.generate_state(1)[0])) for stream in streams]


class Guide(ABC):
    """Directions and weights for all starts, whose losses and Jacobians are shown to it step by step."""

    observes: bool = False
    """Whether it wants to be shown the losses after the step."""

    @abstractmethod
    def ask(self, losses_SK: Array, jacobian_SKP: Array, going_S: Going) -> tuple[Array, Array]:
        """Directions [S, P] and weights [S, K]; not finite where a start has none.

        Args:
            losses_SK: Where the starts are.
            jacobian_SKP: There.
            going_S: Those that have not stopped; the others' answers don't count.
        """

    def observe(self, losses_SK: Array, going_S: Going) -> None:  # noqa: B027 - most want none
        """Shows the losses after the step."""


class Together(Guide):
    """One method's code for all starts, on lanes.

    Args:
        methods: Fresh ones, one for each start. The first lends its code to all.
    """

    def __init__(self, methods: Sequence[AnyMethod]) -> None:
        method = methods[0]
        if isinstance(method, Stochastic):
            streams: Any = [one.generator for one in methods]
            method.uniform = _Draws(streams)  # type: ignore[method-assign]
        for name in method.state_axes:
            tensor = getattr(method, name)
            # Whole numbers count calls, which all starts have in common.
            if tensor is None or tensor.is_floating_point():
                arrays = [getattr(one, name).numpy() for one in methods] if tensor is not None else None
                delattr(method, name)  # no buffer can be lanes
                setattr(method, name, None if arrays is None else Lanes(np.stack(arrays, axis=-1)))
        self._method, self.observes = method, method.needs_losses_after_step

    @np.errstate(all="ignore")  # what is not finite stops a start
    def ask(self, losses_SK: Array, jacobian_SKP: Array, going_S: Going) -> tuple[Array, Array]:
        """See the base class."""
        jacobian, losses_K, method = jacobian_SKP.transpose(1, 2, 0), _lanes(losses_SK.T), self._method
        if isinstance(method, LossWeighting):
            weights_SK = _plain(method.solve(losses_K))
        elif isinstance(method, GramianWeighting):
            weights_SK = _plain(method.solve(_lanes(gramian_of(jacobian)), losses_K))
        elif isinstance(method, JacobianMethod):
            direction_P, weights_K = method.solve(_lanes(jacobian), _lanes(gramian_of(jacobian)), losses_K)
            return _plain(direction_P), _plain(weights_K)
        else:
            raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
        return combined(weights_SK, jacobian_SKP), weights_SK

    def observe(self, losses_SK: Array, going_S: Going) -> None:
        """See the base class."""
        with np.errstate(all="ignore"):
            self._method.observe(_lanes(losses_SK.T))


class _Draws:
    """`Method.uniform` on lanes, for many calls at once: a stream's numbers do not depend on the portions.

    Args:
        streams: One a start. A method asks for one shape only.
    """

    def __init__(self, streams: Sequence[torch.Generator]) -> None:
        self._streams = streams
        self._drawn: Iterator[Any] = iter(())

    def __call__(self, shape: tuple[int, ...], device: torch.device) -> Any:
        """Numbers in [0, 1) of that shape."""
        for drawn in self._drawn:
            return drawn
        size = (_DRAWS, *shape)
        several = [torch.rand(size, generator=stream, dtype=torch.float64).numpy() for stream in self._streams]
        self._drawn = map(Lanes, np.stack(several, axis=-1))
        return next(self._drawn)


class SideBySide(Guide):
    """UPGrad of all starts' tasks at once.

    Gradients of different starts are put into dimensions of their own, so that they are orthogonal; UPGrad projects
    such gradients as if the others were not there.

    Args:
        config: UPGrad's options.
        num_starts: S.
    """

    def __init__(self, config: Any, num_starts: int) -> None:
        self._method: Any = make_method(replace(config, preference=config.preference * num_starts), 2 * num_starts, 0)
        self._factor = 1.0 if config.preference else float(num_starts)  # equal weights are 1 / (number of tasks)

    def ask(self, losses_SK: Array, jacobian_SKP: Array, going_S: Going) -> tuple[Array, Array]:
        """See the base class."""
        starts, tasks = losses_SK.shape
        gramian = np.zeros((starts, tasks, starts, tasks))
        np.einsum("skst->kts", gramian)[...] = gramian_of(jacobian_SKP.transpose(1, 2, 0))
        gramian_KK = torch.from_numpy(gramian.reshape(starts * tasks, -1))
        weights_K = self._method.weights(gramian_KK, torch.from_numpy(losses_SK.reshape(-1)))
        weights_SK = self._factor * weights_K.numpy().reshape(starts, tasks)
        return combined(weights_SK, jacobian_SKP), weights_SK


class OneByOne(Guide):
    """A method for each start, called one after the other: for methods whose code is not ours.

    Args:
        methods: Fresh ones, one for each start.
    """

    def __init__(self, methods: Sequence[AnyMethod]) -> None:
        self._methods, self.observes = methods, methods[0].needs_losses_after_step

    def ask(self, losses_SK: Array, jacobian_SKP: Array, going_S: Going) -> tuple[Array, Array]:
        """See the base class."""
        gramian_SKK = np.ascontiguousarray(gramian_of(jacobian_SKP.transpose(1, 2, 0)).transpose(2, 0, 1))
        seen = (torch.from_numpy(array).unbind() for array in (jacobian_SKP, gramian_SKK, losses_SK))
        direction_SP, weights_SK = np.full_like(jacobian_SKP[:, 0], np.nan), np.full_like(losses_SK, np.nan)
        for start, (method, jacobian_KP, gramian_KK, losses_K) in enumerate(zip(self._methods, *seen, strict=True)):
            if not going_S[start]:
                continue
            if isinstance(method, JacobianMethod):
                direction_SP[start] = method.direction(jacobian_KP, gramian_KK, losses_K).numpy()
                weights_SK[start] = method.diagnostics()["weights_K"].numpy()
                continue
            if isinstance(method, GramianWeighting):
                weights_SK[start] = method.weights(gramian_KK, losses_K).numpy()
            elif isinstance(method, LossWeighting):
                weights_SK[start] = method.weights(losses_K).numpy()
            else:
                raise TypeError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")
            direction_SP[start] = combined(weights_SK[start], jacobian_SKP[start])
        return direction_SP, weights_SK

    def observe(self, losses_SK: Array, going_S: Going) -> None:
        """See the base class."""
        for method, losses_K, going in zip(self._methods, torch.from_numpy(losses_SK), going_S, strict=True):
            if going:
                method.observe(losses_K)


def gramian_of(jacobian: Array) -> Array:
    """[K, P, S] -> [K, K, S], by hand: the bits of a matrix product depend on how many starts there are."""
    x, y = jacobian[:, 0], jacobian[:, 1]
    product: Array = x[:, None] * x + y[:, None] * y
    return product


def combined(weights_SK: Array, jacobian_SKP: Array) -> Array:
    """The weighted sums of the gradients, [S, P]."""
    total: Array = weights_SK[..., :1] * jacobian_SKP[..., 0, :] + weights_SK[..., 1:] * jacobian_SKP[..., 1, :]
    return total


def _lanes(data: Array) -> Any:
    """To a method's code it is a tensor."""
    return Lanes(data)


def _plain(answer: Lanes | Tensor) -> Array:
    """[K, S] of a method's answer -> [S, K]."""
    data: Array = (answer.data if isinstance(answer, Lanes) else answer.numpy()).T
    return data
