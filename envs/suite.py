"""Task suites: their contract, and checks of the values that go in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np


class Step(NamedTuple):
    """The result of one environment step.

    `obs_O` is float32 and, at an episode's end, the true terminal observation; `terminated` means that the
    task's own dynamics ended (bootstrapping stops), `truncated` that the horizon cut it; `success` is this step's.
    """

    obs_O: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    success: bool


_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


def checked_reset(environment: TaskEnvironment, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
    """Starts an episode, and refuses a first observation that `checked_step` would refuse.

    Raises:
        FloatingPointError: The observation is NaN, infinite or no float32.
    """
    obs_O = environment.reset(seed, goal)
    if not np.isfinite(obs_O).all():
        raise FloatingPointError(f"the observation after reset is not finite ({obs_O})")
    return obs_O


def checked_step(environment: TaskEnvironment, action_A: np.ndarray) -> Step:
    """Steps, and refuses what would poison a replay for good.

    Raises:
        FloatingPointError: The observation or reward is NaN, infinite or no float32.
    """
    step = environment.step(action_A)
    if not (abs(step.reward) <= _FLOAT32_MAX and np.isfinite(step.obs_O).all()):
        raise FloatingPointError(f"observation or reward is not finite (reward {step.reward}, {step.obs_O})")
    return step


def check_actions(action_KNA: np.ndarray, shape: tuple[int, ...], tasks: Sequence[str]) -> None:
    """Refuses actions that a simulator would clip, broadcast or quietly turn into nonsense.

    Raises:
        ValueError: Another shape than [task, copy, action], or a value that is NaN or outside [-1, 1].
    """
    if action_KNA.shape != shape:
        raise ValueError(f"the policy gave actions of shape {action_KNA.shape} for tasks {tasks}, not {shape}")
    if not np.abs(action_KNA).max() <= 1:
        largest_K = np.abs(action_KNA).max(axis=(1, 2))
        task, largest = next((task, at) for task, at in zip(tasks, largest_K, strict=True) if not at <= 1)
        raise ValueError(f"the policy gave an action outside [-1, 1] for task {task!r} (largest: {largest})")


class TaskEnvironment(Protocol):
    """One simulator of one task. After `reset` it is a pure function of (seed, goal, actions)."""

    def reset(self, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
        """Starts an episode and returns its first observation, float32 [observation]."""
        ...

    def step(self, action_A: np.ndarray) -> Step:
        """Takes a float32 action in [-1, 1]^A; coordinates that the task lacks are ignored."""
        ...

    def close(self) -> None:
        """Frees the simulator."""
        ...


@dataclass(frozen=True, eq=False)
class TaskSuite:
    """Tasks that are trained together, with observations and actions padded to one size. Cheap, picklable.

    Attributes:
        tasks: Names; a task's index here is its index everywhere.
        observation_dim: Length of every (padded) observation.
        action_dim: Length of every (padded) action.
        horizon: The longest episode of any task, in steps.
        action_mask_KA: float32; 1 where the task has that action coordinate, 0 where it is padding.
        num_goals: Goals a task; 1 where the suite knows no goals.
        factory: `(task index, horizon or None) -> TaskEnvironment`, picklable.
    """

    tasks: tuple[str, ...]
    observation_dim: int
    action_dim: int
    horizon: int
    action_mask_KA: np.ndarray
    num_goals: int
    factory: Callable[[int, int | None], TaskEnvironment]

    def make(self, task: int, horizon: int | None = None) -> TaskEnvironment:
        """Builds a new simulator of the task (0.1 s or more); `horizon` replaces the configured one."""
        return self.factory(task, horizon)
