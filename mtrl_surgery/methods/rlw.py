"""RLW: random loss weighting (Lin et al., arXiv 2111.10603)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting, Stochastic
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class RlwConfig(MethodConfig):
    """RLW (arXiv 2111.10603)."""

    name: str = "rlw"
    distribution: str = option(
        "normal",
        "softmax of normal or uniform numbers, or the flat Dirichlet distribution",
        choices=("normal", "uniform", "dirichlet"),
    )


@register(
    RlwConfig,
    paper="arXiv 2111.10603",
    summary="random weights at every step",
    traits=("homogeneous", "linear"),
    parity="NumPy's quantiles",
)
class RLW(Stochastic[RlwConfig], LossWeighting[RlwConfig]):
    """Fresh random weights at every call, positive and of sum 1 (Alg. 2): their mean is 1/K."""

    def solve(self, losses_K: Tensor) -> Tensor:
        """The softmax of K independent draws from `distribution`, in the losses' dtype."""
        return self._draw(losses_K.device).softmax(dim=0).to(losses_K.dtype)

    def _draw(self, device: torch.device) -> Tensor:
        if self.config.distribution == "normal":
            uniform_2K = self.uniform((2, self.num_tasks), device)  # for Box and Muller's transform
            return (-2 * (-uniform_2K[0]).log1p()).sqrt() * (2 * math.pi * uniform_2K[1]).cos()
        uniform_K = self.uniform((self.num_tasks,), device)
        if self.config.distribution == "uniform":
            return uniform_K
        # Exponential numbers over their sum are Dirichlet(1, ..., 1), which the softmax of their logarithms gives.
        return (-(-uniform_K).log1p()).log()
