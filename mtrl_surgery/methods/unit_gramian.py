"""The Gramian in units of the gradients: their cosines and lengths, and how many digits it carries."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from mtrl_surgery.methods.arrays import Array, Library
from mtrl_surgery.methods.base import ConfigT, GramianWeighting


class RoundedGramianWeighting(GramianWeighting[ConfigT]):
    """A Gramian weighting that must tell a dependent gradient from rounding: `eps` is the Gramian's precision.

    `solve` sees float64 whatever was measured; a float32 Gramian of dependent gradients may have eigenvalues of -1e-7.
    """

    eps: float = torch.finfo(torch.float64).eps

    def weights(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights [K], in the Gramian's dtype; see `GramianWeighting.weights`."""
        self.eps = torch.finfo(gramian_KK.dtype).eps
        return super().weights(gramian_KK, losses_K)


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
