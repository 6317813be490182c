"""DB-MTL: dual-balancing of losses and gradients (Lin et al., arXiv 2308.12029).

1. The gradient of log L_k is g_k / L_k. A loss that isn't positive has no logarithm; g_k / max(|L_k|, eps) is taken for
   every loss, which keeps the balance of scales and goes down at negative losses too. The official code adds eps.
2. The average starts from zero without a correction, as in the official code: the first direction is (1 - beta) of its
   length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import column_chunks, tracked
from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class DbmtlConfig(MethodConfig):
    """DB-MTL (arXiv 2308.12029)."""

    name: str = "dbmtl"
    beta: float = option(0.9, "decay of each task's averaged gradient", at_least=0, below=1)
    beta_sigma: float = option(0.0, "the decay is beta / step^beta_sigma", at_least=0)
    eps: float = option(1e-8, "least |loss| that a gradient is divided by", above=0)


@register(
    DbmtlConfig,
    paper="arXiv 2308.12029",
    summary="averaged gradients of the log-losses, all brought to the length of the longest",
    traits=("equivariant", "homogeneous", "scale-invariant"),
    parity="paper's equations",
)
class DBMTL(JacobianMethod[DbmtlConfig]):
    """Sums the averaged gradients of the log-losses, each brought to the length of the longest (Alg. 1).

    State: `average_KP` (from the first call on) and `steps`.
    Diagnostics: `weights_K`, those of the averaged gradients.
    """

    steps: Tensor

    def __init__(self, num_tasks: int, config: DbmtlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("average_KP", None, "task", "parameter")
        self.add_state("steps", torch.zeros((), dtype=torch.float64))

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Alg. 1."""
        config, dtype = self.config, jacobian_KP.dtype
        average_KP = tracked(self, "average_KP", jacobian_KP)
        keep = config.beta / self.steps.add_(1) ** config.beta_sigma
        gain_K = (1 - keep) / losses_K.double().abs().clamp(min=config.eps)
        square_K = torch.zeros_like(gain_K)
        for part, _ in column_chunks(jacobian_KP):
            average_KC = average_KP[:, part].mul_(keep.to(dtype))
            average_KC.addcmul_(jacobian_KP[:, part], gain_K.to(dtype)[:, None])
            square_K += torch.linalg.vector_norm(average_KC, dim=1).double().square()
        norm_K = self.total(square_K).sqrt()
        weights_K = torch.where(norm_K == 0, 0.0, norm_K.amax() / norm_K).to(dtype)
        return torch.mv(average_KP.T, weights_K), weights_K
