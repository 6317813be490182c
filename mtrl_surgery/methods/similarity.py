"""How alike the lengths of gradients are."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_norms(gramian_KK: Tensor) -> Tensor:
    """The norms [K] of the gradients with this Gramian."""
    return gramian_KK.diagonal().clamp(min=0).sqrt()


def magnitude_similarity(norm_K: Tensor) -> Tensor:
    """Pairwise magnitude similarity, [K, K] in [0, 1] (PCGrad's, and SAM-GS's Eq. 3).

    psi_ij = 2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2); 1 where both norms are zero, 0 where exactly one is; NaN
    where one is NaN.
    """
    longer_KK = torch.maximum(norm_K[:, None], norm_K[None, :])
    shorter_KK = torch.minimum(norm_K[:, None], norm_K[None, :])
    # By the ratio, since squares of very long or very short gradients leave the range of floats.
    ratio_KK = torch.where(longer_KK == 0, 1.0, shorter_KK / longer_KK)
    return 2 * ratio_KK / (1 + ratio_KK * ratio_KK)


def pairs(matrix_KK: Tensor) -> Tensor:
    """The entries above the diagonal of a symmetric matrix, row by row: [K (K - 1) / 2]."""
    size = matrix_KK.shape[0]
    rows, columns = torch.triu_indices(size, size, offset=1, device=matrix_KK.device)
    return matrix_KK[rows, columns]
