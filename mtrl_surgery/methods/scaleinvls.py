"""Scale-invariant linear scalarisation: the sum of log-losses, a baseline of Nash-MTL (arXiv 2202.01017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class ScaleinvlsConfig(MethodConfig):
    """Scale-invariant linear scalarisation (arXiv 2202.01017)."""

    name: str = "scaleinvls"
    reduction: str = option("sum", "sum (published) or mean of the log-losses", choices=("sum", "mean"))
    eps: float = option(1e-8, "added to the losses: what a loss of zero counts as", above=0)


@register(
    ScaleinvlsConfig,
    paper="arXiv 2202.01017",
    summary="the sum of the logarithms of the losses",
    traits=("equivariant", "homogeneous", "linear"),
    parity="autograd",
)
class ScaleInvariantLS(LossWeighting[ScaleinvlsConfig]):
    """The gradient of sum_k log(l_k + eps), by the weights 1 / (l_k + eps); `reduction=mean` divides by K.

    A negative loss has no logarithm: its weight is NaN, so that the run stops. Clipped to eps, it would get a weight of
    1e8 that wrecks the network without a word.
    """

    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> weights [K]; a zero loss has the finite weight 1 / eps."""
        above_K = torch.where(losses_K < 0, torch.nan, losses_K.double()) + self.config.eps
        scale = 1 / self.num_tasks if self.config.reduction == "mean" else 1.0
        return (scale / above_K).to(losses_K.dtype)
