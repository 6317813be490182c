"""A small learner on made transitions, for tests of the update (the simulators have their own tests)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from agents.config import AgentConfig
from agents.problem import Problem
from agents.sac import SACLearner
from benchmarks.variants import config_of
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.registry import make_method


@dataclass(frozen=True)
class Transitions:
    """A chunk of transitions, as `agents.replay.Transitions` asks for."""

    tasks: tuple[int, ...]
    obs_KTNO: np.ndarray
    action_KTNA: np.ndarray
    reward_KTN: np.ndarray
    next_obs_KTNO: np.ndarray
    terminated_KTN: np.ndarray


def transitions(tasks: int, steps: int, copies: int, observation: int, action: int, seed: int) -> Transitions:
    """Random transitions; one in ten is terminal."""
    rng = np.random.default_rng(seed)
    shape = (tasks, steps, copies)
    return Transitions(
        tuple(range(tasks)),
        rng.standard_normal((*shape, observation), np.float32),
        rng.uniform(-1, 1, (*shape, action)).astype(np.float32),
        rng.standard_normal(shape, np.float32),
        rng.standard_normal((*shape, observation), np.float32),
        rng.random(shape) < 0.1,
    )


Build = Callable[..., SACLearner]


@pytest.fixture
def build() -> Build:
    """A learner of 3 tasks with small networks and a filled replay."""

    def make(
        method: str = "ls",
        critic_method: str | None = None,
        seed: int = 0,
        device: str = "cpu",
        fill: bool = True,
        diagnostics: DiagnosticsConfig | None = None,
        **options: object,
    ) -> SACLearner:
        problem = Problem(("a", "b", "c"), 4, 2, np.array([[1, 1], [1, 1], [1, 0]], np.float32))
        config = AgentConfig(**{"hidden_sizes": [16, 16], "batch_size": 8, "replay_capacity": 64} | options)  # type: ignore[arg-type]
        methods = [
            make_method(config_of(name), 3, seed=network)
            for network, name in enumerate((method, critic_method or method))
        ]
        learner = SACLearner(problem, config, methods[0], methods[1], seed, device, diagnostics)
        if fill:
            learner.add(transitions(3, 20, 2, 4, 2, seed=1))
        return learner

    return make
