"""IMTL-G: impartial multi-task learning by equal projections (Liu et al., ICLR 2021).

1. The authors' formula inverts a matrix of differences, which is singular for dependent gradients. Here, as in TorchJD,
   the pseudo-inverse stands in; of the unit gradients' Gramian, so that lengths have no say in what is dependent.
2. Dividing by the weights' sum is the paper's. Weights may be negative, and where their sum is, the direction raises
   every loss alike; where it is next to zero the direction is as long as that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._solvers.arrays import library_of
from mtrl_surgery.methods._solvers.unit_gramian import reciprocal, spoilt, unit_gramian
from mtrl_surgery.methods.base import GramianWeighting
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import register


@dataclass
class ImtlConfig(MethodConfig):
    """IMTL-G (ICLR 2021)."""

    name: str = "imtl"


@register(
    ImtlConfig,
    paper="discovery.ucl.ac.uk/id/eprint/10120667",
    summary="the combination with equal projections onto all gradients",
    traits=("equivariant", "homogeneous"),
    parity="TorchJD, K=2 closed form",
    aliases=("imtlg",),
)
class IMTL(GramianWeighting[ImtlConfig]):
    """The combination with weights of sum 1 whose projections onto all gradients are equally long.

    Diagnostics: `residual`, how unequal the projections are, as a share (0 for independent gradients), and
    `degenerate`, 1 where no weights of sum 1 exist and all are zero.
    """

    def solve(self, gramian_KK: Tensor, losses_K: Tensor) -> Tensor:
        """The weights; they sum to 1, or are all zero."""
        library, gramian = library_of(gramian_KK)
        np, bad = library.np, spoilt(gramian)
        cosine_KK, norm_K = unit_gramian(library, np.where(bad == 0, gramian, 0.0))
        present_K = (norm_K != 0) * cosine_KK.diagonal()
        eigenvalue_K, vector_KK = np.linalg.eigh(cosine_KK)
        precision = self.num_tasks * self.eps
        kept_K = eigenvalue_K > precision * eigenvalue_K.max()
        share_K = np.where(kept_K, present_K @ vector_KK, 0.0)
        y_K = vector_KK @ (share_K / np.where(kept_K, eigenvalue_K, 1.0)) * present_K
        scaled_K = y_K * reciprocal(library, norm_K)
        total = scaled_K.sum()
        # Of opposite gradients no combination has equal projections but zero; what is left of one is rounding.
        degenerate = (share_K @ share_K <= (10 * precision) ** 2) | (abs(total) <= 1e-12 * abs(scaled_K).sum())
        weights_K = np.where(degenerate, 0.0, scaled_K / np.where(degenerate, 1.0, total)) + bad
        residual = abs((cosine_KK @ y_K - 1) * present_K).max()
        self.record(residual=torch.as_tensor(residual + bad), degenerate=torch.as_tensor(degenerate * 1.0))
        return torch.as_tensor(weights_K)
