"""How much task gradients fight, read off their Gramian (Yu et al., arXiv 2001.06782, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.similarity import gradient_norms, magnitude_similarity, pairs


@torch.no_grad()
def conflict_diagnostics(gramian_KK: Tensor) -> dict[str, Tensor]:
    """Float64 measures of conflict, without waiting for the device.

    Args:
        gramian_KK: Inner products of the task gradients, [K, K].

    Returns:
        conflict_rate: Share of pairs with a negative inner product, in [0, 1].
        mean_cosine, least_cosine: Over pairs, in [-1, 1]; a pair with a zero gradient counts as orthogonal.
        magnitude_similarity, least_magnitude_similarity: Over pairs, in [0, 1] (SAM-GS's Psi: the mean, and
            RL's min).
        gradient_norm_K: [K].

        With K = 1 there is no pair: conflict rate 0, cosines and similarities 1. A NaN gradient makes NaN of
        every measure that it enters.
    """
    gramian_KK = gramian_KK.double()
    norm_K = gradient_norms(gramian_KK)
    if norm_K.shape[0] == 1:
        one = torch.ones_like(norm_K[0])
        cosine_Q = similarity_Q = one[None]
        conflict_Q = torch.zeros_like(cosine_Q)
    else:
        norms_KK = norm_K[:, None] * norm_K
        cosine_Q = pairs(torch.where(norms_KK == 0, 0.0, gramian_KK / norms_KK))
        similarity_Q = pairs(magnitude_similarity(norm_K))
        conflict_Q = torch.where(cosine_Q.isnan(), cosine_Q, (cosine_Q < 0).double())
    return {
        "conflict_rate": conflict_Q.mean(),
        "mean_cosine": cosine_Q.mean(),
        "least_cosine": cosine_Q.amin(),
        "magnitude_similarity": similarity_Q.mean(),
        "least_magnitude_similarity": similarity_Q.amin(),
        "gradient_norm_K": norm_K,
    }
