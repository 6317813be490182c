"""GradNorm: gradient normalisation (Chen et al., arXiv 1711.02257).

1. The paper measures the gradients' norms in the last shared layer, to be cheap; here they are of all shared
   parameters, since the Gramian has them.
2. The paper leaves open that a step takes a weight below zero, where its task would be unlearned. Weights are kept at
   least 1e-6 before they are brought back to their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import adam_step, add_adam, gradient_norms, one_a_task
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register

_LEAST_WEIGHT = 1e-6


@dataclass
class GradnormConfig(MethodConfig):
    """GradNorm (arXiv 1711.02257)."""

    name: str = "gradnorm"
    alpha: float = option(1.5, "how much longer slow tasks' gradients are made; 0: all alike", at_least=0)
    lr: float = option(0.025, "Adam's step size on the weights", above=0)
    initial_losses: list[float] = option([], "L(0), one for all or one a task; none: the first call's", above=0)  # noqa: RUF009


@register(
    GradnormConfig,
    paper="arXiv 1711.02257",
    summary="learns loss weights that give slow tasks long gradients",
    traits=("equivariant", "homogeneous", "linear"),
    parity="autograd",
)
class GradNorm(GramianWeighting[GradnormConfig]):
    """Loss weights of sum K, learned so that slow tasks have the long weighted gradients (Alg. 1).

    State: the weights with their Adam, and `initial_losses_K`. Diagnostics: `rates_K`, the inverse training rates r.

    Raises:
        MethodError: if the number of `initial_losses` is not 0, 1 or K.
    """

    initial_losses_K: Tensor
    learned_weights_K: Tensor
    steps: Tensor

    def __init__(self, num_tasks: int, config: GradnormConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        initial_K = one_a_task("gradnorm.initial_losses", config.initial_losses, num_tasks, default=0.0)
        self.add_state("initial_losses_K", initial_K, "task")
        self.add_state("learned_weights_K", torch.ones(num_tasks, dtype=torch.float64), "task")
        add_adam(self, num_tasks)

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights of this call; then one step of Adam on sum_k | w_k |g_k| - mean_j(w_j |g_j|) r_k^alpha |."""
        weights_K = self.learned_weights_K
        norm_K = gradient_norms(gramian_KK)
        weighted_K = weights_K * norm_K
        rate_K = self._rates(losses_K.double())
        # A constant, says the paper: what it was made of is not differentiated.
        target_K = weighted_K.mean() * rate_K**self.config.alpha
        excess_K = weighted_K - target_K
        gradient_K = norm_K * excess_K.sign() + 0 * excess_K  # the sign of NaN is 0, which would hide it
        moved_K = (weights_K - adam_step(self, gradient_K, self.config.lr)).clamp(min=_LEAST_WEIGHT)
        self.learned_weights_K = moved_K * (self.num_tasks / moved_K.sum())
        self.record(rates_K=rate_K)
        return weights_K

    def _rates(self, losses_K: Tensor) -> Tensor:
        """r_k, a task's share of its initial loss over the mean share; NaN for losses that have no share."""
        if not self.config.initial_losses:
            first_call = self.steps == 0
            self.initial_losses_K = torch.where(first_call, losses_K, self.initial_losses_K)
        initial_K = self.initial_losses_K
        share_K = torch.where((losses_K >= 0) & (initial_K > 0), losses_K / initial_K, torch.nan)
        mean = share_K.mean()
        return torch.where(mean == 0, 1.0, share_K / mean)
