"""Nothing that an environment gives is believed: what is no observation, reward or flag is a failure that says so."""

from __future__ import annotations

import numpy as np
import pytest

from envs.config import EnvError
from envs.errors import EnvironmentFailure
from envs.evaluation import evaluate_task
from envs.rollout import Rollout
from tests.envs.toys import GIVES, SOUND, scripted_suite

WRONG = [
    name
    for name, (where, _) in GIVES.items()
    if name not in SOUND and where not in ("constructor", "close", "late close")
]


def resting(task: int, obs_NO: np.ndarray) -> np.ndarray:
    return np.zeros((1, 1), np.float32)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_ends_the_episode_with_task_copy_episode_and_step(name: str) -> None:
    # The wider neighbour makes room for an observation that is too long.
    suite = scripted_suite("wider", name)
    with pytest.raises(EnvironmentFailure) as caught:
        Rollout(suite, [0, 1], copies=1, seed=0).collect(None, 0, 3)
    failure = caught.value
    assert (failure.task, failure.copy, failure.episode, failure.step) == (name, 0, 0, 0)
    with pytest.raises(EnvironmentFailure, match=f"{name!r} failed .*in evaluation"):
        evaluate_task(suite, 1, resting, episodes=1, protocol="suite", seed=0)


@pytest.mark.parametrize("name", SOUND[1:])
def test_any_real_type_is_welcome(name: str) -> None:
    chunk = Rollout(scripted_suite("wider", name), [1], copies=1, seed=0).collect(None, 0, 3)
    where, answer = GIVES[name]
    reward = float(np.asarray(answer).item()) if where == "reward" else 1.0
    assert chunk.reward_KTN.tolist() == [[[reward]] * 3]
    expected = [1, 2, 1] if where == "observation" else [1, 1, 1]
    assert (chunk.next_obs_KTNO[..., :3] == expected).all()
    assert not chunk.ended_KTN.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", r"the observation is float64 \(2,\), the task's observation_space says float32 \(3,\)"),
        ("None", "the observation is NoneType"),
        ("text", r"the observation is <U1 \(3,\)"),
        ("a text as reward", "the reward is <U3"),
        ("no reward", "the reward is NoneType"),
        ("NaN as truncated", "truncated is NaN"),
        ("a text as success", "the success in info is <U2"),
        ("infinite from reset", "the observation after reset is not finite"),
    ],
)
def test_the_failure_says_what_was_given_and_what_was_expected(name: str, message: str) -> None:
    with pytest.raises(EnvironmentFailure, match=message):
        Rollout(scripted_suite(name), [0], copies=1, seed=0).collect(None, 0, 3)


def test_a_constructor_and_a_close_that_raise_are_named_before_anything_runs() -> None:
    with pytest.raises(EnvError, match="'raises at once' cannot be built: RuntimeError: no licence"):
        scripted_suite("raises at once")
    with pytest.raises(EnvError, match="'raises in close' cannot be built: RuntimeError: the port is gone"):
        scripted_suite("sound", "raises in close")


def test_a_close_that_raises_later_keeps_no_neighbour_open() -> None:
    rollout = Rollout(scripted_suite("raises in a late close", "wider"), [0, 1], copies=2, seed=0)
    rollout.collect(None, 0, 2)
    environments = [at.environment.simulator for at in rollout._streams.values()]
    with pytest.raises(EnvironmentFailure, match=r"late close' failed \(copy 0, .*the port is gone"):
        rollout.close()
    assert [environment.closed for environment in environments] == [True] * 4
