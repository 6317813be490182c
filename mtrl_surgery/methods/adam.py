"""Adam on the K numbers that a method learns, with its memory in the method's own state."""

from __future__ import annotations

import torch
from torch import Tensor

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # torch.optim.Adam's


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
    return lr * first_K / (second_K.sqrt() + _EPS)
