"""The tasks that an agent learns, as it must know them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Problem:
    """K tasks over shared, padded observation and action spaces.

    Attributes:
        tasks: names, in the order of the task axis.
        observation_dim: O, without the one-hot task code.
        action_dim: A.
        action_mask_KA: 1 where the task uses the action coordinate, 0 where it is padding.
    """

    tasks: tuple[str, ...]
    observation_dim: int
    action_dim: int
    action_mask_KA: np.ndarray

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)
