"""Observation statistics: measured once on the random warm-up, then frozen, so that workers and learner agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.jacobian.sharding import Whole

MAX_NORMALIZED = 10.0  # a coordinate that hardly moved in the warm-up must not explode later
MIN_STD = 0.05  # of raw observations: 5 cm in Meta-World; also guards padded and (so far) constant coordinates


class ObservationScale:
    """Shifts and scales every observation coordinate to mean 0 and standard deviation 1 of the warm-up's data.

    Meta-World's observations are metres: centimetres decide between success and failure, and a network sees them as
    differences of 0.05. The statistics are pooled over tasks, since the tasks share the network.
    """

    def __init__(self, observation_dim: int, device: torch.device) -> None:
        self.mean_O = torch.zeros(observation_dim, device=device)
        self.scale_O = torch.ones(observation_dim, device=device)

    def fit(self, obs_KSO: Tensor, sharding: Whole) -> None:
        """Measure the statistics of K tasks' observations, those of all learners."""
        rows_RO = obs_KSO.reshape(-1, obs_KSO.shape[-1]).double()
        count = sharding.total(torch.tensor(len(rows_RO), dtype=torch.float64, device=rows_RO.device))
        mean_O = sharding.total(rows_RO.sum(0)) / count
        variance_O = sharding.total((rows_RO - mean_O).square().sum(0)) / count
        self.mean_O = mean_O.to(self.mean_O.dtype)
        self.scale_O = variance_O.sqrt().clamp(min=MIN_STD).reciprocal().to(self.scale_O.dtype)

    def __call__(self, obs: Tensor) -> Tensor:
        """Raw observations [..., O] -> normalised ones."""
        return normalize(obs, self.mean_O, self.scale_O)

    def state_dict(self) -> dict[str, Any]:
        """The statistics."""
        return {"mean": self.mean_O.clone(), "scale": self.scale_O.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value."""
        self.mean_O.copy_(state["mean"])
        self.scale_O.copy_(state["scale"])


def normalize(obs: Tensor, mean_O: Tensor, scale_O: Tensor) -> Tensor:
    """(obs - mean) * scale, kept within +-MAX_NORMALIZED; the one formula of learner and policy."""
    return ((obs - mean_O) * scale_O).clamp_(-MAX_NORMALIZED, MAX_NORMALIZED)
