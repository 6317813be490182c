"""Small Gymnasium tasks with one known property each, built by name through `kind: factory`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.build import build_suite
from envs.config import EnvConfig
from envs.suite import TaskSuite

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


class Scripted(gymnasium.Env[Any, Any]):
    """Keeps to its spaces but for one answer: `GIVES[name]` names what is wrong, and gives it."""

    def __init__(self, name: str) -> None:
        self.where, self.answer = GIVES[name]
        self.size = 6 if name == "wider" else 3
        self.stepped = self.closed = False
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (self.size,), np.float32)
        if self.where == "constructor":
            raise self.answer

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation = np.zeros(self.size, np.float32)
        return (self.answer if self.where == "reset" else observation), {}

    def step(self, action: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.stepped = True
        given = {"observation": np.ones(self.size), "reward": 1.0, "terminated": False, "truncated": False}
        given |= {"success": False, self.where: self.answer}
        success = {"success": given["success"]}
        return given["observation"], given["reward"], given["terminated"], given["truncated"], success

    def close(self) -> None:
        self.closed = True
        if self.where == "close" or (self.where == "late close" and self.stepped):
            raise self.answer


NAN, RAGGED = float("nan"), [[1.0], [1.0, 2.0], [3.0]]
GIVES: dict[str, tuple[str, Any]] = {
    "wider": ("", None),
    "sound": ("", None),
    "a list": ("observation", [1, 2.0, True]),
    "an integer reward": ("reward", 2),
    "a reward in an array": ("reward", np.array([2.0])),
    "numpy's yes": ("success", np.True_),
    "one as yes": ("success", 1.0),
    "NaN from reset": ("reset", np.array([0, NAN, 0], np.float32)),
    "infinite from reset": ("reset", np.full(3, np.inf, np.float32)),
    "None from reset": ("reset", None),
    "a scalar from reset": ("reset", 1.0),
    "short from reset": ("reset", np.zeros(2, np.float32)),
    "long from reset": ("reset", np.zeros(4, np.float32)),
    "text from reset": ("reset", ["1", "2", "3"]),
    "None": ("observation", None),
    "a scalar": ("observation", np.float32(1)),
    "short": ("observation", np.zeros(2)),
    "long": ("observation", np.zeros(4)),
    "a column": ("observation", np.zeros((3, 1))),
    "ragged": ("observation", RAGGED),
    "complex": ("observation", np.zeros(3, np.complex64)),
    "beyond float32": ("observation", np.array([0, 1e300, 0])),
    "text": ("observation", np.array(["1", "2", "3"])),
    "a text as reward": ("reward", "1.0"),
    "a complex reward": ("reward", np.complex64(1 + 2j)),
    "two rewards": ("reward", np.zeros(2)),
    "no reward": ("reward", None),
    "NaN as reward": ("reward", NAN),
    "a reward beyond float32": ("reward", 1e300),
    "a text as terminated": ("terminated", "False"),
    "NaN as truncated": ("truncated", NAN),
    "None as terminated": ("terminated", None),
    "a text as success": ("success", "no"),
    "NaN as success": ("success", NAN),
    "raises at once": ("constructor", RuntimeError("no licence")),
    "raises in close": ("close", RuntimeError("the port is gone")),
    "raises in a late close": ("late close", RuntimeError("the port is gone")),
}
"""What a `Scripted` task gives, and where; the first seven are sound."""
SOUND = tuple(GIVES)[:7]


def scripted(name: str) -> gymnasium.Env[Any, Any]:
    return Scripted(name)


def scripted_suite(*names: str) -> TaskSuite:
    return build_suite(EnvConfig(kind="factory", tasks=list(names), horizon=20, factory="tests.envs.toys:scripted"))


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
