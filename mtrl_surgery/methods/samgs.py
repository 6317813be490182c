"""SAM-GS: similarity-aware momentum gradient surgery (Borsani et al., arXiv 2506.06130).

1. The paper's Eq. 3 averages over all i, j, the diagonal included, so that the mean is never below 1/K; its
   code averages over pairs. So do we.
2. Alg. 1 multiplies by g_k twice in the equalise branch; what is meant (and coded) is
   sum_k mean|g| / |g_k| g_k.
3. The momentum branch is homogeneous of degree 2 in the gradients, the equalise branch of degree 1; see
   docs/methods/samgs.md and `rescale`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import column_chunks, gradient_norms, magnitude_similarity, pairs, tracked
from mtrl_surgery.methods._solvers.arrays import library_of
from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class SamgsConfig(MethodConfig):
    """SAM-GS (arXiv 2506.06130); the defaults are the paper's for RL."""

    name: str = "samgs"
    similarity: str = option(
        "min",
        "magnitude similarity: of the least alike pair (RL) or the mean (vision)",
        choices=("min", "mean"),
    )
    beta1: float = option(0.9, "decay of each task's momentum", at_least=0, below=1)
    beta2: float = option(0.99, "decay of the dissimilarity's second moment", at_least=0, below=1)
    gamma: float = option(0.9, "norms are equalised where the similarity is below this", at_least=0)
    eps: float = option(1e-8, "keeps the second moment above zero", above=0)
    rescale: str = option(
        "none",
        "the momentum branch's length: as in the paper, or that of the equalised direction",
        choices=("none", "equalised_norm"),
    )


@register(
    SamgsConfig,
    paper="arXiv 2506.06130",
    summary="equalises the norms of dissimilar gradients, else weights each coordinate by its momentum",
    traits=("equivariant",),
    parity="paper's equations",
)
class SAMGS(JacobianMethod[SamgsConfig]):
    """Equalises the gradients' norms where they differ much, else weights coordinates by momentum (Alg. 1).

    State: `momentum_KP` (from the first call on), and the scalars `second_moment` (h) and `steps` (t).
    Diagnostics: `equalised` (0 or 1), `similarity` (Psi), and `weights_K`; in the momentum branch, where a
    weight is a vector, the scalar nearest to it: <w_k * g_k, g_k> / |g_k|^2.
    """

    second_moment: Tensor
    steps: Tensor

    def __init__(self, num_tasks: int, config: SamgsConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("momentum_KP", None, "task", "parameter")
        self.add_state("second_moment", torch.zeros((), dtype=torch.float64))
        self.add_state("steps", torch.zeros((), dtype=torch.float64))

    def solve(self, jacobian_KP: Tensor, gramian_KK: Tensor, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Alg. 1; K = 1 passes the gradient through."""
        if self.num_tasks == 1:
            one = torch.ones(1, dtype=jacobian_KP.dtype, device=jacobian_KP.device)
            self.record(equalised=torch.zeros_like(one[0]), similarity=one[0])
            return jacobian_KP[0].clone(), one
        config = self.config
        momentum_KP = tracked(self, "momentum_KP", jacobian_KP)
        norm_K = gradient_norms(gramian_KK)
        psi = pairs(magnitude_similarity(norm_K))
        similarity = psi.amin() if config.similarity == "min" else psi.mean()

        steps = self.steps.add_(1)
        second_moment = self.second_moment.mul_(config.beta2).add_(
            (1 - config.beta2) * (1 - similarity) ** 2 + config.eps
        )
        h_hat = second_moment / (1 - config.beta2**steps)
        equalised = similarity < config.gamma

        # Both branches are w_k = scalar_k + slope * |m_k|: one pass over the parameters serves either.
        equal_K = torch.where(norm_K == 0, 0.0, norm_K.mean() / norm_K)
        scalar_K = torch.where(equalised, equal_K, 0.0)
        slope = torch.where(equalised, 0.0, 1 / ((1 - config.beta1**steps) * (h_hat.sqrt() + config.eps)))
        direction_P, fit_K = self._combine(jacobian_KP, momentum_KP, scalar_K, slope)
        if config.rescale == "equalised_norm":
            length = (equal_K @ gramian_KK @ equal_K).clamp(min=0).sqrt()
            own = self.total(direction_P.double().square().sum()).sqrt()
            factor = torch.where(equalised | (own == 0), 1.0, length / own)
            direction_P.mul_(factor)
            fit_K = fit_K * factor  # in the equalise branch the factor is 1 and the fit is 0
        weights_K = torch.where(norm_K == 0, 0.0, scalar_K + fit_K / (norm_K * norm_K))
        dtype = jacobian_KP.dtype
        self.record(equalised=equalised.to(dtype), similarity=similarity.to(dtype))
        return direction_P, weights_K.to(dtype)

    def _combine(
        self, jacobian_KP: Tensor, momentum_KP: Tensor, scalar_K: Tensor, slope: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moves the momentum; returns sum_k w_k * g_k [P] and the slope's part of <w_k * g_k, g_k> [K]."""
        scalar_K, slope = scalar_K.to(jacobian_KP.dtype), slope.to(jacobian_KP.dtype)
        direction_P, fit_K = torch.empty_like(jacobian_KP[0]), torch.zeros_like(scalar_K)
        slope_K = slope.expand(self.num_tasks).contiguous()
        library, known = library_of(slope)
        # What is multiplied by zero is left out where the host may know.
        by_momentum, equalised = (bool(known != 0), bool(known == 0)) if library.may_look else (True, True)
        for part, surgery_KC in column_chunks(jacobian_KP):
            gradient_KC, momentum_KC = jacobian_KP[:, part], momentum_KP[:, part]
            momentum_KC.lerp_(gradient_KC, 1 - self.config.beta1)
            if not by_momentum:
                torch.mv(gradient_KC.T, scalar_K, out=direction_P[part])
                continue
            torch.abs(momentum_KC, out=surgery_KC).mul_(gradient_KC)
            # A product with a vector is faster than a sum over the leading axis.
            direction_C = torch.mv(surgery_KC.T, slope_K, out=direction_P[part])
            if equalised:
                direction_C.addmv_(gradient_KC.T, scalar_K)
            fit_K += surgery_KC.mul_(gradient_KC).sum(dim=1)
        return direction_P, self.total(fit_K * slope).double()
