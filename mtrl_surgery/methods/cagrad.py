"""CAGrad: conflict-averse gradient descent (Liu et al., arXiv 2110.14048).

1. The official code divides the paper's direction by 1 + c^2 (`rescale=1`; its toy problem by 1 + c,
   `rescale=2`) and, where losses are summed, multiplies it by K (`reduction=sum`). The default is the paper's.
2. A task whose gradient is zero is left out of the inner minimum: with it the minimiser would be that task
   alone, and the paper's direction would be 0/0.

The inner problem of CAGrad, by an interior-point method of our own in K x K.

With unit gradients e_i, their cosines M, and everything in units of |g_0|, the problem and its dual are

    max_d min_i  e_i.d / a_i,  |d - e_0| <= c        min_x  b.x + c |x|_M,  a.x = 1, x >= 0

where a_i is proportional to 1 / |g_i| and b_i = cos(g_i, g_0). Scaling the gradients to length one moves all
bad scaling into the one constraint a.x = 1, which Newton steps do not mind. The norm |x|_M has a kink at 0, and so
a vector of its own: u, with |u|_M <= 1, stands for x / |x|_M (after Andersen et al., SIAM J. Sci. Comput. 22,
2000, who do so for sums of norms). Then d = e_0 + c sum_i u_i e_i is in the ball at every iteration,
min_i e_i.d / a_i is a lower bound of the optimum, the dual's value an upper one, and their difference a
certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._solvers.arrays import Array, Library, SingularError, library_of
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class CagradConfig(MethodConfig):
    """CAGrad (arXiv 2110.14048)."""

    name: str = "cagrad"
    c: float = option(0.4, "radius around the mean gradient, as a share of its norm", at_least=0, below=1)
    rescale: int = option(0, "divide by 1 (paper), 1+c^2 (official code) or 1+c (its toy)", choices=(0, 1, 2))
    reduction: str = option("mean", "the paper's scale (mean), or K times it (sum)", choices=("mean", "sum"))


@register(
    CagradConfig,
    paper="arXiv 2110.14048",
    summary="the best worst-task direction in a ball around the mean gradient",
    traits=("equivariant", "homogeneous"),
    parity="cvxpy, TorchJD",
)
class CAGrad(GramianWeighting[CagradConfig]):
    """The direction that helps the worst task most, within c |g_0| of the mean gradient g_0 (Eq. 3).

    Diagnostics: `gap`, a certified bound of how far the worst task's gain is from the best, relative to it.
    """

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights on the gradients that give g_0 + c |g_0| / |g_w| g_w."""
        c = self.config.c
        extra_K, gap = map(torch.as_tensor, solve_cagrad(*library_of(gramian_KK), c))
        self.record(gap=gap)
        weights_K = (1 / self.num_tasks + extra_K) / (1.0, 1 + c * c, 1 + c)[self.config.rescale]
        return weights_K * self.num_tasks if self.config.reduction == "sum" else weights_K


_ITERATIONS = 40
# The worst task's gain is sought to this share of itself, or of what the shortest gradient could gain.
_RELATIVE_GAP, _ABSOLUTE_GAP = 1e-7, 1e-10
_FRACTION = 0.99  # of the way to the boundary
_TINY = 1e-300


def solve_cagrad(library: Library, gramian_KK: Array, c: float) -> tuple[Array, Array]:
    """The part of CAGrad's direction beyond the mean gradient.

    Where looking is free it stops when the gap is closed, typically after 8 to 12 iterations; elsewhere it
    takes all iterations.

    Args:
        library: Where the array is from.
        gramian_KK: Float64 inner products of the gradients, [K, K].
        c: The ball's radius as a share of the mean gradient's norm, in [0, 1).

    Returns:
        extra_K: direction = mean gradient + extra_K @ jacobian, and |extra_K @ jacobian| <= c |g_0|.
        gap: (upper bound - lower bound) / |upper bound| of the worst task's gain.
    """
    np, at_least, at_most = library.np, library.at_least, library.at_most
    cosine_KK, a_K, b_K, unit_K = _scaled(library, gramian_KK)
    size = len(a_K)
    if size == 2:
        u_K, gap = _of_two(library, cosine_KK, a_K, b_K, c)
        return u_K * (c * unit_K), gap
    x_K = 1 / a_K / size
    u_K = 0.9 * x_K / at_least(x_K @ cosine_KK @ x_K, _TINY) ** 0.5
    z_K = at_least(b_K + c * (cosine_KK @ u_K), 0.0) + 0.1
    nu = step = x_K[0] * 0.0
    best_u_K, best_lower, best_upper = u_K, nu - np.inf, nu + np.inf
    done = nu > np.inf
    for _ in range(_ITERATIONS):
        mx_K, mu_K = cosine_KK @ x_K, cosine_KK @ u_K
        # A step that leaves the ball is drawn back to its surface; what it moved along the surface is kept.
        shorten = 1 / at_least(at_least(u_K @ mu_K, 0.0) ** 0.5, 1.0)
        u_K, mu_K = shorten * u_K, shorten * mu_K
        square = at_least(x_K @ mx_K, 0.0)
        length = square**0.5
        lower = ((b_K + c * mu_K) / a_K).min()
        # The best so far, so that an iteration spoilt by rounding takes nothing back.
        better = (lower > best_lower) & ~done
        best_u_K, best_lower = np.where(better, u_K, best_u_K), np.where(better, lower, best_lower)
        upper = (b_K @ x_K + c * length) / (a_K @ x_K)
        best_upper = np.where(done, best_upper, np.fmin(best_upper, upper))
        done = ~(best_upper - best_lower > _RELATIVE_GAP * abs(best_upper) + _ABSOLUTE_GAP)
        if library.may_look and done:
            break
        # How far to go towards the central path: little after a long step, much after a short one.
        complement = (x_K @ z_K + c * at_least(length - u_K @ mx_K, 0.0)) / (size + 1)
        target = at_most(at_least((1 - step) ** 2, 0.01), 0.3) * complement
        # The barrier of the cone smooths the norm: c |x| becomes a function with gradient c M x / smooth.
        root = (target * target + c * c * square) ** 0.5
        smooth = (target + root) / c
        # Not symmetric while u is not yet x / smooth; made symmetric, it fails where the minimum is the kink.
        newton_KK = (cosine_KK - mu_K[:, None] * (mx_K * (c / root))) * (c / smooth) + np.diag(z_K / x_K)
        pull_K = nu * a_K + target / x_K - b_K - (c / smooth) * mx_K
        try:
            first_K, second_K = library.solve(newton_KK, np.stack((pull_K, a_K)).T).T
        except SingularError:
            break
        d_nu = (1 - a_K @ x_K - a_K @ first_K) / (a_K @ second_K)
        dx_K = first_K + second_K * d_nu
        dz_K = (target - z_K * dx_K) / x_K - z_K
        du_K = (x_K + dx_K) / smooth - u_K * (1 + (mx_K @ dx_K) * (c / (root * smooth)))
        shrink = -np.minimum((dx_K / x_K).min(), (dz_K / z_K).min())
        step = at_most(_FRACTION / at_least(shrink, _TINY), 1.0)
        x_K, z_K, u_K, nu = x_K + step * dx_K, z_K + step * dz_K, u_K + step * du_K, nu + step * d_nu
    return best_u_K * (c * unit_K), (best_upper - best_lower) / abs(best_upper)


def _of_two(library: Library, cosine_KK: Array, a_K: Array, b_K: Array, c: float) -> tuple[Array, Array]:
    """The module docstring's u for two gradients, without iterations, and the gap.

    If the worst task is task i even where all of the ball's radius is spent on it, then u is e_i. Else both tasks gain
    alike: d - e_0 ends on the line q.d = 0 with q = a_2 e_1 - a_1 e_2, at the ball's surface.
    """
    np, at_least = library.np, library.at_least
    cosine, swapped_K = cosine_KK[0, 1], np.stack((a_K[1], a_K[0]))
    signed_K = np.stack((a_K[1], -a_K[0]))  # q by its parts
    square = (a_K[0] - a_K[1]) ** 2 + 2 * a_K[0] * a_K[1] * (1 - cosine)  # |q|^2
    along = -(signed_K @ b_K) / c / at_least(square, _TINY)
    across = at_least(1 - along * along * square, 0.0) ** 0.5
    # 1 / sine, but less where the gradients are so nearly parallel that the sine is rounding.
    sine_square = at_least((1 - cosine) * (1 + cosine), 0.0)
    upright_K = (a_K - cosine * swapped_K) * (sine_square / at_least(square, _TINY)) ** 0.5
    u_K = along * signed_K + across * upright_K / (sine_square + 1e-15)
    zero, one = square * 0.0, square * 0.0 + 1.0
    of_first_K, of_second_K = ((b_K + c * row_K) / a_K for row_K in cosine_KK)  # the gains where u is e_1, or e_2
    u_K = np.where(of_second_K[1] <= of_second_K[0], np.stack((zero, one)), u_K)
    u_K = np.where(of_first_K[0] <= of_first_K[1], np.stack((one, zero)), u_K)
    u_K = u_K / at_least(at_least(u_K @ cosine_KK @ u_K, 0.0) ** 0.5, 1.0)
    lower = ((b_K + c * (cosine_KK @ u_K)) / a_K).min()
    # The dual's value at u, and where x weighs both alike, as it does where gradients are opposite.
    x_K = at_least(u_K, 0.0)
    sum_length = at_least(cosine_KK.sum(), 0.0) ** 0.5
    upper = (b_K @ x_K + c * at_least(x_K @ cosine_KK @ x_K, 0.0) ** 0.5) / (a_K @ x_K)
    upper = np.fmin(upper, (b_K.sum() + c * sum_length) / a_K.sum())
    return u_K, (upper - lower) / abs(upper)


def _scaled(library: Library, gramian_KK: Array) -> tuple[Array, Array, Array, Array]:
    """M [K, K], a [K], b [K] of the module's docstring, and |g_0| / |g_i| [K] (0 for a zero gradient)."""
    np, at_least = library.np, library.at_least
    square_K = gramian_KK.diagonal()
    present_K = square_K != 0  # NaN is present, and spreads
    norm_K = np.where(present_K, at_least(square_K, 0.0) ** 0.5, 1.0)
    cosine_KK = gramian_KK / (norm_K[:, None] * norm_K)
    mean_square = gramian_KK.mean()
    mean_norm = at_least(mean_square, 0.0) ** 0.5
    # Where gradients cancel, what is left of |g_0|^2 is rounding, of either sign.
    cancelled = mean_square <= 1e-15 * square_K.max()
    b_K = np.where(cancelled, 0.0, gramian_KK.mean(1) / norm_K / mean_norm)
    # An absent task could gain whatever the others do, so it is never the worst.
    b_K = np.where(present_K, b_K, 10.0)
    inverse_K = np.where(present_K, 1 / norm_K, 0.0)
    a_K = np.where(present_K, inverse_K / at_least(inverse_K.max(), _TINY), 1.0)
    return cosine_KK, a_K, b_K, mean_norm * inverse_K
