"""CAGrad: conflict-averse gradient descent (Liu et al., arXiv 2110.14048).

1. The official code divides the paper's direction by 1 + c^2 (`rescale=1`; its toy problem by 1 + c,
   `rescale=2`) and, where losses are summed, multiplies it by K (`reduction=sum`). The default is the paper's.
2. A task whose gradient is zero is left out of the inner minimum: with it the minimiser would be that task
   alone, and the paper's direction would be 0/0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.arrays import library_of
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.cagrad_solver import solve_cagrad
from mtrl_surgery.methods.options.gramian import CagradConfig


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
