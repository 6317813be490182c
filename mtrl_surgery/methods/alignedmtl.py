"""Aligned-MTL: aligning the principal components of the gradients (Senushkin et al., arXiv 2305.19000).

1. The official code adds the aligned gradients up (`reduction=sum`); a fork multiplies that by K once more.
2. The official code takes eigenvalues of the Gramian up to K eps times the largest for zero, and with them gradients
   shorter than 1e-7 of the longest (float64; 1e-3 in float32): `rank_of=gramian`. Here rank is that of the unit
   gradients, eigenvalues of whose cosines up to K eps count as zero, and the components' lengths come from a
   decomposition that bears columns of any lengths (`graded_svd`). Where gradients depend on each other, components up
   to K eps of the longest are rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import one_a_task
from mtrl_surgery.methods._solvers.arrays import Array, Library, library_of
from mtrl_surgery.methods._solvers.unit_gramian import graded_svd, spoilt, unit_gramian
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class AlignedmtlConfig(MethodConfig):
    """Aligned-MTL (arXiv 2305.19000)."""

    name: str = "alignedmtl"
    scale_mode: str = option(
        "min", "all principal components get this one of their squared lengths", choices=("min", "median", "rmse")
    )
    preference: list[float] = option([], "the tasks' own weights, one for all or one a task; empty: equal", at_least=0)  # noqa: RUF009
    reduction: str = option("sum", "equal weights are 1 (sum, official) or 1/K (mean)", choices=("sum", "mean"))
    rank_of: str = option(
        "directions",
        "what is dependent: directions; or components short beside the longest too (gramian, official code)",
        choices=("directions", "gramian"),
    )


@register(
    AlignedmtlConfig,
    paper="arXiv 2305.19000",
    summary="the gradients made orthogonal and equally long, then added up",
    traits=("equivariant", "homogeneous"),
    parity="TorchJD, SVD, mpmath",
)
class AlignedMTL(GramianWeighting[AlignedmtlConfig]):
    """Makes the gradients orthogonal and equally long, as near to themselves as can be, and adds them up (Alg. 1).

    Diagnostics: `condition`, the condition number of the Jacobian without its null space, and `rank`.
    """

    preference_K: Tensor

    def __init__(self, num_tasks: int, config: AlignedmtlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        equal = 1 / num_tasks if config.reduction == "mean" else 1.0
        preference_K = one_a_task("alignedmtl.preference", config.preference, num_tasks, equal)
        self.add_state("preference_K", preference_K, "task", saved=False)

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """B w: the balance matrix on the tasks' own weights."""
        library, gramian = library_of(gramian_KK)
        np, bad = library.np, spoilt(gramian)
        cosine_KK, norm_K = unit_gramian(library, np.where(bad == 0, gramian, 0.0))
        sigma_K, vector_KK, kept_K = self._components(library, cosine_KK, norm_K)
        rank = kept_K.sum()
        # Falling, so the kept ones are the first; of an even number of them the lower median, as in the official code.
        place_K = (kept_K * 1).cumsum(0)
        chosen_K = {
            "min": kept_K & (place_K == rank),
            "median": kept_K & (place_K == rank // 2 + 1),
            "rmse": kept_K,
        }[self.config.scale_mode]
        square = np.where(chosen_K, sigma_K**2, 0.0).sum() / library.at_least(chosen_K.sum() * 1.0, 1.0)
        inverse_K = np.where(kept_K, square**0.5 / np.where(kept_K, sigma_K, 1.0), 0.0)
        _, preference_K = library_of(self.preference_K.to(gramian_KK.device, non_blocking=True))
        weights_K = vector_KK @ (inverse_K * (preference_K @ vector_KK)) + bad
        condition = sigma_K[0] / np.where(rank == 0, 1.0, np.where(kept_K, sigma_K, sigma_K[0]).min())
        self.record(condition=torch.as_tensor(condition + bad), rank=torch.as_tensor(rank * 1.0))
        return torch.as_tensor(weights_K)

    def _components(self, library: Library, cosine_KK: Array, norm_K: Array) -> tuple[Array, Array, Array]:
        """The principal components' lengths, falling, their vectors as columns, and which of them are no rounding."""
        np, precision = library.np, self.num_tasks * self.eps
        eigenvalue_K, vector_KK = np.linalg.eigh(cosine_KK)
        kept_K = eigenvalue_K > precision * eigenvalue_K.max()
        # F with F^T F = G: dependence is told from directions alone, whatever the lengths.
        factor_KK = (np.where(kept_K, eigenvalue_K, 0.0) ** 0.5)[:, None] * vector_KK.T * norm_K
        sigma_K, right_KK = graded_svd(library, factor_KK)
        absent = (norm_K == 0).sum()
        rank = kept_K.sum() - absent
        sure = library.may_look & (rank == self.num_tasks - absent)
        share = precision**0.5 if self.config.rank_of == "gramian" else np.where(sure, 0.0, precision)
        place_K = cosine_KK.diagonal().cumsum(0)
        return sigma_K, right_KK, (place_K <= rank) & (sigma_K > share * sigma_K[0])
