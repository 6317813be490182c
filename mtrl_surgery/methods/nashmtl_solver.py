"""The bargaining problem of Nash-MTL, by a primal-dual Newton method of our own in K x K.

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

import numpy

from mtrl_surgery.methods.arrays import Array, Library, SingularError

_ITERATIONS = 50
_POWER = 8
_TOLERANCE = 1e-10
_FRACTION = 0.95  # of the way to the boundary
_TINY = 1e-300


@numpy.errstate(all="ignore")
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
        if library.settled(done):
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
