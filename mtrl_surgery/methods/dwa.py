"""DWA: dynamic weight average (Liu et al., arXiv 1803.10704).

1. The paper compares the mean losses of the two epochs before this one. A method sees calls, not epochs:
   `epoch_updates` says how many make one.
2. The benchmark code of the Nash-MTL line compares two moving windows of 25 calls, this call's losses included, in a
   buffer that starts as ones, and averages the weighted losses: `window=25 reduction=mean`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import register

_LARGEST_RATE = 1e300  # a loss that rose from zero: its softmax is one-hot, not NaN


@dataclass
class DwaConfig(MethodConfig):
    """DWA (arXiv 1803.10704)."""

    name: str = "dwa"
    temperature: float = option(2.0, "the higher, the more alike the weights", above=0)
    epoch_updates: int = option(1000, "calls in an epoch", at_least=1)
    window: int = option(0, "0: epochs (paper); else moving windows of so many calls (benchmark code: 25)", at_least=0)
    reduction: str = option("sum", "weights of sum K (paper) or 1 (mean, benchmark code)", choices=("sum", "mean"))


@register(
    DwaConfig,
    paper="arXiv 1803.10704",
    summary="more weight to the tasks whose losses fall slowly",
    traits=("equivariant", "homogeneous", "linear"),
    parity="TorchJD, loop",
)
class DWA(LossWeighting[DwaConfig]):
    """More weight to a task whose loss falls slowly: K softmax(rate / temperature), rate = newer / older mean (Eq. 7).

    State: `calls`, and the running epoch's sum with the means of the two before, or the `window`'s buffer.
    A rate 0/0 counts as 1, and x/0 as more than any other. A negative mean has no rate: all weights are NaN.
    """

    calls: Tensor
    recent_NK: Tensor
    sum_K: Tensor
    newer_K: Tensor
    older_K: Tensor

    def __init__(self, num_tasks: int, config: DwaConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("calls", torch.zeros((), dtype=torch.float64))
        if config.window:
            recent_NK = torch.ones(2 * config.window, num_tasks, dtype=torch.float64)
            self.add_state("recent_NK", recent_NK, "other", "task")
        else:
            for name in ("sum_K", "newer_K", "older_K"):
                self.add_state(name, torch.zeros(num_tasks, dtype=torch.float64), "task")

    def solve(self, losses_K: Tensor) -> Tensor:
        """Losses [K] -> weights [K] of sum K (1 with `reduction=mean`); all alike until there are two means."""
        follow = self._windows if self.config.window else self._epochs
        newer_K, older_K = follow(losses_K.double())
        rate_K = torch.where(newer_K == older_K, 1.0, newer_K / older_K).clamp(max=_LARGEST_RATE)
        rate_K = torch.where((newer_K < 0) | (older_K < 0), torch.nan, rate_K)
        weights_K = (rate_K / self.config.temperature).softmax(dim=0)
        return (weights_K if self.config.reduction == "mean" else weights_K * self.num_tasks).to(losses_K.dtype)

    def _epochs(self, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the two epochs before this one; equal ones while there is at most one."""
        size, calls, sum_K, newer_K = self.config.epoch_updates, self.calls, self.sum_K, self.newer_K
        begins, mean_K = calls % size == 0, sum_K / size
        before_K = torch.where(calls == size, mean_K, newer_K)
        self.older_K = older_K = torch.where(begins, before_K, self.older_K)
        self.newer_K = newer_K = torch.where(begins, mean_K, newer_K)
        self.sum_K = torch.where(begins, 0.0, sum_K) + losses_K
        calls.add_(1)
        return newer_K, older_K

    def _windows(self, losses_K: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the last `window` calls, this one included, and of as many before; equal ones at first."""
        size, calls = self.config.window, self.calls
        self.recent_NK = recent_NK = torch.cat([self.recent_NK[1:], losses_K[None]])
        older_K, newer_K = recent_NK.view(2, size, -1).mean(dim=1)
        newer_K = torch.where(calls > size, newer_K, older_K)
        calls.add_(1)
        return newer_K, older_K
