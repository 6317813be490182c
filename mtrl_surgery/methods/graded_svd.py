"""Singular values and right vectors of a matrix whose columns differ in length by many orders of magnitude."""

from __future__ import annotations

import numpy
from scipy.linalg.lapack import dgejsv

from mtrl_surgery.methods.arrays import Array, Library

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
    sigma_K, _, right_KK, work, _, info = dgejsv(
        matrix_KK, joba=_COLUMNS_DIFFER, jobu=_NO_VECTORS, jobv=_VECTORS, jobr=0, jobt=0, jobp=0
    )
    # Where the rotations have not settled there is no answer, and the learner names it.
    return sigma_K * (work[0] / work[1]), right_KK + (numpy.nan if info else 0.0)
