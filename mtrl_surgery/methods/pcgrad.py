"""PCGrad: projecting conflicting gradients (Yu et al., arXiv 2001.06782), in its exact Gramian-only form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._solvers.arrays import Array, Library, library_of
from mtrl_surgery.methods.base import GramianWeighting, Stochastic
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register


@dataclass
class PcgradConfig(MethodConfig):
    """PCGrad (arXiv 2001.06782)."""

    name: str = "pcgrad"
    reduction: str = option("sum", "sum (paper) or mean of the projected gradients", choices=("sum", "mean"))


@register(
    PcgradConfig,
    paper="arXiv 2001.06782",
    summary="projects each gradient off those it conflicts with, in random order",
    traits=("homogeneous", "linear"),
    parity="TorchJD, loop",
)
class PCGrad(Stochastic[PcgradConfig], GramianWeighting[PcgradConfig]):
    """Projects each task's gradient off the others that it conflicts with, in random order (Alg. 1).

    A projected gradient is a combination of the original ones, so its coefficients and its inner products
    with the original gradients are all that has to be followed; all tasks take their n-th projection together.
    """

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The sum (or mean) of the projected gradients, as weights on the original ones."""
        keys_KK = self.uniform((self.num_tasks, self.num_tasks), gramian_KK.device)
        keys_KK.fill_diagonal_(2.0)  # above every draw: a task's own place comes last and is cut off
        order_NK = keys_KK.argsort(dim=0)[: self.num_tasks - 1]
        library, gramian = library_of(gramian_KK)
        _, order = library_of(order_NK)
        weights_K = torch.as_tensor(project(library, gramian, order).sum(0))
        return weights_K / self.num_tasks if self.config.reduction == "mean" else weights_K


def project(library: Library, gramian_KK: Array, order_NK: Array) -> Array:
    """The coefficients [K, K] of every projected gradient (a row) on the original gradients.

    Args:
        library: Where the arrays are from.
        gramian_KK: Inner products of the original gradients.
        order_NK: [K - 1, K]; `order[n, i]` is the task that gradient i is projected off at step n, if they
            conflict then.
    """
    np = library.np
    square_K = gramian_KK.diagonal()
    # A zero gradient conflicts with nobody: its products are zero, and so must be its share.
    inverse_K = 1 / np.where(square_K == 0, np.inf, square_K)
    inverse_NK = inverse_K[order_NK]
    rows_K = np.arange(len(square_K)) if np is not torch else np.arange(len(square_K), device=order_NK.device)
    inner_KK = gramian_KK * 1.0  # of each projected gradient (a row) with the original ones
    coefficients_KK = np.zeros_like(gramian_KK)
    coefficients_KK[rows_K, rows_K] = 1.0
    for other_K, factor_K in zip(order_NK, inverse_NK, strict=True):
        share_K = library.at_most(inner_KK[rows_K, other_K], 0.0) * factor_K
        inner_KK -= share_K[:, None] * gramian_KK[other_K]
        coefficients_KK[rows_K, other_K] = -share_K
    return coefficients_KK
