"""A chunk: T vector steps of some tasks, and the episodes that ended in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Episode:
    """A finished training episode.

    Attributes:
        task: Index of the task in its suite.
        copy: Environment copy of the task.
        number: Number of the episode in its stream, from 0.
        end: Vector step of its chunk, counted from 1, after which it ended.
        return_: Sum of rewards.
        length: Steps.
        success_any: Whether any step was a success.
        success_last: Whether the last step was a success.
    """

    task: int
    copy: int
    number: int
    end: int
    return_: float
    length: int
    success_any: bool
    success_last: bool


@dataclass(frozen=True, eq=False)
class Chunk:
    """T vector steps of some tasks. All arrays lead with the task, as ordered in `tasks`; floats are float32.

    Attributes:
        index: Number of the chunk in its run.
        tasks: Task indices along the leading axis.
        obs_KTNO: Observations.
        action_KTNA: Actions in [-1, 1]; 0 in padded coordinates.
        reward_KTN: Rewards.
        next_obs_KTNO: Observations that followed; at an episode's end the terminal one, never the reset one.
        terminated_KTN: The task ended by its own dynamics, so bootstrapping stops.
        ended_KTN: The episode ended, terminated or truncated.
        episodes: Episodes that ended in this chunk, by (end, task, copy).
    """

    index: int
    tasks: tuple[int, ...]
    obs_KTNO: np.ndarray
    action_KTNA: np.ndarray
    reward_KTN: np.ndarray
    next_obs_KTNO: np.ndarray
    terminated_KTN: np.ndarray
    ended_KTN: np.ndarray
    episodes: list[Episode]


def merge_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """One chunk of all tasks, sorted by task, from the chunks of several rollouts of the same run.

    Raises:
        ValueError: The chunks have different indices or share a task.
    """
    tasks = [task for chunk in chunks for task in chunk.tasks]
    if len({chunk.index for chunk in chunks}) != 1 or len(set(tasks)) != len(tasks):
        described = ", ".join(f"chunk {chunk.index} of tasks {chunk.tasks}" for chunk in chunks)
        raise ValueError(f"only chunks of one index and of different tasks merge, not: {described or 'none'}")
    row = {task: (chunk, k) for chunk in chunks for k, task in enumerate(chunk.tasks)}

    def merged(name: str) -> np.ndarray:
        return np.stack([getattr(chunk, name)[k] for chunk, k in (row[task] for task in sorted(tasks))])

    return Chunk(
        index=chunks[0].index,
        tasks=tuple(sorted(tasks)),
        obs_KTNO=merged("obs_KTNO"),
        action_KTNA=merged("action_KTNA"),
        reward_KTN=merged("reward_KTN"),
        next_obs_KTNO=merged("next_obs_KTNO"),
        terminated_KTN=merged("terminated_KTN"),
        ended_KTN=merged("ended_KTN"),
        episodes=sorted((episode for chunk in chunks for episode in chunk.episodes), key=by_end),
    )


def by_end(episode: Episode) -> tuple[int, int, int]:
    """The order of episodes in a chunk, the same however tasks were shared out."""
    return episode.end, episode.task, episode.copy
