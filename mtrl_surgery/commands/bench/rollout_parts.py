"""Where a vector step's time goes: physics, and the policy's products, which find their weights in no cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import mujoco
import numpy as np

from agents.policy import Policy
from envs.suite import TaskSuite

_ROUNDS = 3
_ASKED = 300  # times in a row
_PHYSICS = ("mj_step", "mj_forward", "mj_rnePostConstraint")


@dataclass(frozen=True)
class Part:
    """A part of a vector step.

    Attributes:
        part: What takes the time.
        of: What it is a part of.
        microseconds: A vector step.
        share: Of that vector step; None for what is timed alone.
    """

    part: str
    of: str
    microseconds: float
    share: float | None


def measure_parts(
    random: Mapping[str, Callable[[], object]],
    acting: tuple[str, Callable[[], object]],
    policy: Policy,
    suite: TaskSuite,
    steps: int,
) -> list[Part]:
    """Time physics and the policy inside of what collects, and the policy alone; medians of three chunks.

    Args:
        random: What collects a chunk with random actions, by name.
        acting: Name of what collects a chunk with the policy, and what does it.
        policy: The one that acts there.
        suite: Its tasks, one copy each.
        steps: Vector steps of a chunk.
    """
    parts = [_inside("physics", name, run, mujoco, _PHYSICS, steps) for name, run in random.items()]
    parts.append(_inside("policy", *acting, Policy, ("__call__",), steps))
    tasks = range(len(suite.tasks))
    obs_KNO = np.zeros((len(tasks), 1, suite.observation_dim), np.float32)
    noise_KNA = np.zeros((len(tasks), 1, suite.action_dim), np.float32)
    seconds = []
    for _ in range(_ASKED):
        started = time.perf_counter()
        policy(tasks, obs_KNO, noise_KNA)
        seconds.append(time.perf_counter() - started)
    return [*parts, Part("policy", "nothing else: asked again and again", 1e6 * statistics.median(seconds), None)]


def _inside(part: str, of: str, run: Callable[[], object], owner: Any, names: tuple[str, ...], steps: int) -> Part:
    spent, whole = [], []
    for _ in range(_ROUNDS):
        with _watched(owner, names) as laps:
            started = time.perf_counter()
            run()
            whole.append(time.perf_counter() - started)
        spent.append(sum(laps))
    share = statistics.median(own / total for own, total in zip(spent, whole, strict=True))
    return Part(part, of, 1e6 * statistics.median(spent) / steps, share)


@contextmanager
def _watched(owner: Any, names: tuple[str, ...]) -> Iterator[list[float]]:
    """The seconds of every call of these functions, which are themselves again afterwards."""
    laps: list[float] = []
    originals = {name: getattr(owner, name) for name in names}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*words: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*words, **options)
            finally:
                laps.append(time.perf_counter() - started)

        return call

    try:
        for name, function in originals.items():
            setattr(owner, name, timed(function))
        yield laps
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
