"""FAMO: fast adaptive multitask optimization (Liu et al., arXiv 2306.03792)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrl_surgery.methods._common import adam_state, adam_step
from mtrl_surgery.methods.base import LossWeighting
from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.registry import register


@dataclass
class _Clock:
    """The host's own count of calls, which a copy for a batch without some tasks shares."""

    calls: int = 0


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

    lazy_state = ("log_losses_K",)

    def __init__(self, num_tasks: int, config: FamoConfig, seed: int = 0) -> None:
        super().__init__(num_tasks, config, seed)
        if len(config.min_losses) not in (1, num_tasks):
            bounds = list(config.min_losses)
            raise MethodError(f"famo.min_losses={bounds}: give 1 bound, or one for each of the {num_tasks} tasks")
        bounds_K = torch.tensor(config.min_losses, dtype=torch.float64)
        self.state["min_losses_K"] = bounds_K.expand(num_tasks).clone()
        self.state["logits_K"] = torch.zeros(num_tasks, dtype=torch.float64)
        self.state |= adam_state(num_tasks)
        self.state["calls"] = torch.zeros((), dtype=torch.int64)
        self._same_batch = config.compare_with == "same_batch"
        self.period = config.compare_every if self._same_batch else 1
        self._clock = _Clock()

    @property
    def needs_losses_after_step(self) -> bool:
        """Whether this step is one of those after which `observe` is due; before the first, what that one will be."""
        return self._same_batch and (max(self._clock.calls, 1) - 1) % self.period == 0

    def solve(self, losses_K: Tensor) -> Tensor:
        """w_k = c z_k / (l_k - b_k), where z = softmax(logits) and c makes the weights sum to 1."""
        above_K = self._above(losses_K)
        log_losses_K = above_K.log()
        if not self._same_batch and "log_losses_K" in self.state:
            self._learn(log_losses_K)
        self._clock.calls += 1
        self.state["calls"] = self.state["calls"] + 1
        self.state["log_losses_K"] = log_losses_K
        ratio_K = self.state["logits_K"].softmax(dim=0) / above_K
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
        if "log_losses_K" not in self.state:
            raise MethodError("famo: observe() comes after weights() and the optimizer's step")
        self._learn(self._above(losses_K).log())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """As the base class; what is due at which step is known from then on without asking the device."""
        super().load_state_dict(state)
        self._clock.calls = int(self.state["calls"])

    def _learn(self, log_losses_K: Tensor) -> None:
        """Moves the logits by how much each log-loss fell: less weight for those that fell most."""
        fall_K = self.state["log_losses_K"] - log_losses_K
        state = self.state
        share_K = state["logits_K"].softmax(dim=0)
        # The softmax's Jacobian, (diag z - z z^T) fall, and Adam with its weight decay in the gradient (official code).
        gradient_K = share_K * (fall_K - share_K @ fall_K) + self.config.gamma * state["logits_K"]
        state["logits_K"] -= adam_step(state, gradient_K, self.config.w_lr)

    def _above(self, losses_K: Tensor) -> Tensor:
        return (losses_K.double() - self.state["min_losses_K"]).clamp(min=0) + self.config.eps
