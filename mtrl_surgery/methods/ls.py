"""Linear scalarisation: the baseline that all surgery is measured against."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.options.losses import LsConfig


class LinearScalarization(LossWeighting[LsConfig]):
    """Equal weights: 1/K (`reduction=mean`) or 1 (`reduction=sum`)."""

    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> equal weights [K]."""
        return torch.full_like(losses_K, 1.0 if self.config.reduction == "sum" else 1.0 / self.num_tasks)
