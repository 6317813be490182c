"""MoCo: multi-objective gradient correction (Fernando et al., ICLR 2023, "Mitigating gradient bias").

1. The paper moves the parameters by the tracked gradients and the weights of the step before; its code moves them by
   those of this step, and so do we: else the first direction is zero.
2. The paper may cut y_k to a ball of known radius. Nobody knows the radius; it is left out, as in its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import column_chunks, gradient_norms, gramian, tracked
from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class MocoConfig(MethodConfig):
    """MoCo (Fernando et al., ICLR 2023)."""

    name: str = "moco"
    beta: float = option(0.5, "rate at which a tracked gradient follows the new one", above=0)
    beta_sigma: float = option(0.5, "the rate is beta / step^beta_sigma", at_least=0)
    gamma: float = option(0.1, "step size of the weights", above=0)
    gamma_sigma: float = option(0.5, "the step size is gamma / step^gamma_sigma", at_least=0)
    rho: float = option(0.0, "regularisation of the weights towards equal ones", at_least=0)
    projection: str = option(
        "simplex",
        "how the weights come back to the simplex: its nearest point (paper), or a softmax (LibMTL)",
        choices=("simplex", "softmax"),
    )
    normalize: str = option(
        "none",
        "gradients as they are (paper), or each brought to the length of its loss (LibMTL)",
        choices=("none", "loss"),
    )


@register(
    MocoConfig,
    paper="ICLR 2023",
    summary="the least combination of tracked gradients, followed one step at a time",
    traits=("equivariant",),
    parity="paper's equations",
)
class MoCo(JacobianMethod[MocoConfig]):
    """Tracks each gradient, and moves the weights towards the least combination of what it tracks (Alg. 1).

    State: `tracked_KP` (y, from the first call on), `weights_K` (lambda) and `steps`.
    Diagnostics: `weights_K`, those of the tracked gradients.
    """

    steps: Tensor
    weights_K: Tensor

    def __init__(self, num_tasks: int, config: MocoConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("tracked_KP", None, "task", "parameter")
        self.add_state("weights_K", torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64), "task")
        self.add_state("steps", torch.zeros((), dtype=torch.float64))

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Alg. 1."""
        config, dtype = self.config, jacobian_KP.dtype
        tracked_KP = tracked(self, "tracked_KP", jacobian_KP)
        rate = config.beta / self.steps.add_(1) ** config.beta_sigma
        self._track(tracked_KP, jacobian_KP, self._scales(gramian_KK, losses_K), rate)
        weights_K = self._move(self.total(gramian(tracked_KP).double())).to(dtype)
        return torch.mv(tracked_KP.T, weights_K), weights_K

    @staticmethod
    def _track(tracked_KP: Tensor, jacobian_KP: Tensor, scale_K: Tensor | None, rate: Tensor) -> None:
        """`y <- y + rate (scale_k g_k - y)`, in place, with one pass over what is tracked."""
        rate = rate.to(tracked_KP.dtype)
        if scale_K is None:
            tracked_KP.lerp_(jacobian_KP, rate)
            return
        scale_K1 = scale_K.to(tracked_KP.dtype)[:, None]
        for part, room_KC in column_chunks(jacobian_KP):
            tracked_KP[:, part].lerp_(torch.mul(jacobian_KP[:, part], scale_K1, out=room_KC), rate)

    def _scales(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor | None:
        """What each gradient is multiplied by before it is tracked, [K]; None for nothing."""
        if self.config.normalize == "none":
            return None
        norm_K = gradient_norms(gramian_KK)
        return torch.where(norm_K == 0, 0.0, losses_K.double() / norm_K)

    def _move(self, own_KK: Tensor) -> Tensor:
        """A step of the weights down |sum_k w_k y_k|^2 / 2 + rho |w|^2 / 2 and back to the simplex, [K]."""
        config, weights_K = self.config, self.weights_K
        rate = config.gamma / self.steps**config.gamma_sigma
        moved_K = weights_K - rate * (own_KK @ weights_K + config.rho * weights_K)
        weights_K = moved_K.softmax(dim=0) if config.projection == "softmax" else project_onto_simplex(moved_K)
        self.weights_K = weights_K
        return weights_K


def project_onto_simplex(point_K: Tensor) -> Tensor:
    """The nearest point with entries >= 0 that add up to 1, [K]; NaN spreads.

    It is max(point - t, 0), where t is the largest over j of ((sum of the j largest entries) - 1) / j.
    """
    sums_K = point_K.sort(descending=True).values.cumsum(dim=0) - 1
    counts_K = torch.arange(1, len(point_K) + 1, dtype=point_K.dtype, device=point_K.device)
    return (point_K - (sums_K / counts_K).amax()).clamp(min=0)
