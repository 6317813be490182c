"""UW: uncertainty weighting (Kendall et al., arXiv 1705.07115)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import adam_step, add_adam
from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.registry import register

_FACTORS = {"regression": 0.5, "classification": 1.0}
"""What a kind of task multiplies e^(-s) loss with."""


@dataclass
class UwConfig(MethodConfig):
    """UW (arXiv 1705.07115)."""

    name: str = "uw"
    kinds: list[str] = option(["regression"], "regression or classification, one for all or one a task")  # noqa: RUF009
    lr: float = option(0.025, "Adam's step size on the log-variances", above=0)
    init: float = option(0.0, "the log-variances at the start; LibMTL: -0.5")

    def __post_init__(self) -> None:
        """Checks every option.

        Raises:
            MethodError: naming the option, its value and what it may be.
        """
        super().__post_init__()
        if unknown := set(self.kinds) - set(_FACTORS):
            raise MethodError(f"uw.kinds={list(self.kinds)}: {sorted(unknown)}: choose of {', '.join(_FACTORS)}")


@register(
    UwConfig,
    paper="arXiv 1705.07115",
    summary="learns each task's uncertainty, and divides its loss by it",
    traits=("equivariant", "homogeneous", "linear"),
    parity="TorchJD, autograd",
)
class UW(LossWeighting[UwConfig]):
    """Learns every task's log-variance s_k jointly with the network: sum_k c_k e^(-s_k) l_k + s_k / 2 (Eq. 7 to 10).

    c_k is 1/2 for a regression, 1 for a classification. State: s with its Adam, and c.

    Raises:
        MethodError: if the number of `kinds` is neither 1 nor K.
    """

    factors_K: Tensor
    log_variances_K: Tensor

    def __init__(self, num_tasks: int, config: UwConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        if len(config.kinds) not in (1, num_tasks):
            raise MethodError(f"uw.kinds={list(config.kinds)}: give 1 kind, or one for each of the {num_tasks} tasks")
        factors_K = torch.tensor([_FACTORS[kind] for kind in config.kinds], dtype=torch.float64)
        self.add_state("factors_K", factors_K.expand(num_tasks).clone(), "task")
        self.add_state("log_variances_K", torch.full((num_tasks,), config.init, dtype=torch.float64), "task")
        add_adam(self, num_tasks)

    def solve(self, losses_K: Tensor) -> Tensor:
        """w_k = c_k e^(-s_k); then one step of Adam on s, whose gradient is 1/2 - w_k l_k."""
        log_variances_K = self.log_variances_K
        weights_K = self.factors_K * (-log_variances_K).exp()
        log_variances_K -= adam_step(self, 0.5 - weights_K * losses_K.double(), self.config.lr)
        return weights_K.to(losses_K.dtype)
