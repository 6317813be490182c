"""Small Gymnasium tasks with one known property each, built by name through `kind: factory`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.config import EnvConfig
from envs.suite import TaskSuite, build_suite

FACTORY = "tests.envs.toys:make"
TERMINATES_AFTER = 7


class Toy(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observation: steps since the reset, a number drawn at the reset, one drawn at the step, the last action."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 3 if name == "wide" else 1
        low, high = (-2.0, 4.0) if name == "wide" else (-1.0, 1.0)
        self.action_space = Box(low, high, (self.size,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (3 + self.size,), np.float64)
        self.steps = self.episodes = self.memory = 0
        self.length = TERMINATES_AFTER
        self.start = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.episodes = 0, self.episodes + 1
        self.start = self.np_random.random()
        self.length = TERMINATES_AFTER if self.name != "lengths" else int(self.np_random.integers(2, 12))
        return self.observe(np.zeros(self.size)), {}

    def observe(self, action: np.ndarray) -> np.ndarray:
        return np.concatenate([[self.steps, self.start, self.np_random.random()], action])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.memory += 1
        if self.name == "breaks" and self.episodes == 2 and self.steps == 5:
            raise ZeroDivisionError("the simulator lost a joint")
        reward = float(self.np_random.random())
        if self.name == "nan" and self.steps == 4:
            reward = float("nan")
        if self.name == "remembers":
            reward += self.memory
        ended = self.name in ("terminates", "wide", "lengths", "breaks") and self.steps == self.length
        info = {"success": self.steps == 3} if self.name == "succeeds" else {}
        if self.name == "lengths":
            info = {"success": ended and self.length > 6}
        return self.observe(action), reward, ended, False, info


def make(name: str) -> gymnasium.Env[Any, Any]:
    return Toy(name)


def toy_suite(*names: str, horizon: int = 20, success_reward: float | None = None) -> TaskSuite:
    return build_suite(
        EnvConfig(
            kind="factory",
            name="toys",
            tasks=list(names),
            horizon=horizon,
            factory=FACTORY,
            success_reward=success_reward,
        )
    )


def classic_suite(horizon: int = 50) -> TaskSuite:
    tasks = ["Pendulum-v1", "MountainCarContinuous-v0"]
    return build_suite(EnvConfig(kind="gymnasium", name="classic", tasks=tasks, horizon=horizon))


def metaworld_suite(*tasks: str, horizon: int = 500, reward_version: str = "v2", num_goals: int = 50) -> TaskSuite:
    return build_suite(
        EnvConfig(
            name="custom",
            tasks=list(tasks),
            horizon=horizon,
            reward_version=reward_version,
            num_goals=num_goals,
        )
    )
