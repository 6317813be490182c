"""FAMO: fast adaptive multitask optimization (Liu et al., arXiv 2306.03792)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.methods._common import adam_step, add_adam, one_a_task
from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.registry import register


@dataclass
class FamoConfig(MethodConfig):
    """FAMO (arXiv 2306.03792)."""

    name: str = "famo"
    w_lr: float = option(0.025, "Adam's step size on the task logits", above=0)
    gamma: float = option(1e-3, "weight decay of the task logits", at_least=0)
    min_losses: list[float] = option([0.0], "lower bounds of the losses, one for all or one a task")  # noqa: RUF009
    eps: float = option(1e-8, "keeps the logarithm of a loss at its bound finite", above=0)
    compare_with: str = option(
        "same_batch",
        "losses after the step: of the same batch (paper; one more forward pass) or of the next one (none)",
        choices=("same_batch", "next_batch"),
    )
    compare_every: int = option(16, "steps from one such forward pass to the next; 1: paper, official code", at_least=1)


@register(
    FamoConfig,
    paper="arXiv 2306.03792",
    summary="learns weights so that all log-losses fall at the same rate",
    traits=("equivariant", "homogeneous", "linear"),
    parity="paper's equations",
)
class FAMO(LossWeighting[FamoConfig]):
    """Weights by which all logarithms of losses fall at the same rate (Alg. 1).

    State: the task logits with their Adam, the log-losses of the last call (from the first call on), and the number of
    calls. With `compare_with=same_batch`, `observe` must be called with the losses of the same batch after the
    optimizer's step wherever `needs_losses_after_step` says so, which is once in `compare_every` steps; with
    `next_batch` the next call of `weights` brings the losses, of its own batch, and nothing else is needed.
    Losses at or below their bound in `min_losses` count as `eps` above it.
    """

    min_losses_K: Tensor
    logits_K: Tensor
    log_losses_K: Tensor | None

    def __init__(self, num_tasks: int, config: FamoConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        self.add_state("min_losses_K", one_a_task("famo.min_losses", config.min_losses, num_tasks), "task")
        self.add_state("logits_K", torch.zeros(num_tasks, dtype=torch.float64), "task")
        self.add_state("log_losses_K", None, "task")
        add_adam(self, num_tasks)
        self._same_batch = config.compare_with == "same_batch"
        self.period = config.compare_every if self._same_batch else 1
        self._calls = 0  # on the host: what is due at which step is known without asking the device

    def get_extra_state(self) -> Tensor:
        """The number of calls, for `state_dict`."""
        return torch.tensor(self._calls)

    def set_extra_state(self, state: Any) -> None:
        """Restores it, for `load_state_dict`."""
        self._calls = int(state)

    @property
    def needs_losses_after_step(self) -> bool:
        """Whether this step is one of those after which `observe` is due; before the first, what that one will be."""
        return self._same_batch and (max(self._calls, 1) - 1) % self.period == 0

    def solve(self, losses_K: Tensor) -> Tensor:
        """w_k = c z_k / (l_k - b_k), where z = softmax(logits) and c makes the weights sum to 1."""
        above_K = self._above(losses_K)
        log_losses_K = above_K.log()
        if not self._same_batch and self.log_losses_K is not None:
            self._learn(self.log_losses_K - log_losses_K)
        self._calls += 1
        self.log_losses_K = log_losses_K
        ratio_K = self.logits_K.softmax(dim=0) / above_K
        return (ratio_K / ratio_K.sum()).to(losses_K.dtype)

    @torch.no_grad()
    def observe(self, losses_K: Tensor) -> None:
        """Moves the logits by the same batch's losses; where none are due, they are not looked at.

        Raises:
            MethodError: if `weights` was not called before.
        """
        self._check("losses_K", losses_K, self.num_tasks)
        if not self.needs_losses_after_step:
            return
        if self.log_losses_K is None:
            raise MethodError("famo: observe() comes after weights() and the optimizer's step")
        self._learn(self.log_losses_K - self._above(losses_K).log())

    def _learn(self, fall_K: Tensor) -> None:
        """Moves the logits by how much each log-loss fell: less weight for those that fell most."""
        logits_K = self.logits_K
        share_K = logits_K.softmax(dim=0)
        # The softmax's Jacobian, (diag z - z z^T) fall, and Adam with its weight decay in the gradient (official code).
        gradient_K = share_K * (fall_K - share_K @ fall_K) + self.config.gamma * logits_K
        logits_K -= adam_step(self, gradient_K, self.config.w_lr)

    def _above(self, losses_K: Tensor) -> Tensor:
        return (losses_K.double() - self.min_losses_K).clamp(min=0) + self.config.eps
