"""The contract of a task suite, and `build_suite`, which makes one from its configuration."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from envs.config import EnvConfig, EnvError


class Step(NamedTuple):
    """What one environment step gives back.

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


def build_suite(config: EnvConfig) -> TaskSuite:
    """Checks the configuration and describes its suite. No Meta-World simulator is built here.

    Raises:
        EnvError: An option has a value that cannot work.
    """
    for key in ("horizon", "num_goals", "copies"):
        if getattr(config, key) < 1:
            raise EnvError(f"env.{key} = {getattr(config, key)} must be at least 1")
    if config.goal_seed < 0:
        raise EnvError(f"env.goal_seed = {config.goal_seed} must not be negative")
    repeated = sorted({task for task in config.tasks if config.tasks.count(task) > 1})
    if repeated:
        raise EnvError(f"env.tasks names {', '.join(map(repr, repeated))} more than once")
    if config.kind == "metaworld":
        from envs.metaworld_suite import build_metaworld_suite

        return build_metaworld_suite(config)
    if config.kind in ("gymnasium", "factory"):
        from envs.gymnasium_suite import build_gymnasium_suite

        return build_gymnasium_suite(config)
    raise EnvError(unknown("env.kind", config.kind, ("metaworld", "gymnasium", "factory")))


def unknown(what: str, value: str, choices: Iterable[str]) -> str:
    """The message for a name that is not among the choices, with the closest one."""
    names = list(choices)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {what} {value!r}{hint} choices: {', '.join(names)}"
