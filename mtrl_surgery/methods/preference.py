"""How much each task counts, where a method lets one say so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_surgery.methods.config import MethodError


def preference_weights(name: str, preference: Sequence[float], num_tasks: int, reduction: str) -> Tensor:
    """The tasks' own weights, float64 [K].

    Args:
        name: The method's code name, for the error.
        preference: One number a task; empty for equal ones.
        num_tasks: K.
        reduction: Of equal ones: 1/K (`mean`) or 1 (`sum`).

    Raises:
        MethodError: if there are neither none nor K numbers.
    """
    if len(preference) not in (0, num_tasks):
        raise MethodError(f"{name}.preference={list(preference)!r}: must be empty or {num_tasks} numbers, one a task")
    equal = 1 / num_tasks if reduction == "mean" else 1.0
    return torch.tensor(list(preference) or [equal] * num_tasks, dtype=torch.float64)
