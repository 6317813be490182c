"""Linear scalarisation: the baseline that all surgery is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class LsConfig(MethodConfig):
    """Linear scalarisation: equal weights."""

    name: str = "ls"
    reduction: str = option("mean", "weights 1/K (mean) or 1 (sum, the papers' LS)", choices=("mean", "sum"))


@register(
    LsConfig,
    paper="-",
    summary="equal weights, no surgery",
    traits=("equivariant", "homogeneous", "linear"),
    parity="closed form",
)
class LinearScalarization(LossWeighting[LsConfig]):
    """Equal weights: 1/K (`reduction=mean`) or 1 (`reduction=sum`)."""

    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> equal weights [K]."""
        return torch.full_like(losses_K, 1.0 if self.config.reduction == "sum" else 1.0 / self.num_tasks)
