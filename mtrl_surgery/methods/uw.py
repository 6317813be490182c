"""UW: uncertainty weighting (Kendall et al., arXiv 1705.07115)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.options.losses import UW_FACTORS, UwConfig

_BETA1, _BETA2, _ADAM_EPS = 0.9, 0.999, 1e-8  # torch.optim.Adam's


class UW(LossWeighting[UwConfig]):
    """Learns every task's log-variance s_k jointly with the network: sum_k c_k e^(-s_k) l_k + s_k / 2 (Eq. 7 to 10).

    c_k is 1/2 for a regression, 1 for a classification. State: s with its Adam, and c.

    Raises:
        MethodError: if the number of `kinds` is neither 1 nor K.
    """

    def __init__(self, num_tasks: int, config: UwConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        if len(config.kinds) not in (1, num_tasks):
            raise MethodError(f"uw.kinds={list(config.kinds)}: give 1 kind, or one for each of the {num_tasks} tasks")
        factors_K = torch.tensor([UW_FACTORS[kind] for kind in config.kinds], dtype=torch.float64)
        self.state["factors_K"] = factors_K.expand(num_tasks).clone()
        self.state["log_variances_K"] = torch.full((num_tasks,), config.init, dtype=torch.float64)
        self.state |= adam_state(num_tasks)

    def solve(self, losses_K: Tensor) -> Tensor:
        """w_k = c_k e^(-s_k); then one step of Adam on s, whose gradient is 1/2 - w_k l_k."""
        log_variances_K = self.state["log_variances_K"]
        weights_K = self.state["factors_K"] * (-log_variances_K).exp()
        log_variances_K -= adam_step(self.state, 0.5 - weights_K * losses_K.double(), self.config.lr)
        return weights_K.to(losses_K.dtype)


def adam_state(num_tasks: int) -> dict[str, Tensor]:
    """What `adam_step` remembers: two moments [K] and the number of steps."""
    moments = {name: torch.zeros(num_tasks, dtype=torch.float64) for name in ("first_moment_K", "second_moment_K")}
    return moments | {"steps": torch.zeros((), dtype=torch.float64)}


def adam_step(state: dict[str, Tensor], gradient_K: Tensor, lr: float) -> Tensor:
    """Moves Adam's moments in `state` and gives what to subtract from the K numbers that it learns."""
    state["steps"] += 1
    state["first_moment_K"].lerp_(gradient_K, 1 - _BETA1)
    state["second_moment_K"].lerp_(gradient_K * gradient_K, 1 - _BETA2)
    first_K = state["first_moment_K"] / (1 - _BETA1 ** state["steps"])
    second_K = state["second_moment_K"] / (1 - _BETA2 ** state["steps"])
    return lr * first_K / (second_K.sqrt() + _ADAM_EPS)
