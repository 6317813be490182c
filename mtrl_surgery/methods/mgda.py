"""MGDA: the shortest vector in the gradients' convex hull (Desideri 2012; Sener and Koltun, arXiv 1810.04650).

1. The official code runs Frank-Wolfe, which may stop several per cent above the minimum for gradients of different
   lengths. Here the minimum is exact, by `nonnegative_qp`.
2. `normalization` divides the gradients for the search only, as the official code does: the weights found are put on
   the gradients as they are.
3. A task with a zero gradient makes the shortest vector zero: every step ends there. With `normalization=l2` or
   `loss+`, where that gradient has no direction to normalise, the task is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._solvers.arrays import Array, Library, library_of
from mtrl_surgery.methods._solvers.nonnegative_qp import solve_nonnegative
from mtrl_surgery.methods._solvers.unit_gramian import spoilt, unit_gramian
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class MgdaConfig(MethodConfig):
    """MGDA (arXiv 1810.04650)."""

    name: str = "mgda"
    normalization: str = option(
        "none",
        "divide gradients by nothing, length, loss, or both, to find the weights",
        choices=("none", "l2", "loss", "loss+"),
    )
    reduction: str = option("mean", "weights of sum 1 (mean, paper) or K (sum)", choices=("mean", "sum"))


@register(
    MgdaConfig,
    paper="arXiv 1810.04650",
    summary="the shortest vector in the convex hull of the gradients",
    traits=("non-conflicting", "equivariant", "homogeneous"),
    parity="cvxpy, TorchJD, K=2 closed form, mpmath",
)
class MGDA(GramianWeighting[MgdaConfig]):
    """The convex combination of the gradients of least norm (Eq. 3): no task's loss rises along it."""

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights of the shortest vector; they sum to 1 (or to K)."""
        library, gramian = library_of(gramian_KK)
        cosine_KK, norm_K = unit_gramian(library, gramian)
        _, loss_K = library_of(losses_K.detach().double())
        a_K = self._inverse_lengths(library, norm_K, abs(loss_K))
        # With y_i = w_i / a_i the hull's point of weights w is the sum of y_i unit gradients, and a.y = 1. Asked for by
        # (a.y - 1)^2 / 2 only, that equation fails by a factor, and y is the minimiser up to this factor.
        if self.num_tasks == 2:
            # Of h_i = e_i / a_i and h_j the weights are as (h_j - h_i).h_j and (h_i - h_j).h_i, where not below 0.
            other_K = library.np.stack((a_K[1], a_K[0]))
            y_K = library.at_least((1 + 2 * self.eps) * a_K - cosine_KK[0, 1] * other_K, 0.0)
        else:
            q_KK = cosine_KK + a_K[:, None] * a_K + library.np.diag(a_K * 0.0 + len(a_K) * self.eps)
            y_K = library.at_least(solve_nonnegative(library, q_KK, a_K[None, :])[0], 0.0)
        weights_K = a_K * y_K / library.at_least(a_K @ y_K, 1e-300) + spoilt(gramian)
        result_K = torch.as_tensor(weights_K)
        return result_K * self.num_tasks if self.config.reduction == "sum" else result_K

    def _inverse_lengths(self, library: Library, norm_K: Array, loss_K: Array) -> Array:
        """1 / the normalised gradients' lengths, relative to the largest; of zero gradients as in note 3."""
        np = library.np
        divisor = {"none": 1.0, "l2": norm_K, "loss": loss_K, "loss+": loss_K * norm_K}[self.config.normalization]
        absent_K = norm_K == 0
        a_K = divisor / np.where(absent_K, 1.0, norm_K)
        if self.config.normalization in ("none", "loss"):
            a_K = np.where(absent_K.any(), absent_K * 1.0, a_K)
        else:
            a_K = np.where(absent_K, 0.0, a_K)
        return a_K / library.at_least(a_K.max(), 1e-300)
