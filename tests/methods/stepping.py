"""One step of any method, whatever it needs."""

from __future__ import annotations

from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting


def step(method: AnyMethod, jacobian_KP: Tensor, losses_K: Tensor) -> Tensor:
    """Its direction [P]; shown losses a tenth lower afterwards if it asks for them."""
    gramian_KK = jacobian_KP @ jacobian_KP.T
    if isinstance(method, LossWeighting):
        result = method.weights(losses_K) @ jacobian_KP
    elif isinstance(method, GramianWeighting):
        result = method.weights(gramian_KK, losses_K) @ jacobian_KP
    else:
        assert isinstance(method, JacobianMethod)
        result = method.direction(jacobian_KP, gramian_KK, losses_K)
    if method.needs_losses_after_step:
        method.observe(losses_K * 0.9)
    return result
