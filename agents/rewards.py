"""Reward statistics: the replay keeps raw rewards and a batch is scaled when it is sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.replay import Transitions


class ExponentialRewardScale:
    """Divides each task's rewards by the root of an exponential moving variance, as mtrl does; the mean stays.

    mean <- (1 - a) mean + a r and var <- (1 - a) var + a (r - mean)^2, once for each transition in the order of its
    vector step. Scaling at sampling means that old transitions never carry stale scales.
    """

    def __init__(self, num_tasks: int, alpha: float, device: torch.device) -> None:
        self._alpha = alpha
        self._device = device
        self.mean_K = np.zeros(num_tasks)
        self.variance_K = np.ones(num_tasks)
        self.scale_K1 = torch.ones(num_tasks, 1, device=device)

    def observe(self, chunk: Transitions) -> None:
        """Take in a chunk's rewards."""
        tasks = list(chunk.tasks)
        mean_K, variance_K = self.mean_K[tasks], self.variance_K[tasks]
        for reward_K in chunk.reward_KTN.reshape(len(tasks), -1).T.astype(np.float64):
            mean_K += self._alpha * (reward_K - mean_K)
            variance_K += self._alpha * (np.square(reward_K - mean_K) - variance_K)
        self.mean_K[tasks], self.variance_K[tasks] = mean_K, variance_K
        self._publish()

    def normalize(self, reward_KB: Tensor) -> Tensor:
        """Raw rewards -> scaled rewards, [K, B]."""
        return reward_KB * self.scale_K1

    def state_dict(self) -> dict[str, Any]:
        """The statistics."""
        return {"mean": self.mean_K.tolist(), "variance": self.variance_K.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value."""
        self.mean_K, self.variance_K = np.array(state["mean"]), np.array(state["variance"])
        self._publish()

    def _publish(self) -> None:
        scale_K = 1.0 / (np.sqrt(self.variance_K) + 1e-8)
        self.scale_K1 = torch.from_numpy(scale_K.astype(np.float32)).unsqueeze(1).to(self._device)
