from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from envs.build import build_suite
from envs.config import EnvConfig, EnvError

MT10 = (
    "reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close", "button-press-topdown",
    "peg-insert-side", "window-open", "window-close",
)  # fmt: skip


def test_mt10_is_the_default_in_the_order_of_its_one_hot() -> None:
    suite = build_suite(EnvConfig())
    assert suite.tasks == tuple(f"{name}-v3" for name in MT10)
    assert (suite.observation_dim, suite.action_dim, suite.horizon, suite.num_goals) == (39, 4, 500, 50)
    np.testing.assert_array_equal(suite.action_mask_KA, np.ones((10, 4), np.float32))


def test_the_named_lists_have_their_sizes_and_mt25_extends_mt10() -> None:
    mt10, mt25, mt50 = (build_suite(EnvConfig(name=name)).tasks for name in ("mt10", "mt25", "mt50"))
    assert [len(set(tasks)) for tasks in (mt10, mt25, mt50)] == [10, 25, 50]
    assert mt25[:10] == mt10 and set(mt25) < set(mt50) and mt50[:10] != mt10


def test_tasks_of_ones_own_choice_keep_their_order() -> None:
    assert build_suite(EnvConfig(name="mt1", tasks=["sweep-v3"])).tasks == ("sweep-v3",)
    chosen = ["window-open-v3", "assembly-v3", "reach-v3"]
    assert build_suite(EnvConfig(name="custom", tasks=chosen)).tasks == tuple(chosen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["rech-v3"]}, "unknown task 'rech-v3'; did you mean 'reach-v3'\\? choices: assembly-v3, "),
        ({"name": "mt11"}, "env.tasks is empty: .*'mt11'; did you mean 'mt10'\\? choices: mt10, mt25, mt50"),
        ({"kind": "metawrld"}, "unknown env.kind 'metawrld'; did you mean 'metaworld'\\?"),
        ({"reward_version": "v3"}, "unknown env.reward_version 'v3'.*choices: v1, v2"),
        ({"horizon": 0}, "env.horizon = 0 must be at least 1"),
        ({"num_goals": 0}, "env.num_goals = 0"),
        ({"copies": -1}, "env.copies = -1"),
        ({"goal_seed": -1}, "env.goal_seed = -1"),
        ({"tasks": ["reach-v3", "push-v3", "reach-v3"]}, "env.tasks names 'reach-v3' more than once"),
        ({"kind": "gymnasium"}, "env.tasks is empty"),
        ({"kind": "gymnasium", "tasks": ["Pendlum-v1"]}, "'Pendlum-v1'; did you mean 'Pendulum-v1'\\?"),
        (
            {"kind": "gymnasium", "tasks": ["CartPole-v1"]},
            "action space Discrete\\(2\\); only a Box of floats",
        ),
        ({"kind": "factory", "tasks": ["a"]}, "env.factory = None"),
        (
            {"kind": "gymnasium", "tasks": ["a"], "factory": "m:f"},
            "env.factory = 'm:f' with env.kind = 'gymnasium'",
        ),
        ({"kind": "factory", "tasks": ["a"], "factory": "no_such:make"}, "'no_such:make' must name"),
        ({"kind": "factory", "tasks": ["a"], "factory": "tests.envs.toys:mke"}, "must name .* 'mke'"),
        ({"kind": "factory", "tasks": ["a"], "factory": "builtins:str"}, "gave a str for task 'a'"),
    ],
)
def test_a_wrong_option_is_refused_with_its_key_value_and_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        build_suite(EnvConfig(**options))


def test_a_suite_builds_no_simulator_and_survives_pickling() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SawyerXYZEnv, "__init__", lambda *_, **__: pytest.fail("a simulator was built"))
        suite = build_suite(EnvConfig(name="mt50"))
    data = pickle.dumps(suite)
    assert len(data) < 10_000
    copy = pickle.loads(data)
    assert copy.tasks == suite.tasks
    environment = copy.make(0)
    assert environment.reset(np.random.SeedSequence(0), 0).shape == (39,)
    environment.close()


def test_a_suite_does_not_follow_later_changes_of_its_config() -> None:
    config = EnvConfig(kind="gymnasium", tasks=["Pendulum-v1"], horizon=5)
    suite = build_suite(config)
    config.tasks[0], config.horizon = "CartPole-v1", 9
    environment = suite.make(0)
    environment.reset(np.random.SeedSequence(0), None)
    assert [environment.step(np.zeros(1, np.float32)).truncated for _ in range(5)] == [False] * 4 + [True]
