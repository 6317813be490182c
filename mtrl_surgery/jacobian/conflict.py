"""How much task gradients fight, read off their Gramian (Yu et al., arXiv 2001.06782, definitions 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.similarity import gradient_norms, magnitude_similarity, pairs


def conflict_diagnostics(gramian_KK: Tensor) -> dict[str, Tensor]:
    """placeholder by lead; methods helper finishes this file"""
    gramian_KK = gramian_KK.double()
    norm_K = gradient_norms(gramian_KK)
    scale = norm_K[:, None] * norm_K[None, :]
    cosine = torch.where(scale == 0, 0.0, gramian_KK / scale)
    c = pairs(cosine)
    return {"conflict_rate": (c < 0).double().mean(), "mean_cosine": c.mean(), "magnitude_similarity": pairs(magnitude_similarity(norm_K)).mean(), "gradient_norm_K": norm_K}
