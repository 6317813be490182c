"""Any Gymnasium environment with continuous actions as a task; classic Gym ones too, through Shimmy.

Sizes differ between tasks, so observations and actions are padded with zeros to the largest. A step is a
success when `info["success"]`, else `info["is_success"]`, says so; a task with neither key succeeds where its
reward reaches `env.success_reward`, and never when that is not set. There are no goals here: the seed of an
episode decides its start.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.config import EnvConfig, EnvError, unknown
from envs.errors import exits_raise, reraise_a_signals
from envs.suite import Step, TaskEnvironment, TaskSuite

CLASSIC_PREFIX = "gym:"
"""Marks a task as an id of the old `gym` package, as in "gym:Pendulum-v1"."""


class GymnasiumEnvironment:
    """One Gymnasium environment behind the suite's contract.

    Args:
        env: The environment; it must be deterministic after `reset(seed=...)`.
        observation_dim: Length that observations are padded to.
        horizon: Steps after which an episode is truncated.
        success_reward: Reward that counts as success where `info` has no success key.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], observation_dim: int, horizon: int, success_reward: float | None
    ) -> None:
        assert isinstance(env.action_space, Box) and isinstance(env.observation_space, Box)
        self._env = env
        self._observation_dim = observation_dim
        self._observed_shape, self._observed_dtype = env.observation_space.shape, env.observation_space.dtype
        self._horizon = horizon
        self._success_reward = success_reward
        self._steps = 0
        self._shape, self._dtype = env.action_space.shape, env.action_space.dtype
        self._low, self._high = env.action_space.low.ravel(), env.action_space.high.ravel()
        self._middle = (self._high.astype(np.float64) + self._low) / 2
        self._half = (self._high.astype(np.float64) - self._low) / 2

    @property
    def simulator(self) -> gymnasium.Env[Any, Any]:
        """The Gymnasium environment itself, for who renders it."""
        return self._env

    def reset(self, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
        """Starts an episode that `seed` alone decides; `goal` is not used."""
        self._steps = 0
        # 31 bits: classic Gym environments may hand their seed to C code.
        observation, _ = self._env.reset(seed=int(seed.generate_state(1)[0]) % 2**31)
        return self._padded(observation)

    def step(self, action_A: np.ndarray) -> Step:
        """Takes one action in [-1, 1]^A, rescaled to the environment's own bounds; padding is ignored."""
        own = self._middle + self._half * action_A[: self._middle.size]
        action = np.clip(own, self._low, self._high).astype(self._dtype).reshape(self._shape)
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        reward = _number("the reward", reward)
        terminated, truncated = _flag("terminated", terminated), _flag("truncated", truncated)
        ended = truncated or self._steps >= self._horizon
        return Step(self._padded(observation), reward, terminated, ended, self._success(info, reward))

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()

    def _padded(self, observation: Any) -> np.ndarray:
        own = np.asarray(observation)
        fits = own.dtype == self._observed_dtype or np.can_cast(own.dtype, self._observed_dtype, "same_kind")
        if own.shape != self._observed_shape or not fits:
            raise ValueError(
                f"the observation is {_kind(own)}, the task's observation_space says "
                f"{self._observed_dtype} {self._observed_shape}"
            )
        padded_O = np.zeros(self._observation_dim, np.float32)
        padded_O[: own.size] = own.ravel()
        return padded_O

    def _success(self, info: dict[str, Any], reward: float) -> bool:
        said = info.get("success", info.get("is_success"))
        if said is not None:
            return _flag("the success in info", said)
        return self._success_reward is not None and reward >= self._success_reward


def build_gymnasium_suite(config: EnvConfig) -> TaskSuite:
    """Describes a suite of Gymnasium tasks; builds each environment once, to read its spaces.

    Raises:
        EnvError: A task that does not exist or cannot be built, a space that is no Box, or unbounded actions.
    """
    if not config.tasks:
        raise EnvError(f"env.tasks is empty; kind {config.kind!r} needs a task")
    if (config.kind == "factory") != (config.factory is not None):
        raise EnvError(
            f"env.factory = {config.factory!r} with env.kind = {config.kind!r}: kind 'factory' needs one "
            f"(such as 'my_package.tasks:make'), and no other kind has one"
        )
    observation_dims, action_dims, horizons = [], [], []
    for task in config.tasks:
        with _building(task), closing(_open(task, config.factory)) as env:
            observation_dims.append(_box(task, "observation", env.observation_space).low.size)
            action_space = _box(task, "action", env.action_space)
            if not action_space.is_bounded():
                raise EnvError(f"task {task!r} has unbounded actions {action_space}")
            action_dims.append(action_space.low.size)
            horizons.append(min(config.horizon, _limit(env) or config.horizon))
    action_mask_KA = np.zeros((len(config.tasks), max(action_dims)), np.float32)
    for mask_A, size in zip(action_mask_KA, action_dims, strict=True):
        mask_A[:size] = 1
    return TaskSuite(
        tasks=tuple(config.tasks),
        observation_dim=max(observation_dims),
        action_dim=max(action_dims),
        horizon=max(horizons),
        action_mask_KA=action_mask_KA,
        num_goals=1,
        factory=partial(_make, replace(config, tasks=list(config.tasks)), max(observation_dims)),
    )


@contextmanager
def _building(task: str) -> Iterator[None]:
    """Has whatever a task's constructor, spaces or `close` raise name the task."""
    try:
        with exits_raise():
            yield
    except EnvError:
        raise
    except BaseException as error:
        reraise_a_signals(error)
        raise EnvError(f"task {task!r} cannot be built: {type(error).__name__}: {error}") from error


def _make(
    config: EnvConfig, observation_dim: int, task: int, horizon: int | None, render_mode: str | None = None
) -> TaskEnvironment:
    env = _open(config.tasks[task], config.factory, render_mode)
    asked = horizon or config.horizon
    return GymnasiumEnvironment(env, observation_dim, min(asked, _limit(env) or asked), config.success_reward)


def _open(task: str, factory: str | None, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    # Not every constructor knows the word, so that it is said only where somebody wants pictures.
    rendering: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if factory is not None:
        return _from_factory(task, factory, rendering)
    if task.startswith(CLASSIC_PREFIX):
        return _classic(task, rendering)
    try:
        return gymnasium.make(task, disable_env_checker=True, **rendering)
    except gymnasium.error.UnregisteredEnv as error:
        raise EnvError(unknown("task", task, sorted(gymnasium.registry))) from error


def _from_factory(task: str, factory: str, rendering: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    module, _, name = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EnvError(f"env.factory = {factory!r} must name 'package.module:callable': {error}") from error
    # A factory that takes no render_mode may still build environments that have one.
    env = make(task, **rendering) if rendering and _takes_render_mode(make) else make(task)
    if not isinstance(env, gymnasium.Env):
        kind = type(env).__name__
        raise EnvError(f"env.factory = {factory!r} gave a {kind} for task {task!r}, not a gymnasium.Env")
    return env


def _classic(task: str, rendering: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    missing = [package for package in ("shimmy", "gym") if importlib.util.find_spec(package) is None]
    if missing:
        raise EnvError(
            f"task {task!r} is a classic Gym environment, which needs {' and '.join(missing)}: "
            f"{shlex.quote(sys.executable)} -m pip install 'shimmy>=2.0' 'gym==0.26.2'"
        )
    import gym
    from shimmy import GymV21CompatibilityV0, GymV26CompatibilityV0

    major, minor = (int(part) for part in gym.__version__.split(".")[:2])
    adapter = GymV26CompatibilityV0 if (major, minor) >= (0, 26) else GymV21CompatibilityV0
    # Gym 0.26's checker needs NumPy 1; older versions have no such switch.
    switches = {"disable_env_checker"} & set(inspect.signature(gym.make).parameters)
    kwargs: dict[str, Any] = dict.fromkeys(switches, True) | rendering
    env: gymnasium.Env[Any, Any] = adapter(env_id=task.removeprefix(CLASSIC_PREFIX), make_kwargs=kwargs)
    return env


def _box(task: str, what: str, space: object) -> Box:
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        return space
    raise EnvError(f"task {task!r} has the {what} space {space}; only a Box of floats is supported")


def _limit(env: gymnasium.Env[Any, Any]) -> int | None:
    limit = getattr(env.spec, "max_episode_steps", None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise EnvError(f"the spec says max_episode_steps={limit!r}, which must be a positive number of steps")
    return limit


def _number(what: str, value: Any) -> float:
    """An environment's value as a number: of any real type, alone or the only one of an array."""
    if type(value) is float:
        return value
    own = np.asarray(value)
    if own.size != 1 or own.dtype.kind not in "biuf":
        raise ValueError(f"{what} is {_kind(own)}, not a real number")
    return float(own.item())


def _flag(what: str, value: Any) -> bool:
    """An environment's value as yes or no. Python takes NaN and "False" for yes: they are refused."""
    if value is True or value is False:
        return value
    number = _number(what, value)
    if number != number:
        raise ValueError(f"{what} is NaN, neither true nor false")
    return bool(number)


def _kind(own: np.ndarray) -> str:
    return f"{own.dtype} {own.shape}" if own.dtype != object else type(own[()]).__name__


def _takes_render_mode(make: Callable[..., Any]) -> bool:
    try:
        return "render_mode" in inspect.signature(make).parameters
    except ValueError:  # some callables written in C don't tell
        return False
