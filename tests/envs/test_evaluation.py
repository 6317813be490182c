from __future__ import annotations

import gc

import numpy as np
import pytest

from envs import evaluation
from envs.build import build_suite
from envs.config import EnvConfig, EnvError
from envs.errors import EnvironmentFailure
from envs.evaluation import PROTOCOLS, evaluate_task
from envs.rollout import Rollout
from tests.envs.experts import Experts
from tests.envs.test_rollout import assert_same, noisy
from tests.envs.toys import classic_suite, metaworld_suite, toy_suite


def still(task: int, obs_NO: np.ndarray) -> np.ndarray:
    return np.zeros((1, 1), np.float32)


def pushing(task: int, obs_NO: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(obs_NO[:, 1:2]))


def test_the_outcome_is_a_pure_function_of_policy_and_seed() -> None:
    suite = classic_suite()
    first = evaluate_task(suite, 1, pushing, 5, "suite", seed=3)
    evaluate_task(suite, 1, still, 2, "suite", seed=9)
    assert evaluate_task(suite, 1, pushing, 5, "suite", seed=3) == first
    assert evaluate_task(classic_suite(), 1, pushing, 5, "suite", seed=3) == first
    assert evaluate_task(suite, 1, pushing, 5, "suite", seed=4).returns != first.returns
    assert evaluate_task(suite, 1, still, 5, "suite", seed=3).returns != first.returns


def test_an_episode_does_not_depend_on_how_many_are_played() -> None:
    suite = classic_suite()
    few, many = (evaluate_task(suite, 0, still, episodes, "suite", seed=0) for episodes in (2, 5))
    assert many.returns[:2] == few.returns and len(set(many.returns)) == 5


def test_evaluation_neither_touches_nor_advances_training() -> None:
    suite = classic_suite()
    evaluated, undisturbed = (Rollout(suite, [0, 1], 2, seed=0) for _ in range(2))
    for index in range(3):
        assert_same(evaluated.collect(noisy, index, 30), undisturbed.collect(noisy, index, 30))
        for task in (0, 1):
            evaluate_task(suite, task, still, 2, "suite", seed=0)


def test_evaluating_metaworld_leaves_training_alone() -> None:
    suite = metaworld_suite("push-v3", horizon=12)
    evaluated, undisturbed = (Rollout(suite, [0], 1, seed=0) for _ in range(2))
    for index in range(2):
        assert_same(evaluated.collect(noisy, index, 8), undisturbed.collect(noisy, index, 8))
        evaluate_task(suite, 0, Experts(suite), 2, "suite", seed=0)


def test_every_episode_counts_so_short_ones_are_not_preferred() -> None:
    outcome = evaluate_task(toy_suite("lengths"), 0, still, 400, "suite", seed=0)
    assert outcome.episodes == len(outcome.lengths) == len(outcome.returns) == 400
    # Lengths are uniform over 2..11; an evaluation that took the first to finish would lean to the short ones.
    assert np.mean(outcome.lengths) == pytest.approx(6.5, abs=0.5)
    assert outcome.successes_any == outcome.successes_last == sum(length > 6 for length in outcome.lengths)


def test_success_at_any_step_and_at_the_last_are_told_apart_and_cut_nothing() -> None:
    outcome = evaluate_task(toy_suite("succeeds", horizon=9), 0, still, 4, "suite", seed=0)
    assert (outcome.successes_any, outcome.successes_last, outcome.lengths) == (4, 0, [9] * 4)
    outcome = evaluate_task(toy_suite("succeeds", horizon=3), 0, still, 4, "suite", seed=0)
    assert (outcome.successes_any, outcome.successes_last) == (4, 4)


def test_goals_are_taken_in_turn() -> None:
    suite = metaworld_suite("reach-v3", horizon=3, num_goals=3)
    outcome = evaluate_task(suite, 0, Experts(suite), 7, "suite", seed=0)
    assert outcome.goals == [0, 1, 2, 0, 1, 2, 0]
    assert outcome.returns[:3] == outcome.returns[3:6] and len(set(outcome.returns[:3])) == 3
    assert (outcome.task, outcome.name) == (0, "reach-v3")


def test_the_published_protocols_have_their_own_lengths() -> None:
    suite = metaworld_suite("reach-v3", horizon=7)
    mtrl = evaluate_task(suite, 0, Experts(suite), 10, "mtrl", seed=0)
    assert (mtrl.episodes, mtrl.lengths, mtrl.goals) == (1, [150], [0])
    plus = evaluate_task(suite, 0, Experts(suite), 1, "metaworld_plus", seed=0)
    assert plus.lengths == [500]
    assert evaluate_task(suite, 0, Experts(suite), 1, "suite", seed=0).lengths == [7]
    assert evaluate_task(classic_suite(horizon=20), 0, still, 1, "metaworld_plus", seed=0).lengths == [200]


def test_simulators_are_reused_and_go_with_their_suite() -> None:
    gc.collect()
    before = len(evaluation._simulators)
    suite = classic_suite()
    for _ in range(2):
        evaluate_task(suite, 0, still, 1, "suite", seed=0)
    assert len(evaluation._simulators) == before + 1 and len(evaluation._simulators[suite]) == 1
    del suite
    gc.collect()
    assert len(evaluation._simulators) == before


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(EnvError, match=f"'mtrll'; did you mean 'mtrl'\\? choices: {', '.join(PROTOCOLS)}"):
        evaluate_task(classic_suite(), 0, still, 1, "mtrll", seed=0)
    with pytest.raises(EnvError, match="episodes = 0"):
        evaluate_task(classic_suite(), 0, still, 0, "suite", seed=0)
    with pytest.raises(ValueError, match=r"outside \[-1, 1\] for task 'Pendulum-v1'"):
        evaluate_task(classic_suite(), 0, lambda task, obs: np.full((1, 1), np.nan), 1, "suite", seed=0)


def test_a_failing_simulator_is_named() -> None:
    with pytest.raises(EnvironmentFailure, match=r"'breaks' failed .*episode 1, step 4.*in evaluation: ZeroDivision"):
        evaluate_task(toy_suite("breaks"), 0, still, 3, "suite", seed=0)


@pytest.mark.parametrize("name", ["reach-v3", "drawer-close-v3", "window-open-v3"])
def test_scripted_experts_succeed(name: str) -> None:
    suite = metaworld_suite(name, horizon=120)
    outcome = evaluate_task(suite, 0, Experts(suite), 3, "suite", seed=0)
    assert outcome.successes_any == outcome.episodes == 3


@pytest.mark.slow
def test_scripted_experts_reach_their_known_rates_on_mt10() -> None:
    suite = build_suite(EnvConfig())
    outcomes = [evaluate_task(suite, task, Experts(suite), 10, "metaworld_plus", 0) for task in range(10)]
    any_rate = sum(outcome.successes_any for outcome in outcomes) / 100
    last_rate = sum(outcome.successes_last for outcome in outcomes) / 100
    assert any_rate >= 0.95 and 0.6 <= last_rate <= 0.9
