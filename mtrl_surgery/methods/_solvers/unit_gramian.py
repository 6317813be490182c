"""The Gramian in units of the gradients: their cosines and lengths, and how many digits it carries."""

from __future__ import annotations

import numpy

from mtrl_surgery.methods._solvers.arrays import Array, Library


@numpy.errstate(all="ignore")  # what is not finite spreads, and the learner names it
def unit_gramian(library: Library, gramian_KK: Array) -> tuple[Array, Array]:
    """What is left of a Gramian when every gradient is divided by its length.

    Args:
        library: Where the array is from.
        gramian_KK: Float64 inner products of the gradients, [K, K].

    Returns:
        cosine_KK: Cosines of the angles, with an exact unit diagonal; a zero gradient is orthogonal to all others.
        norm_K: The gradients' lengths.
    """
    np = library.np
    norm_K = library.at_least(gramian_KK.diagonal(), 0.0) ** 0.5
    inverse_K = reciprocal(library, norm_K)
    cosine_KK = gramian_KK * inverse_K[:, None] * inverse_K
    return cosine_KK + np.diag(1 - cosine_KK.diagonal()), norm_K


@numpy.errstate(all="ignore")
def reciprocal(library: Library, norm_K: Array) -> Array:
    """1 / norm, and 0 of 0: no weight for a task without a gradient."""
    np = library.np
    return np.where(norm_K == 0, 0.0, 1 / norm_K)


def spoilt(gramian_KK: Array) -> Array:
    """A scalar to add to a result: 0, or NaN where the Gramian isn't finite, so that no `where` hides it."""
    with numpy.errstate(all="ignore"):
        return (gramian_KK * 0.0).sum()


_COLUMNS_DIFFER, _VECTORS, _NO_VECTORS = 0, 0, 3  # dgejsv's job codes


def graded_svd(library: Library, matrix_KK: Array) -> tuple[Array, Array]:
    """The singular values, falling, and the right singular vectors as columns.

    On the host by one-sided Jacobi rotations (Drmac and Veselic, SIAM J. Matrix Anal. Appl. 29, 2008): what is found
    out about a short column does not suffer from a long one beside it, as long as their directions are independent.
    On a device by the usual decomposition, whose errors are 1e-16 of the longest column.

    Args:
        library: Where the array is from.
        matrix_KK: Float64, finite, [K, K].
    """
    if not library.may_look:
        _, sigma_K, right_KK = library.np.linalg.svd(matrix_KK)
        return sigma_K, right_KK.T
    from scipy.linalg.lapack import dgejsv  # a fifth of a second, for this method alone

    sigma_K, _, right_KK, work, _, info = dgejsv(
        matrix_KK, joba=_COLUMNS_DIFFER, jobu=_NO_VECTORS, jobv=_VECTORS, jobr=0, jobt=0, jobp=0
    )
    # Where the rotations have not settled there is no answer, and the learner names it.
    return sigma_K * (work[0] / work[1]), right_KK + (numpy.nan if info else 0.0)
