"""Meta-World's scripted experts, in our calling convention."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from envs.suite import TaskSuite


@cache
def _expert(name: str) -> Any:
    return ENV_POLICY_MAP[name]()


def expert_action(name: str, obs_O: np.ndarray) -> np.ndarray:
    """The expert's action, clipped to [-1, 1]; the experts hold no state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some experts say that their gains exceed the action bounds
        action_A = _expert(name).get_action(obs_O.astype(np.float64))
    return np.clip(np.asarray(action_A, np.float32), -1, 1)


class Experts:
    """A deterministic policy for every task of a suite."""

    def __init__(self, suite: TaskSuite) -> None:
        self.suite = suite

    def __call__(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        return expert_action(self.suite.tasks[task], obs_NO[0])[None]
