"""TorchJD's aggregators, weightings and scalarizers as methods of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import (
    Aggregator,
    CRMOGMWeighting,
    GramianWeightedAggregator,
    MoDoWeighting,
    SDMGradWeighting,
    WeightedAggregator,
    Weighting,
)
from torchjd.scalarization import Scalarizer

from mtrl_surgery.methods._common import adam_step, add_adam
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting, Stochastic
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.torchjd.objects import build, capture, move, restore


def make(num_tasks: int, config: MethodConfig, seed: int = 0) -> AnyMethod:
    """The method for these options, of the cheapest kind that serves.

    Raises:
        MethodError: for a path or an argument that TorchJD doesn't have.
    """
    module = build(num_tasks, config)
    if isinstance(module, GramianWeightedAggregator):
        module = module.gramian_weighting
    if isinstance(module, Scalarizer):
        return TorchjdScalarizer(num_tasks, config, seed, module)
    if isinstance(module, Weighting) and _reads_a_gramian(module):
        return TorchjdWeighting(num_tasks, config, seed, module)
    return TorchjdAggregator(num_tasks, config, seed, module)


def _reads_a_gramian(weighting: nn.Module) -> bool:
    """Whether it is shown [K, K]; TorchJD says so by the type of `forward`'s argument alone."""
    if isinstance(weighting, CRMOGMWeighting):
        return _reads_a_gramian(weighting.weighting)
    by_type = "PSDMatrix" in str(weighting.forward.__annotations__.get("gramian", ""))
    return by_type or isinstance(weighting, MoDoWeighting | SDMGradWeighting)


class _Adapter(Stochastic[Any]):
    """What the three kinds share: TorchJD's object with its memory, and random numbers that are the method's own.

    Every one is stochastic, since TorchJD doesn't say what draws. The object is no submodule: some keep their memory in
    plain attributes, its parameters are nobody else's to train, and it follows the tensors that it is shown from device
    to device. All of it is in the extra state.
    """

    def __init__(self, num_tasks: int, config: MethodConfig, seed: int, module: nn.Module) -> None:
        super().__init__(num_tasks, config, seed)
        self._held = (module,)
        self._placed: tuple[torch.device, torch.dtype] | None = None

    @property
    def module(self) -> nn.Module:
        """TorchJD's object."""
        return self._held[0]

    @contextmanager
    def _ready(self, like: Tensor) -> Iterator[None]:
        """The object on that device, the global generators replaced by ours, TorchJD's complaints ours.

        Raises:
            MethodError: for what TorchJD refuses.
        """
        if self._placed != (like.device, like.dtype):
            move(self.module, like.device, like.dtype)
            self._placed = (like.device, like.dtype)
        devices = [like.device] if like.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            if devices:
                seed = int(torch.randint(2**62, (), generator=self.generator))
                torch.cuda.default_generators[like.device.index or 0].manual_seed(seed)
            torch.set_rng_state(self.generator.get_state())
            try:
                yield
            except ValueError as error:
                raise MethodError(f"{self.name}: {error}") from error
            finally:
                self.generator.set_state(torch.get_rng_state())

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state and everything that TorchJD's object remembers."""
        return {"generator": self.generator.get_state(), "module": capture(self.module)}

    def set_extra_state(self, state: Any) -> None:
        """Restores both.

        Raises:
            MethodError: for the state of another class; nothing is changed.
        """
        restore(self.name, self.module, state["module"])
        super().set_extra_state(state["generator"])
        self._placed = None


class TorchjdWeighting(_Adapter, GramianWeighting[Any]):
    """A TorchJD weighting of the Gramian; it sees float64."""

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """TorchJD's weights, in float64; NaN for a Gramian that isn't finite."""
        if not gramian_KK.isfinite().all():
            return torch.full_like(losses_K, torch.nan, dtype=torch.float64)
        with self._ready(gramian_KK):
            weights_K: Tensor = self.module(gramian_KK)
        return weights_K.double()


class TorchjdAggregator(_Adapter, JacobianMethod[Any]):
    """A TorchJD aggregator or weighting that wants the whole Jacobian; it cannot be shown a slice of the columns."""

    columnwise = False

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """TorchJD's direction. For the log its weights, or <d, g_k> / |g_k|^2 of an aggregator that has none."""
        if not gramian_KK.isfinite().all():
            return torch.full_like(jacobian_KP[0], torch.nan), torch.full_like(jacobian_KP[:, 0], torch.nan)
        weighting = self.module.weighting if isinstance(self.module, WeightedAggregator) else self.module
        with self._ready(jacobian_KP):
            if isinstance(self.module, Aggregator) and weighting is self.module:
                direction_P: Tensor = self.module(jacobian_KP)
                share_K = (jacobian_KP @ direction_P) / gramian_KK.diagonal().to(jacobian_KP.dtype)
                return direction_P, share_K.nan_to_num(0.0, 0.0, 0.0)
            weights_K: Tensor = weighting(jacobian_KP)
        return weights_K @ jacobian_KP, weights_K.clone()


class TorchjdScalarizer(_Adapter, LossWeighting[Any]):
    """A TorchJD scalarizer: the weights are its gradient by the losses. What it learns, Adam moves at every call."""

    def __init__(self, num_tasks: int, config: MethodConfig, seed: int, module: nn.Module) -> None:
        super().__init__(num_tasks, config, seed, module)
        if learnt := sum(parameter.numel() for parameter in module.parameters()):
            add_adam(self, learnt)

    def solve(self, losses_K: Tensor) -> Tensor:
        """The gradient of the scalarization by the losses, [K]."""
        parameters = list(self.module.parameters())
        with self._ready(losses_K), torch.enable_grad():
            leaf_K = losses_K.detach().requires_grad_()
            weights_K, *gradients = torch.autograd.grad(self.module(leaf_K), [leaf_K, *parameters])
        if parameters:
            flat = torch.cat([gradient.flatten() for gradient in gradients]).double()
            step = adam_step(self, flat, self.config.lr)
            for parameter, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
                parameter.sub_(part.view_as(parameter))
        return weights_K
