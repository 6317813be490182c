"""Meta-World itself: its goals, and the claim that a reset clears everything."""

from __future__ import annotations

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs import metaworld_suite as module
from envs.metaworld_suite import TASK_LISTS, MetaWorldEnvironment
from envs.suite import TaskEnvironment
from tests.envs.experts import expert_action
from tests.envs.toys import metaworld_suite

SEED = np.random.SeedSequence(0)
HARD = ("pick-place-v3", "push-v3", "peg-insert-side-v3", "door-open-v3", "drawer-open-v3", "handle-pull-v3")


def build(name: str, reward_version: str = "v2", goal_seed: int = 0) -> MetaWorldEnvironment:
    return MetaWorldEnvironment(name, reward_version, 500, goal_seed)


def play(environment: TaskEnvironment, goal: int, actions_TA: np.ndarray) -> list[object]:
    """Everything an episode shows, as bits."""
    seen: list[object] = [environment.reset(SEED, goal).tobytes()]
    for action_A in actions_TA:
        step = environment.step(action_A)
        seen.append((step.obs_O.tobytes(), step.reward, step.success))
    return seen


def expert_actions(environment: TaskEnvironment, name: str, goal: int, steps: int) -> np.ndarray:
    """A noisy expert's actions, so that objects are touched, lifted and dropped."""
    noise_TA = np.random.default_rng(0).normal(0, 0.1, (steps, 4)).astype(np.float32)
    obs_O, actions = environment.reset(SEED, goal), []
    for noise_A in noise_TA:
        actions.append(np.clip(expert_action(name, obs_O) + noise_A, -1, 1))
        obs_O = environment.step(actions[-1]).obs_O
    return np.stack(actions)


def assert_reset_clears_everything(name: str, reward_version: str, steps: int) -> None:
    fresh, used = build(name, reward_version), build(name, reward_version)
    actions_TA = expert_actions(used, name, 3, steps)
    play(used, 7, np.random.default_rng(1).uniform(-1, 1, (steps // 2, 4)).astype(np.float32))
    play(used, 3, actions_TA[: steps // 3])
    assert play(used, 3, actions_TA) == play(fresh, 3, actions_TA), name
    fresh.close()
    used.close()


@pytest.mark.parametrize("name", HARD)
def test_an_episode_does_not_depend_on_what_the_simulator_did_before(name: str) -> None:
    assert_reset_clears_everything(name, "v2", steps=45)


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
@pytest.mark.parametrize("name", TASK_LISTS["mt50"])
def test_no_task_keeps_anything_over_a_reset(name: str, reward_version: str) -> None:
    assert_reset_clears_everything(name, reward_version, steps=150)


def test_a_goal_does_not_depend_on_when_or_by_which_simulator_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []
    for order in ([0, 1, 2], [2, 0, 1]):
        monkeypatch.setattr(module, "_goals", {})
        environment = build("push-v3")
        drawn.append({goal: environment.reset(SEED, goal).tobytes() for goal in order})
        environment.close()
    assert drawn[0] == drawn[1] and len(set(drawn[0].values())) == 3


def test_goals_differ_between_tasks_and_goal_seeds_and_leave_numpys_global_generator_alone() -> None:
    np.random.seed(5)
    # reach and pick-place draw from one and the same box, so equal draws would show.
    goals = set()
    for name, seed in [("reach-v3", 0), ("pick-place-v3", 0), ("reach-v3", 1)]:
        environment = build(name, goal_seed=seed)
        goals |= {environment.reset(SEED, goal)[-3:].tobytes() for goal in (0, 1)}
        environment.close()
    assert len(goals) == 6
    after = np.random.random()
    np.random.seed(5)
    assert after == np.random.random()


def test_the_goal_is_visible_and_stays_for_the_episode() -> None:
    environment = build("reach-v3")
    start_O = environment.reset(SEED, 4)
    assert start_O.dtype == np.float32 and start_O.shape == (39,) and start_O[-3:].any()
    step = environment.step(np.ones(4, np.float32))
    np.testing.assert_array_equal(step.obs_O[-3:], start_O[-3:])
    np.testing.assert_array_equal(step.obs_O[18:36], start_O[:18])
    assert not step.terminated and not step.truncated


def test_a_step_is_metaworlds_own() -> None:
    environment = build("drawer-open-v3")
    environment.reset(SEED, 2)
    raw = ALL_V3_ENVIRONMENTS["drawer-open-v3"](reward_function_version="v2")
    raw.set_task(environment._task(2))
    raw.reset()
    for action_A in np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32):
        observation, reward, _, _, info = raw.step(action_A)
        step = environment.step(action_A)
        np.testing.assert_array_equal(step.obs_O, observation.astype(np.float32))
        assert (step.reward, step.success) == (reward, info["success"] > 0)


def test_reward_versions_differ() -> None:
    action_A = np.zeros(4, np.float32)
    rewards = []
    for version in ("v1", "v2"):
        environment = build("drawer-open-v3", version)
        environment.reset(SEED, 0)
        rewards.append(environment.step(action_A).reward)
    assert rewards[0] != rewards[1]


def test_a_horizon_beyond_metaworlds_own_500_works() -> None:
    environment = metaworld_suite("reach-v3", horizon=510).make(0)
    environment.reset(SEED, 0)
    action_A = np.zeros(4, np.float32)
    assert [environment.step(action_A).truncated for _ in range(510)] == [False] * 509 + [True]
