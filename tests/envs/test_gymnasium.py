"""Gymnasium, factory and classic Gym tasks behind the suite's contract."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.build import build_suite
from envs.config import EnvConfig, EnvError
from envs.rollout import Rollout
from tests.envs.test_rollout import assert_same, noisy
from tests.envs.toys import classic_suite, toy_suite

SEED = np.random.SeedSequence(0)


def actions(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_classic_set_is_padded_to_one_size() -> None:
    suite = classic_suite()
    assert (suite.observation_dim, suite.action_dim, suite.horizon, suite.num_goals) == (3, 1, 50, 1)
    car = suite.make(1)
    start_O = car.reset(SEED, None)
    assert start_O.dtype == np.float32 and start_O.shape == (3,) and start_O[2] == 0 and start_O[0] != 0
    assert car.step(actions(1)).obs_O[2] == 0


def test_a_step_is_the_environments_own_with_the_action_rescaled() -> None:
    ours, own = classic_suite().make(0), gymnasium.make("Pendulum-v1").unwrapped
    np.testing.assert_array_equal(ours.reset(SEED, None), own.reset(seed=int(SEED.generate_state(1)[0]) % 2**31)[0])
    for value in np.random.default_rng(0).uniform(-1, 1, 20).astype(np.float32):
        obs_O, reward, *_ = own.step(np.array([2 * value], np.float32))  # Pendulum's torque is in [-2, 2]
        step = ours.step(np.array([value]))
        np.testing.assert_array_equal(step.obs_O, obs_O)
        assert step.reward == float(reward)


def test_bounds_that_are_not_symmetric_are_met_exactly_and_padding_is_ignored() -> None:
    wide = toy_suite("wide", "endless").make(0)
    wide.reset(SEED, None)
    np.testing.assert_array_equal(wide.step(actions(-1, 0, 1)).obs_O[3:6], [-2, 1, 4])
    narrow = toy_suite("wide", "endless").make(1)
    narrow.reset(SEED, None)
    np.testing.assert_array_equal(narrow.step(actions(0.5, 1, 1)).obs_O[3:], [0.5, 0, 0])


def test_the_shorter_of_both_horizons_truncates() -> None:
    suite = classic_suite(horizon=300)
    assert suite.horizon == 300  # the car's own limit is 999
    for task, length in [(0, 200), (1, 300)]:
        environment = suite.make(task)
        environment.reset(SEED, None)
        steps = [environment.step(actions(0)) for _ in range(length)]
        assert [step.truncated for step in steps] == [False] * (length - 1) + [True]
        assert not steps[-1].terminated


def test_success_is_what_info_says_else_the_configured_reward() -> None:
    def successes(success_reward: float | None) -> list[bool]:
        config = EnvConfig(
            kind="gymnasium",
            tasks=["MountainCarContinuous-v0"],
            horizon=400,
            success_reward=success_reward,
        )
        environment = build_suite(config).make(0)
        velocity, seen = environment.reset(SEED, None)[1], []
        for _ in range(400):
            step = environment.step(actions(1 if velocity >= 0 else -1))
            velocity = step.obs_O[1]
            seen.append(step.success)
            if step.terminated:
                return seen
        raise AssertionError("the car did not arrive")

    assert not any(successes(None))
    reached = successes(90.0)
    assert reached[-1] and not any(reached[:-1])
    told = toy_suite("succeeds", success_reward=-100.0).make(0)
    told.reset(SEED, None)
    assert [told.step(actions(0)).success for _ in range(4)] == [False, False, True, False]


class Unusual(gymnasium.Env[Any, Any]):
    """Spaces that this project cannot use."""

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space


BOX = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
UNUSUAL = {
    "dictionary": Unusual(gymnasium.spaces.Dict({"a": BOX}), BOX),
    "integers": Unusual(gymnasium.spaces.Box(0, 255, (4,), np.uint8), BOX),
    "unbounded": Unusual(BOX, gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)),
}


def unusual(name: str) -> gymnasium.Env[Any, Any]:
    return UNUSUAL[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dictionary", "observation space Dict"),
        ("integers", "observation space Box"),
        ("unbounded", "unbounded"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(name: str, message: str) -> None:
    with pytest.raises(EnvError, match=f"task '{name}' has (the )?{message}"):
        build_suite(EnvConfig(kind="factory", tasks=[name], factory="tests.envs.test_gymnasium:unusual"))


def test_a_classic_gym_task_without_gym_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym", None)  # as where it isn't installed
    with pytest.raises(EnvError, match=r"'gym:Pendulum-v1' .* needs .*gym.*: .*pip install "):
        build_suite(EnvConfig(kind="gymnasium", tasks=["gym:Pendulum-v1"]))


def test_classic_gym_tasks_run_and_are_restored_to_the_bit() -> None:
    config = EnvConfig(kind="gymnasium", tasks=["gym:Pendulum-v1", "gym:MountainCarContinuous-v0"], horizon=30)
    suite = build_suite(config)
    assert (suite.observation_dim, suite.action_dim, suite.horizon) == (3, 1, 30)
    original, restored = (Rollout(suite, [0, 1], 1, seed=0) for _ in range(2))
    original.collect(noisy, 0, 40)
    restored.restore(original.positions())
    chunk = original.collect(noisy, 1, 40)
    assert_same(chunk, restored.collect(noisy, 1, 40))
    assert chunk.ended_KTN.any() and not chunk.terminated_KTN.any()
    with pytest.raises(EnvError, match="'gym:Pendlum-v1' cannot be built"):
        build_suite(EnvConfig(kind="gymnasium", tasks=["gym:Pendlum-v1"]))
