"""Nash-MTL: multi-task learning as a bargaining game (Navon et al., arXiv 2202.01017).

1. The official code solves a sequence of convex approximations with ECOS and, where the solver fails, keeps the last
   weights, at the start equal ones, in silence. Here the equations are solved by Newton's method, `residual` says how
   well, and nothing falls back to equal weights.
2. The paper assumes independent gradients. A solution exists whenever some direction lowers all losses; where none
   does, see `nashmtl_solver`: the tasks that cancel each other are left alone and the others bargain.
"""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from mtrl_surgery.methods.arrays import library_of
from mtrl_surgery.methods.nashmtl_solver import solve_nash
from mtrl_surgery.methods.options.gramian import NashmtlConfig
from mtrl_surgery.methods.unit_gramian import RoundedGramianWeighting, reciprocal, spoilt, unit_gramian

# A Gramian's rounding leaves eigenvalues of about -eps, which the solver bears up to -1 / limit^2.
_LIMIT, _LIMIT_SHARE = 1e6, 0.33


class NashMTL(RoundedGramianWeighting[NashmtlConfig]):
    """The direction that maximises the product of the tasks' gains: weights a > 0 with G a = 1 / a (Alg. 1).

    State: `alpha_K` and `step`, for `update_every`.
    Diagnostics: `residual`, max_i |a_i (G a)_i - 1| of the last solve, and `converged`, whether it is below 1e-6.
    """

    def __init__(self, num_tasks: int, config: NashmtlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.state["alpha_K"] = torch.zeros(num_tasks, dtype=torch.float64)
        self.state["residual"] = torch.zeros((), dtype=torch.float64)
        self.state["step"] = torch.zeros((), dtype=torch.int64)

    @numpy.errstate(all="ignore")  # what is not finite spreads, and the learner names it
    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights of this step, or those of the last step that was due."""
        if self.state["step"].device != gramian_KK.device:
            self.to(gramian_KK.device)
        library, _ = library_of(gramian_KK)
        _, step = library_of(self.state["step"])
        due = step % self.config.update_every == 0
        # Without looking it is solved at every step, since whether one is due is on the device.
        if not library.may_look or due:
            alpha_K, residual = self._bargain(gramian_KK)
            keep = torch.as_tensor(due)
            self.state["alpha_K"] = torch.where(keep, alpha_K, self.state["alpha_K"])
            self.state["residual"] = torch.where(keep, residual, self.state["residual"])
        self.state["step"] = self.state["step"] + 1
        residual = self.state["residual"].clone()
        self.record(residual=residual, converged=(residual <= 1e-6).to(gramian_KK.dtype))
        return self.state["alpha_K"].clone()

    def _bargain(self, gramian_KK: Tensor) -> tuple[Tensor, Tensor]:
        library, gramian = library_of(gramian_KK)
        cosine_KK, norm_K = unit_gramian(library, gramian)
        limit = self.config.limit or min(_LIMIT, _LIMIT_SHARE / self.eps**0.5)
        x_K, residual = solve_nash(library, cosine_KK, limit)
        # |direction|^2 is the number of tasks that gain. Where none does, what is left of it is rounding.
        present_K = norm_K != 0
        gains = (x_K * (cosine_KK @ x_K) * present_K).sum()
        alpha_K = library.np.where(gains < 0.5, 0.0, x_K * reciprocal(library, norm_K)) + spoilt(gramian)
        return library.tensor(alpha_K), library.tensor(residual)
