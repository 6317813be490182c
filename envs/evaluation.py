"""Evaluation of one task: a pure function of the policy and the seed, on simulators of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from envs.config import EnvError, unknown
from envs.errors import EnvironmentFailure, exits_raise, reraise_a_signals
from envs.streams import EVALUATION, seed_sequence
from envs.suite import TaskEnvironment, TaskSuite, check_actions, checked_reset, checked_step


class DeterministicPolicy(Protocol):
    """The policy's mode."""

    def __call__(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [1, action], for observations [1, observation]."""
        ...


@dataclass(frozen=True)
class EvaluationProtocol:
    """How an evaluation cuts episodes and picks goals.

    Attributes:
        steps: Longest episode; None takes the suite's own horizon.
        goals: How many of the suite's goals are used, from goal 0; None takes them all.
        max_episodes: Most episodes that make sense; further ones would only repeat the same episode.
        description: One line for reports.
    """

    steps: int | None
    goals: int | None
    max_episodes: int | None
    description: str


PROTOCOLS: Final[Mapping[str, EvaluationProtocol]] = MappingProxyType(
    {
        "metaworld_plus": EvaluationProtocol(500, None, None, "500 steps, goals 0, 1, 2, ... in turn"),
        "mtrl": EvaluationProtocol(150, 1, 1, "150 steps, one episode on goal 0"),
        "suite": EvaluationProtocol(None, None, None, "the suite's own horizon, goals 0, 1, 2, ... in turn"),
    }
)
"""Evaluation protocols by name."""


@dataclass(frozen=True)
class TaskEvaluation:
    """The results of one task's episodes, as counts and lists, never only as a rate.

    Attributes:
        task: Index of the task in its suite.
        name: Name of the task.
        episodes: Episodes played.
        successes_any: Episodes with a success at any step.
        successes_last: Episodes whose last step was a success.
        returns: Sum of rewards of every episode.
        lengths: Steps of every episode.
        goals: Goal of every episode.
    """

    task: int
    name: str
    episodes: int
    successes_any: int
    successes_last: int
    returns: list[float]
    lengths: list[int]
    goals: list[int]


_simulators: WeakKeyDictionary[TaskSuite, dict[tuple[int, int | None], TaskEnvironment]] = WeakKeyDictionary()
"""Evaluation's own simulators, built at first use and kept for as long as their suite lives."""


@exits_raise()
def evaluate_task(
    suite: TaskSuite, task: int, policy: DeterministicPolicy, episodes: int, protocol: str, seed: int
) -> TaskEvaluation:
    """Plays episodes of one task with the deterministic policy; touches no training stream or simulator.

    Episode `e` has goal `e % goals` and the stream (EVALUATION, task, e). No episode is cut at a success, so
    returns are those of whole episodes.

    Args:
        suite: Where the task comes from.
        task: Its index.
        policy: The policy's mode.
        episodes: How many; a protocol may allow fewer (`EvaluationProtocol.max_episodes`).
        protocol: A key of `PROTOCOLS`.
        seed: Seed of the run.

    Raises:
        EnvError: An unknown protocol, or no episodes.
        EnvironmentFailure: A simulator raised, or gave an observation or reward that is not finite.
        ValueError: The policy's action has another shape, or a value that is NaN or outside [-1, 1].
    """
    if protocol not in PROTOCOLS:
        raise EnvError(unknown("evaluation protocol", protocol, PROTOCOLS))
    if episodes < 1:
        raise EnvError(f"evaluation episodes = {episodes} must be at least 1")
    rules = PROTOCOLS[protocol]
    episodes = min(episodes, rules.max_episodes or episodes)
    goals = [e % min(suite.num_goals, rules.goals or suite.num_goals) for e in range(episodes)]
    played = [_play(suite, task, policy, e, goal, rules.steps, seed) for e, goal in enumerate(goals)]
    return TaskEvaluation(
        task=task,
        name=suite.tasks[task],
        episodes=episodes,
        successes_any=sum(episode.success_any for episode in played),
        successes_last=sum(episode.success_last for episode in played),
        returns=[episode.return_ for episode in played],
        lengths=[episode.length for episode in played],
        goals=goals,
    )


@dataclass
class _Played:
    return_: float = 0.0
    length: int = 0
    success_any: bool = False
    success_last: bool = False


def _play(
    suite: TaskSuite,
    task: int,
    policy: DeterministicPolicy,
    episode: int,
    goal: int,
    steps: int | None,
    seed: int,
) -> _Played:
    played, own = _Played(), _simulators.setdefault(suite, {})
    try:
        if (task, steps) not in own:
            own[task, steps] = suite.make(task, steps)
        environment = own[task, steps]
        obs_O = checked_reset(environment, seed_sequence(seed, EVALUATION, task, episode), goal)
    except BaseException as error:
        raise _failure(suite, task, episode, played, error) from error
    ended = False
    while not ended:
        action_NA = policy(task, obs_O[None])
        check_actions(action_NA[None], (1, 1, suite.action_dim), [suite.tasks[task]])
        try:
            obs_O, reward, terminated, truncated, success = checked_step(environment, action_NA[0])
        except BaseException as error:
            raise _failure(suite, task, episode, played, error) from error
        played.length += 1
        played.return_ += reward
        played.success_any |= success
        played.success_last = success
        ended = terminated or truncated
    return played


def _failure(suite: TaskSuite, task: int, episode: int, played: _Played, error: BaseException) -> EnvironmentFailure:
    reraise_a_signals(error)
    cause = f"in evaluation: {type(error).__name__}: {error}"
    return EnvironmentFailure(suite.tasks[task], 0, episode, played.length, cause)
