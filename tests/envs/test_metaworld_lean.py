"""The simulators that collect are Meta-World's own, to the last bit of what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from scipy.spatial.transform import Rotation

from envs.metaworld_lean import _from_matrix, _Lean, lean
from envs.metaworld_suite import TASK_LISTS, MetaWorldEnvironment
from tests.envs.experts import expert_action

# Two objects; a rotation of a body; one of a geom, and contacts; two sites to be placed; a goal that is a view.
FEW = ("stick-pull-v3", "soccer-v3", "push-v3", "door-lock-v3", "basketball-v3")


def show(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a step gives, as bits."""
    obs_O, reward, terminated, truncated, info = given
    assert obs_O.dtype == np.float64
    facts = {key: np.float64(value).tobytes() for key, value in info.items()}
    return obs_O.tobytes(), np.float64(reward).tobytes(), terminated, truncated, facts


def compare(name: str, reward_version: str, steps: int) -> list[dict[str, Any]]:
    """An expert's noisy episode, then one of random actions with the goal hidden, on both; what both told."""
    original = ALL_V3_ENVIRONMENTS[name]
    pair = [kind(reward_function_version=reward_version) for kind in (original, lean(original))]
    goals = MetaWorldEnvironment(name, reward_version, 500, goal_seed=0)
    rng, infos = np.random.default_rng(0), list[dict[str, Any]]()
    for goal in (0, 1):
        starts = []
        for simulator in pair:
            simulator.set_task(goals._task(goal))
            simulator._partially_observable = goal == 1
            starts.append(simulator.reset()[0])
        assert starts[0].tobytes() == starts[1].tobytes(), name
        obs_O = starts[0]
        for step in range(steps if goal == 0 else steps // 2):
            action_A = rng.normal(0, 0.1, 4) + expert_action(name, obs_O) if goal == 0 else rng.uniform(-1.2, 1.2, 4)
            given, lean_given = [simulator.step(action_A.astype(np.float32)) for simulator in pair]
            assert show(given) == show(lean_given), (name, goal, step)
            obs_O = given[0]
            infos.append(given[-1])
    for simulator in (*pair, goals):
        simulator.close()
    return infos


@pytest.mark.parametrize("name", FEW)
def test_a_lean_simulator_shows_the_bits_of_its_original(name: str) -> None:
    compare(name, "v2", steps=40)


def test_touching_is_seen_as_the_original_sees_it() -> None:
    """By both pads, by one of them and by none."""
    name, seen = "pick-place-v3", set()
    original = ALL_V3_ENVIRONMENTS[name]
    simulator = lean(original)(reward_function_version="v2")
    goals = MetaWorldEnvironment(name, "v2", 500, goal_seed=0)
    simulator.set_task(goals._task(0))
    obs_O = simulator.reset()[0]
    pads = [simulator.data.geom(pad).id for pad in ("leftpad_geom", "rightpad_geom")]
    for step in range(80):
        aside_A = np.array([0.0, 0.0, 0.0, 0.3 * (step % 2)])  # the hand lets go a little every other step
        obs_O = simulator.step((expert_action(name, obs_O) - aside_A).astype(np.float32))[0]
        pairs = [set(pair) for pair in simulator.data.contact.geom.tolist()]
        for geom in set[int]().union(*pairs):
            both = original.touching_object(simulator, geom)
            assert simulator.touching_object(geom) == both
            seen.add((sum({pad, geom} in pairs for pad in pads), bool(both)))
    assert {(2, True), (1, False), (0, False)} <= seen
    simulator.close()
    goals.close()


def test_a_site_is_read_and_placed_where_mujoco_has_it() -> None:
    simulator = lean(ALL_V3_ENVIRONMENTS["reach-v3"])(reward_function_version="v2")
    read = simulator._get_site_pos("goal")
    simulator._set_pos_site("goal", np.array([1.0, 2.0, 3.0]))
    assert simulator.data.site("goal").xpos.tolist() == simulator._get_site_pos("goal").tolist() == [1, 2, 3]
    assert read.tolist() != [1, 2, 3], "what was read is a copy"
    simulator.close()


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
@pytest.mark.parametrize("name", TASK_LISTS["mt50"])
def test_every_lean_simulator_shows_the_bits_of_its_original(name: str, reward_version: str) -> None:
    compare(name, reward_version, steps=200)


def test_no_task_has_an_own_version_of_what_is_replaced() -> None:
    """It would go unheard, and so would a name that Meta-World no longer calls."""
    replaced = {name for name in vars(_Lean) if not name.startswith("__")} - {"_site"}
    for task, original in ALL_V3_ENVIRONMENTS.items():
        assert {name for name in replaced if name in vars(original)} == set(), task
        assert {name for name in replaced if not hasattr(original, name)} == set(), task


def test_metaworlds_own_classes_stay_as_they_are() -> None:
    original = ALL_V3_ENVIRONMENTS["push-v3"]
    before = dict(vars(original)), original._get_quat_objects.__globals__["Rotation"]
    standing_in = lean(original)
    assert issubclass(standing_in, original) and standing_in is lean(original)
    assert (dict(vars(original)), original._get_quat_objects.__globals__["Rotation"]) == before
    assert before[1] is Rotation


def test_a_rotation_of_mujocos_is_read_as_scipy_reads_it() -> None:
    for matrix in Rotation.random(200, rng=np.random.default_rng(0)).as_matrix():
        assert _from_matrix()(matrix).as_quat().tobytes() == Rotation.from_matrix(matrix).as_quat().tobytes()
