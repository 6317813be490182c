"""The methods of this package as TorchJD objects, for whoever trains with `torchjd.autojac` or `torchjd.autogram`."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, GramianWeightedAggregator, Weighting
from torchjd.scalarization import Scalarizer

from mtrl_surgery.methods._common import gramian
from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting
from mtrl_surgery.methods.config import MethodError


@overload
def as_torchjd(method: LossWeighting) -> MethodScalarizer: ...  # type: ignore[type-arg]
@overload
def as_torchjd(method: AnyMethod) -> Aggregator: ...
def as_torchjd(method: AnyMethod) -> nn.Module:
    """A method as TorchJD's counterpart of its kind.

    A Gramian weighting becomes a `GramianWeightedAggregator` (its `gramian_weighting` is for autogram), a Jacobian
    method an `Aggregator`, a loss weighting a `Scalarizer`. The method's memory is in the object's `state_dict()`.

    TorchJD shows an aggregator no losses. Set `losses` of `MethodAggregator` (or of the `gramian_weighting`) before
    each call for a method that reads them (dbmtl, for instance): without them its direction is NaN.

    Args:
        method: A method of its own, as for every network.
    """
    if isinstance(method, LossWeighting):
        return MethodScalarizer(method)
    if isinstance(method, GramianWeighting):
        return GramianWeightedAggregator(MethodWeighting(method))  # type: ignore[no-any-return]
    if isinstance(method, JacobianMethod):
        return MethodAggregator(method)
    raise MethodError(f"{type(method).__name__} is no loss weighting, Gramian weighting or Jacobian method")


class _Holder(nn.Module):
    """Keeps a method on the device of what it is shown."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        self.losses: Tensor | None = None

    def _follow(self, tensor: Tensor) -> None:
        if next(self.method.buffers(), tensor).device != tensor.device:
            self.method.to(tensor.device)

    def _losses_like(self, tensor: Tensor) -> Tensor:
        if self.losses is None:
            return torch.full_like(tensor[:, 0], torch.nan)
        return self.losses.detach().to(tensor.device)


class MethodWeighting(_Holder, Weighting):  # type: ignore[misc]
    """A Gramian weighting as a TorchJD weighting: Gramian [K, K] -> weights [K]."""

    def forward(self, gramian: Tensor, /) -> Tensor:
        """The method's weights."""
        self._follow(gramian)
        weights_K: Tensor = self.method.weights(gramian.detach(), self._losses_like(gramian))
        return weights_K


class MethodAggregator(_Holder, Aggregator):  # type: ignore[misc]
    """A Jacobian method as a TorchJD aggregator: Jacobian [K, P] -> direction [P]."""

    def forward(self, matrix: Tensor, /) -> Tensor:
        """The method's direction."""
        self._follow(matrix)
        jacobian_KP = matrix.detach()
        losses_K = self._losses_like(jacobian_KP)
        direction_P: Tensor = self.method.direction(jacobian_KP, gramian(jacobian_KP), losses_K)
        return direction_P


class MethodScalarizer(_Holder, Scalarizer):  # type: ignore[misc]
    """A loss weighting as a TorchJD scalarizer: losses [K] -> a scalar whose gradient is the weights."""

    def forward(self, values: Tensor, /) -> Tensor:
        """The weighted sum, with the weights as constants."""
        self._follow(values)
        weights_K: Tensor = self.method.weights(values.detach())
        return weights_K @ values

    def update(self, values: Tensor, /) -> None:
        """Shows the losses of the same batch after the optimizer's step to a method that wants them (famo)."""
        self.method.observe(values.detach())
