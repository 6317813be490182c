"""UPGrad: unconflicting projection of gradients (Quinton and Rey, arXiv 2406.16232).

1. The cone of directions along which no loss rises depends on the gradients' directions only, so all K projections are
   done for unit gradients and scaled back: exact for gradients of any lengths.
2. TorchJD divides the Gramian by its trace and adds `reg_eps` = 1e-4 to its diagonal, which conflicts with short
   gradients beside long ones, by up to that much. Here `reg_eps` is a share of each gradient's own square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import one_a_task
from mtrl_surgery.methods._solvers.arrays import library_of
from mtrl_surgery.methods._solvers.nonnegative_qp import solve_nonnegative
from mtrl_surgery.methods._solvers.unit_gramian import reciprocal, spoilt, unit_gramian
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class UpgradConfig(MethodConfig):
    """UPGrad (arXiv 2406.16232)."""

    name: str = "upgrad"
    preference: list[float] = option([], "the tasks' own weights, one for all or one a task; empty: 1/K", at_least=0)  # noqa: RUF009
    reg_eps: float = option(1e-9, "added to the unit gradients' Gramian, for dependent ones", at_least=0)


@register(
    UpgradConfig,
    paper="arXiv 2406.16232",
    summary="the mean of the gradients, each projected to where no loss rises",
    traits=("non-conflicting", "equivariant", "homogeneous", "linear"),
    parity="cvxpy, TorchJD, K=2 closed form",
)
class UPGrad(GramianWeighting[UpgradConfig]):
    """The mean of the gradients, each projected onto the cone of directions along which no task's loss rises (Eq. 3).

    By Proposition 1 the projection of sum_i u_i g_i is sum_i v_i g_i with v = argmin v.G v over v >= u.
    """

    preference_K: Tensor

    def __init__(self, num_tasks: int, config: UpgradConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        preference_K = one_a_task("upgrad.preference", config.preference, num_tasks, 1 / num_tasks)
        self.add_state("preference_K", preference_K, "task", saved=False)

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights of all projections together."""
        library, gramian = library_of(gramian_KK)
        cosine_KK, norm_K = unit_gramian(library, gramian)
        np, one_K = library.np, cosine_KK.diagonal()
        q_KK = cosine_KK + np.diag(one_K * max(self.config.reg_eps, self.num_tasks * self.eps))
        # v = u + y: for the unit gradient i, u is the i-th unit vector and the linear term is row i.
        v_KK = np.diag(one_K) + library.at_least(solve_nonnegative(library, q_KK, -q_KK), 0.0)
        _, preference_K = library_of(self.preference_K.to(gramian_KK.device, non_blocking=True))
        weights_K = ((preference_K * norm_K) @ v_KK) * reciprocal(library, norm_K) + spoilt(gramian)
        return torch.as_tensor(weights_K)
