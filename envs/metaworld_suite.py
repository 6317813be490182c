"""Meta-World tasks in the multi-task (goal visible) style, stepped as raw simulators without wrappers."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3, MT25_V3, MT50_V3
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task

from envs.config import EnvConfig, EnvError, unknown
from envs.metaworld_lean import lean
from envs.streams import SPACES, seed_sequence
from envs.suite import Step, TaskEnvironment, TaskSuite

OBSERVATION_DIM: Final = 39
ACTION_DIM: Final = 4
TASK_LISTS: Final[dict[str, tuple[str, ...]]] = {
    "mt10": tuple(MT10_V3),
    "mt25": tuple(MT25_V3),
    "mt50": tuple(MT50_V3),
}
"""Task names of the named sets, in the order of the one-hot task id (MT10 is not the start of MT50)."""

_goals: dict[tuple[str, int, int], Task] = {}
"""Goals drawn so far in this process, by (task name, goal seed, goal)."""


class MetaWorldEnvironment:
    """One Meta-World simulator; a pure function of (goal, actions) after each reset.

    Args:
        name: Task name, such as "reach-v3".
        reward_version: "v1" or "v2".
        horizon: Steps after which an episode is truncated.
        goal_seed: Seed of the task's goals.
    """

    def __init__(self, name: str, reward_version: str, horizon: int, goal_seed: int) -> None:
        self._name = name
        self._goal_seed = goal_seed
        self._env: SawyerXYZEnv = lean(ALL_V3_ENVIRONMENTS[name])(reward_function_version=reward_version)
        # The class's own 500 would make a longer episode raise, and would not end a shorter one.
        self._env.max_path_length = horizon

    @property
    def simulator(self) -> SawyerXYZEnv:
        """Meta-World's own environment, for who renders it."""
        return self._env

    def reset(self, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
        """Starts an episode with the goal (None: 0). The goal decides everything, so `seed` is not used."""
        self._env.set_task(self._task(goal or 0))
        observation, _ = self._env.reset()
        return np.asarray(observation, np.float32)

    def step(self, action_A: np.ndarray) -> Step:
        """Takes one action of 4 numbers in [-1, 1]: hand x, y, z and gripper."""
        observation, reward, _, truncated, info = self._env.step(action_A)
        obs_O = np.asarray(observation, np.float32)
        return Step(obs_O, float(reward), False, bool(truncated), bool(info["success"]))

    def close(self) -> None:
        """Frees the simulator."""
        self._env.close()

    def _task(self, goal: int) -> Task:
        """Goal number `goal` as Meta-World's own task record, the same in every process."""
        key = (self._name, self._goal_seed, goal)
        if key not in _goals:
            env = self._env
            seeds = seed_sequence(self._goal_seed, SPACES, zlib.crc32(self._name.encode()), goal)
            env.seed(int(seeds.generate_state(1)[0]))
            env.seeded_rand_vec, env._freeze_rand_vec = True, False
            env.reset()  # the task itself rejects layouts that overlap, so only its own reset can draw one
            original = ALL_V3_ENVIRONMENTS[self._name]
            drawn = {"env_cls": original, "rand_vec": env._last_rand_vec, "partially_observable": False}
            _goals[key] = Task(self._name, pickle.dumps(drawn))
        return _goals[key]


def build_metaworld_suite(config: EnvConfig) -> TaskSuite:
    """Describes a Meta-World suite; simulators are built by `TaskSuite.make`.

    Raises:
        EnvError: A task or reward version that Meta-World lacks, or no tasks for a name that is no list.
    """
    if config.reward_version not in ("v1", "v2"):
        raise EnvError(unknown("env.reward_version", config.reward_version, ("v1", "v2")))
    if not config.tasks and config.name not in TASK_LISTS:
        raise EnvError(f"env.tasks is empty: {unknown('task list env.name', config.name, TASK_LISTS)}")
    tasks = tuple(config.tasks) or TASK_LISTS[config.name]
    for task in tasks:
        if task not in ALL_V3_ENVIRONMENTS:
            raise EnvError(unknown("task", task, sorted(ALL_V3_ENVIRONMENTS)))
    return TaskSuite(
        tasks=tasks,
        observation_dim=OBSERVATION_DIM,
        action_dim=ACTION_DIM,
        horizon=config.horizon,
        action_mask_KA=np.ones((len(tasks), ACTION_DIM), np.float32),
        num_goals=config.num_goals,
        factory=partial(_make, replace(config, tasks=list(tasks))),
    )


def _make(config: EnvConfig, task: int, horizon: int | None) -> TaskEnvironment:
    name, steps = config.tasks[task], horizon or config.horizon
    return MetaWorldEnvironment(name, config.reward_version, steps, config.goal_seed)
