"""Nash-MTL: multi-task learning as a bargaining game (Navon et al., arXiv 2202.01017).

1. The official code solves a sequence of convex approximations with ECOS and, where the solver fails, keeps the last
   weights, at the start equal ones, in silence. Here the equations are solved by Newton's method, `residual` says how
   well, and nothing falls back to equal weights.
2. The paper assumes independent gradients. A solution exists whenever some direction lowers all losses; where none
   does, see `nashmtl_solver`: the tasks that cancel each other are left alone and the others bargain.

The bargaining problem of Nash-MTL, by a primal-dual Newton method of our own in K x K.

With unit gradients, their cosines M, and a_i = x_i / |g_i|, the condition G a = 1 / a reads x_i (M x)_i = 1: the
scaling leaves it as it is, so gradients of any lengths are one problem. It is the minimum of the convex

    1/2 x.M x - sum_i log x_i,   x > 0

which exists if and only if no combination of the gradients with non-negative weights vanishes (else x can grow along
it for ever). To have an answer always, sum_i (x_i / limit)^8 / 8 is added. It changes x_i (M x)_i = 1 to
1 - (x_i / limit)^8: by less than 1e-6 up to limit / 6, and x ends near the limit where there is no solution. The
problem stays convex for a Gramian whose rounding errors made an eigenvalue of -1 / limit^2.

The gains s = M x + ... are variables of their own, as in interior-point methods, and x_i s_i = 1 is what Newton's
method is asked for; steps keep both positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._solvers.arrays import Array, Library, SingularError, library_of
from mtrl_surgery.methods._solvers.unit_gramian import reciprocal, spoilt, unit_gramian
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register

# A Gramian's rounding leaves eigenvalues of about -eps, which the solver bears up to -1 / limit^2.
_LIMIT, _LIMIT_SHARE = 1e6, 0.33


@dataclass
class NashmtlConfig(MethodConfig):
    """Nash-MTL (arXiv 2202.01017)."""

    name: str = "nashmtl"
    update_every: int = option(1, "solve at every n-th step and keep the weights between (RL: 50 or 100)", at_least=1)
    limit: float = option(
        0.0, "bound of a unit gradient's weight, met where gradients cancel; 0: by the Gramian's precision", at_least=0
    )


@register(
    NashmtlConfig,
    paper="arXiv 2202.01017",
    summary="the direction that maximises the product of all tasks' gains",
    traits=("non-conflicting", "equivariant", "scale-invariant"),
    parity="cvxpy, K=2 closed form",
)
class NashMTL(GramianWeighting[NashmtlConfig]):
    """The direction that maximises the product of the tasks' gains: weights a > 0 with G a = 1 / a (Alg. 1).

    State: `alpha_K` and `step`, for `update_every`.
    Diagnostics: `residual`, max_i |a_i (G a)_i - 1| of the last solve, and `converged`, whether it is below 1e-6.
    """

    alpha_K: Tensor
    residual: Tensor
    step: Tensor

    def __init__(self, num_tasks: int, config: NashmtlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("alpha_K", torch.zeros(num_tasks, dtype=torch.float64), "task")
        self.add_state("residual", torch.zeros((), dtype=torch.float64))
        self.add_state("step", torch.zeros((), dtype=torch.int64))

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights of this step, or those of the last step that was due."""
        if self.step.device != gramian_KK.device:
            self.to(gramian_KK.device)
        library, _ = library_of(gramian_KK)
        _, step = library_of(self.step)
        due = step % self.config.update_every == 0
        # Without looking it is solved at every step, since whether one is due is on the device.
        alpha_K, residual = self.alpha_K, self.residual
        if not library.may_look or due:
            new_alpha_K, new_residual = self._bargain(gramian_KK)
            keep = torch.as_tensor(due)
            self.alpha_K = alpha_K = torch.where(keep, new_alpha_K, alpha_K)
            self.residual = residual = torch.where(keep, new_residual, residual)
        self.step.add_(1)
        self.record(residual=residual, converged=(residual <= 1e-6).to(gramian_KK.dtype))
        return alpha_K

    def _bargain(self, gramian_KK: Tensor) -> tuple[Tensor, Tensor]:
        library, gramian = library_of(gramian_KK)
        cosine_KK, norm_K = unit_gramian(library, gramian)
        limit = self.config.limit or min(_LIMIT, _LIMIT_SHARE / self.eps**0.5)
        x_K, residual = solve_nash(library, cosine_KK, limit)
        # |direction|^2 is the number of tasks that gain. Where none does, what is left of it is rounding.
        present_K = norm_K != 0
        gains = (x_K * (cosine_KK @ x_K) * present_K).sum()
        alpha_K = library.np.where(gains < 0.5, 0.0, x_K * reciprocal(library, norm_K)) + spoilt(gramian)
        return torch.as_tensor(alpha_K), torch.as_tensor(residual)


_ITERATIONS = 50
_POWER = 8
_TOLERANCE = 1e-10
_FRACTION = 0.95  # of the way to the boundary
_TINY = 1e-300


def solve_nash(library: Library, cosine_KK: Array, limit: float) -> tuple[Array, Array]:
    """Bargaining weights of unit gradients.

    Where looking is free it stops when the equations hold, typically after 5 to 10 iterations, and 15 to 30 where
    there is no solution; elsewhere it takes all iterations and ignores those after the end.

    Args:
        library: Where the array is from.
        cosine_KK: Float64 cosines of the gradients, [K, K], with a unit diagonal.
        limit: Bound of the weights, met only where gradients cancel.

    Returns:
        x_K: The weights of the unit gradients, positive.
        residual: max_i |x_i (M x)_i - 1|, without the added term.
    """
    np, at_least, at_most = library.np, library.at_least, library.at_most
    size = len(cosine_KK)
    one_K = cosine_KK.diagonal()
    # Equal weights of the right length: exact for orthogonal and for equal gradients, and for any two.
    least = limit**-2 if size == 2 else 1e-4
    x_K = one_K * (size / at_least(cosine_KK.sum(), least * size)) ** 0.5
    gain_K = cosine_KK @ x_K
    s_K = np.maximum(gain_K, 0.1 / x_K)
    for _ in range(_ITERATIONS):
        bound_K = (x_K / limit) ** _POWER / x_K
        descent_K = 1 / x_K - gain_K - bound_K
        # Weights that cancel leave of their gains only what rounding left.
        rounding = 1e-15 * x_K.max() * x_K.sum()
        done = abs(x_K * descent_K).max() <= _TOLERANCE + rounding
        if library.may_look and done:
            break
        newton_KK = cosine_KK + np.diag(s_K / x_K + (_POWER - 1) * bound_K / x_K)
        try:
            dx_K = library.solve(newton_KK, descent_K)
        except SingularError:
            break
        ds_K = 1 / x_K - s_K - s_K * dx_K / x_K
        shrink = np.maximum((-dx_K / x_K).max(), (-ds_K / s_K).max())
        shrink = np.maximum(shrink, (dx_K / (2 * limit - x_K)).max())
        step = np.where(done, 0.0, at_most(_FRACTION / at_least(shrink, _TINY), 1.0))
        x_K, s_K = np.where(done, x_K, x_K + step * dx_K), np.where(done, s_K, s_K + step * ds_K)
        gain_K = cosine_KK @ x_K
    return x_K, abs(x_K * gain_K - 1).max()
