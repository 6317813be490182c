"""Quadratic programs over y >= 0, several with one matrix, by an interior-point method of our own in K x K.

    min_y  1/2 y.Q y - b.y,   y >= 0        for each row b of a matrix [N, K]

MGDA's nearest point and UPGrad's K projections both come down to it. Where looking is free an active-set method goes
first: it is exact, takes 1 to 4 rounds for independent gradients, and what it cannot settle is left to the other.
"""

from __future__ import annotations

import numpy

from mtrl_surgery.methods._solvers.arrays import Array, Library, SingularError

_ITERATIONS, _ROUNDS = 50, 5
_TOLERANCE = 1e-12
_FRACTION = 0.99  # of the way to the boundary
_TINY = 1e-300


@numpy.errstate(all="ignore")
def solve_nonnegative(library: Library, q_KK: Array, b_NK: Array) -> Array:
    """The minimisers.

    Args:
        library: Where the arrays are from.
        q_KK: Positive definite, [K, K], of diagonal about 1.
        b_NK: Right-hand sides, one a row, [N, K].

    Returns:
        y_NK: Non-negative to rounding, with gradients q y - b of at least -1e-12 max |b| and complementary to it.
    """
    np = library.np
    scale_N1 = library.at_least(np.amax(abs(b_NK), 1), _TINY)[:, None]
    b_NK = b_NK / scale_N1
    if not library.may_look:
        return _interior_points(library, q_KK, b_NK) * scale_N1
    y_NK, unsettled_N = _active_sets(q_KK, b_NK)
    if len(unsettled_N):
        y_NK[unsettled_N] = _interior_points(library, q_KK, b_NK[unsettled_N])
    return y_NK * scale_N1


def _active_sets(q_KK: Array, b_NK: Array) -> tuple[Array, Array]:
    """Solutions [N, K] and the rows that are none: every y of the wrong sign, and every gradient, changes sides.

    (Primal-dual active sets, Hintermueller et al., SIAM J. Optim. 13, 2002.)
    """
    np = numpy
    free_NK, y_NK = b_NK > 0, np.zeros_like(b_NK)
    open_N = np.arange(len(b_NK))
    for _ in range(_ROUNDS):
        free = free_NK[open_N]
        # Only the free variables are solved for: as many columns as the freest problem has.
        columns = np.argsort(~free, axis=1, kind="stable")[:, : max(1, int(free.sum(1).max()))]
        chosen = np.take_along_axis(free, columns, 1)
        part = q_KK[columns[:, :, None], columns[:, None, :]] * (chosen[:, :, None] & chosen[:, None, :])
        part[:, range(columns.shape[1]), range(columns.shape[1])] += ~chosen
        right = np.take_along_axis(b_NK[open_N], columns, 1) * chosen
        try:
            solved = np.linalg.solve(part, right[:, :, None])[:, :, 0]
        except SingularError:
            break
        y = np.zeros_like(free, dtype=q_KK.dtype)
        np.put_along_axis(y, columns, solved, 1)
        # Written so that NaN is wrong.
        wrong = ~np.where(free, y >= -_TOLERANCE, y @ q_KK - b_NK[open_N] >= -_TOLERANCE)
        y_NK[open_N], free_NK[open_N] = y, free ^ wrong
        open_N = open_N[wrong.any(1)]
        if not len(open_N):
            break
    return y_NK, open_N


def _interior_points(library: Library, q_KK: Array, b_NK: Array) -> Array:
    """Follows the central path, y_i z_i = target -> 0 with z = q y - b; all problems take their steps together."""
    np, at_least, at_most = library.np, library.at_least, library.at_most
    size = len(q_KK)
    eye_KK = np.diag(np.ones_like(q_KK[0]))
    y_NK = np.ones_like(b_NK) / size
    z_NK = at_least(y_NK @ q_KK - b_NK, 0.1)
    step_N1 = y_NK[:, :1] * 0.0
    for _ in range(_ITERATIONS):
        residual_NK = y_NK @ q_KK - b_NK - z_NK
        gap_N1 = (y_NK * z_NK).sum(1)[:, None] / size
        # What the residual owes to rounding grows with y.
        slack_N1 = _TOLERANCE + 1e-15 * y_NK.sum(1)[:, None]
        done_N1 = (gap_N1 <= _TOLERANCE) & (np.amax(abs(residual_NK), 1)[:, None] <= slack_N1)
        if library.may_look and done_N1.all():
            break
        # Little towards the centre after a long step, much after a short one.
        target_N1 = at_most(at_least((1 - step_N1) ** 3, 1e-4), 0.5) * at_least(gap_N1, 0.1 * _TOLERANCE)
        newton_NKK = q_KK + (z_NK / y_NK)[:, :, None] * eye_KK
        right_NK = target_N1 / y_NK - z_NK - residual_NK
        try:
            dy_NK = library.solve(newton_NKK, right_NK[:, :, None])[:, :, 0]
        except SingularError:
            break
        dz_NK = (target_N1 - z_NK * dy_NK) / y_NK - z_NK
        shrink_N1 = np.amax(np.maximum(-dy_NK / y_NK, -dz_NK / z_NK), 1)[:, None]
        step_N1 = at_most(_FRACTION / at_least(shrink_N1, _TINY), 1.0)
        y_NK = np.where(done_N1, y_NK, y_NK + step_N1 * dy_NK)
        z_NK = np.where(done_N1, z_NK, z_NK + step_N1 * dz_NK)
    return y_NK
