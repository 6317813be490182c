"""Named random streams, and the position of an environment in its stream of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

GOALS: Final = 0
"""Goal and initial state of a training episode: key (task, copy, episode)."""
ACTIONS: Final = 1
"""Exploration noise: key (task, copy, chunk)."""
EVALUATION: Final = 2
"""Initial state of an evaluation episode: key (task, episode)."""
LEARNER: Final = 3
"""Batch indices and policy noise of the learner: no key."""
METHOD: Final = 4
"""Random choices of a surgery method: key (network,)."""
INITIAL_WEIGHTS: Final = 5
"""Initial weights: key (network,)."""
SPACES: Final = 6
"""The goal vectors of a task, drawn once from `EnvConfig.goal_seed`: key (crc32 of the task's name, goal)."""


def seed_sequence(seed: int, purpose: int, *key: int) -> np.random.SeedSequence:
    """The seed of one named stream; equal names give equal streams, everywhere and always."""
    return np.random.SeedSequence(seed, spawn_key=(purpose, *key))


def stream(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """A generator at the start of one named stream."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, purpose, *key)))


@dataclass(frozen=True, eq=False)
class Position:
    """Everything that decides an environment's state: its episode and the actions since that episode's reset.

    Attributes:
        episode: Number of the current episode, from 0.
        actions_TA: Actions since the reset, float32, [t, action] with 0 <= t < horizon.
        last_obs_O: Observation the next action answers, float32; a replay must arrive at it.
        return_: Sum of the current episode's rewards so far.
        success_any: Whether any step of the current episode so far was a success.
        success_last: Whether its latest step was a success.
    """

    episode: int
    actions_TA: np.ndarray
    last_obs_O: np.ndarray
    return_: float
    success_any: bool
    success_last: bool
