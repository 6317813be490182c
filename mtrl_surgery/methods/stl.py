"""Single-task learning in the multi-task frame: one task's loss, the others untouched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.registry import register


@dataclass
class StlConfig(MethodConfig):
    """Single-task learning."""

    name: str = "stl"
    task: int = option(0, "index of the task that is learned", at_least=0)


@register(
    StlConfig,
    paper="-",
    summary="one task alone",
    traits=("homogeneous", "linear", "scale-invariant"),
    parity="TorchJD, closed form",
)
class STL(LossWeighting[StlConfig]):
    """Weight 1 on `task`, 0 on all others."""

    def __init__(self, num_tasks: int, config: StlConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        if config.task >= num_tasks:
            raise MethodError(f"stl.task={config.task}: choose one of 0 to {num_tasks - 1}")

    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> a one-hot [K]."""
        weights_K = torch.zeros_like(losses_K)
        weights_K[self.config.task] = 1
        return weights_K
