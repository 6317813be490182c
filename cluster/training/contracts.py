"""What the driver asks of a learner and the collectors of a policy. `agents.sac` and `agents.policy` are one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from envs.rollout import Chunk
from envs.streams import Position

Positions = Mapping[tuple[int, int], Position]
"""Where every environment stream stands, by (task, copy)."""


class PolicyLike(Protocol):
    """A policy that can act at random, for several tasks at once, and at its mode, one task at a time."""

    def load(self, weights: np.ndarray) -> None:
        """Take up flat float32 weights, which may be read-only memory that goes away: copy them."""

    def __call__(self, tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [task, copy, action], from observations and standard normal noise of the same shape."""

    def mode(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        """The deterministic actions in [-1, 1], [copy, action]."""


PolicyFactory = Callable[[], PolicyLike]
"""Builds an empty policy; it's pickled and called on every worker."""


class ReplayLike(Protocol):
    """The part of a replay that checkpoints write to disk once."""

    @property
    def capacity(self) -> int:
        """Transitions a task that are kept."""

    @property
    def inserted(self) -> int:
        """Transitions that every task has ever received."""

    def segment(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Transitions number `start` to `stop` of every task."""

    def load_segment(self, start: int, stop: int, arrays: dict[str, np.ndarray]) -> None:
        """Put back what `segment` gave."""


class Learner(Protocol):
    """Whatever learns from chunks; it must be a pure function of its seed, its chunks and its update counts."""

    @property
    def replay(self) -> ReplayLike:
        """Where `add` puts the transitions."""

    def add(self, chunk: Chunk) -> None:
        """Insert a chunk of all tasks or (async mode) of some."""

    def update(self, count: int) -> None:
        """Do that many updates."""

    def policy_weights(self) -> np.ndarray:
        """A new flat float32 copy of the weights that `PolicyLike.load` takes."""

    def close(self) -> None:
        """Free what it holds beyond this process."""

    def metrics(self) -> list[dict[str, Any]]:
        """Rows since the last call; key "task" is a name, or None for the whole run. Raises on NaN."""

    def conflict_maps(self) -> list[dict[str, Any]]:
        """Rows of conflicts.jsonl, asked for after `metrics`; key "network" is a name."""

    def state_dict(self) -> dict[str, Any]:
        """Everything but the replay's segments."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value, after the replay's segments."""
