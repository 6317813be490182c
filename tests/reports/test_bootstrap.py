"""Statistics over runs x tasks, against scipy and against the definitions in plain loops."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mtrl_surgery.reports.bootstrap import (
    AGGREGATES,
    curve,
    difference,
    interval,
    iqm,
    mean,
    median,
    performance_profile,
    probability_of_improvement,
    resamples,
)

SCORES_RK = np.array([[0.1, 0.9, 0.5], [0.3, 0.7, 0.5], [0.2, 1.0, 0.4], [0.6, 0.8, 0.0], [0.0, 0.95, 0.55]])
OTHERS_SK = np.array([[0.2, 0.6, 0.5], [0.1, 0.7, 0.1], [0.2, 0.5, 0.3]])

cubes = arrays(
    np.float64,
    st.tuples(st.integers(1, 7), st.integers(1, 5)),
    elements=st.integers(0, 20).map(lambda count: count / 20),
)


@given(cubes)
def test_the_interquartile_mean_is_scipys_trimmed_mean(scores_RK: np.ndarray) -> None:
    assert iqm(scores_RK) == pytest.approx(stats.trim_mean(scores_RK, 0.25, axis=None), abs=1e-12)


def loop_draws(scores: list[list[float]], statistic, draws: int, seed: int) -> list[float]:
    """The stratified bootstrap of rliable by its definition: for every task, runs with replacement."""
    source, tasks = random.Random(seed), len(scores[0])
    found = []
    for _ in range(draws):
        drawn = [[scores[source.randrange(len(scores))][task] for task in range(tasks)] for _ in scores]
        found.append(statistic(drawn))
    return found


def loop_iqm(scores: list[list[float]]) -> float:
    flat = sorted(value for row in scores for value in row)
    cut = int(0.25 * len(flat))
    return math.fsum(flat[cut : len(flat) - cut]) / (len(flat) - 2 * cut)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_stratified_interval_is_that_of_a_plain_loop(confidence: float) -> None:
    found = interval(SCORES_RK, iqm, confidence, draws=20_000)
    assert found.value == pytest.approx(loop_iqm(SCORES_RK.tolist()))
    drawn = loop_draws(SCORES_RK.tolist(), loop_iqm, 4_000, seed=1)
    tail = 50 * (1 - confidence)
    np.testing.assert_allclose(found[1:], np.percentile(drawn, [tail, 100 - tail]), atol=0.012)


def test_frozen_interval() -> None:
    """Of `loop_draws(SCORES_RK, loop_iqm, 400_000, seed=0)`."""
    found = interval(SCORES_RK, iqm, draws=50_000)
    np.testing.assert_allclose(found, (0.5055555555555555, 0.37777777777777777, 0.6), atol=0.006)


def test_one_task_is_scipys_percentile_bootstrap() -> None:
    scores_R1 = np.random.default_rng(3).random((12, 1))
    theirs = stats.bootstrap((scores_R1[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=1)
    ours = interval(scores_R1, mean, draws=20_000)
    np.testing.assert_allclose(ours[1:], theirs.confidence_interval, atol=0.006)


@settings(max_examples=30, deadline=None)
@given(cubes, st.sampled_from(sorted(AGGREGATES)))
def test_an_interval_lies_within_the_scores_and_repeats(scores_RK: np.ndarray, name: str) -> None:
    found = interval(scores_RK, AGGREGATES[name], draws=50)
    assert scores_RK.min() - 1e-12 <= found.value <= scores_RK.max() + 1e-12
    if len(scores_RK) == 1:
        assert not found.known, "one run has no spread to show"
        return
    assert scores_RK.min() - 1e-12 <= found.low <= found.high <= scores_RK.max() + 1e-12
    assert found == interval(scores_RK, AGGREGATES[name], draws=50), "the same seed, the same interval"
    shifted = interval(scores_RK + 2, AGGREGATES[name], draws=50)
    np.testing.assert_allclose(shifted, np.array(found) + 2, atol=1e-9)


def test_strata_are_kept() -> None:
    """Two tasks without any spread between runs: so has the interval none, however far the tasks are apart."""
    assert interval(np.array([[0.0, 1.0]] * 6), mean) == (0.5, 0.5, 0.5)
    chosen_DRK = resamples(5, 3, draws=4000)
    assert chosen_DRK.shape == (4000, 5, 3) and chosen_DRK.min() == 0 and chosen_DRK.max() == 4
    correlated = np.corrcoef(chosen_DRK[:, 0, 0], chosen_DRK[:, 0, 1])[0, 1]
    assert abs(correlated) < 0.05, "each task has its own draw"


def test_nothing_and_nan_have_no_interval() -> None:
    assert all(math.isnan(end) for end in interval(np.empty((0, 3))))
    assert all(math.isnan(end) for end in interval(np.array([[0.1], [math.nan]])))


def test_median_is_over_tasks_of_means_over_runs() -> None:
    assert median(SCORES_RK) == pytest.approx(np.median(SCORES_RK.mean(0)))


def test_a_curve_is_an_interval_at_every_time() -> None:
    rng = np.random.default_rng(0)
    scores_TRK = rng.random((6, 4, 3))
    scores_TRK[4:, 3] = np.nan  # a run that stopped early
    scores_TRK[5, 1:] = np.nan  # one run left
    scores_TRK[1, 2, 0] = np.nan  # a task is missing, so the run does not count there
    values_T, low_T, high_T = curve(scores_TRK, iqm, draws=500)
    for time, runs in enumerate([[0, 1, 2, 3], [0, 1, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2], [0]]):
        expected = interval(scores_TRK[time, runs], iqm, draws=500)
        np.testing.assert_allclose((values_T[time], low_T[time], high_T[time]), expected)
    assert np.isnan(low_T[5]) and not np.isnan(values_T[5])
    nothing = curve(np.full((2, 3, 1), np.nan))
    assert all(np.isnan(part).all() for part in nothing)


def test_performance_profile_counts_what_is_above() -> None:
    thresholds = np.linspace(0, 1, 21)
    share, low, high = performance_profile(SCORES_RK, thresholds, draws=20_000)
    flat = SCORES_RK.ravel().tolist()
    assert share.tolist() == [sum(value > bound for value in flat) / len(flat) for bound in thresholds.tolist()]
    for place in (3, 11, 17):
        bound = float(thresholds[place])
        of = lambda drawn, bound=bound: sum(value > bound for row in drawn for value in row) / len(flat)  # noqa: E731
        drawn = loop_draws(SCORES_RK.tolist(), of, 3_000, seed=place)
        np.testing.assert_allclose((low[place], high[place]), np.percentile(drawn, [2.5, 97.5]), atol=0.034)
    assert np.all(np.diff(share) <= 0) and np.all(low <= share) and np.all(share <= high)
    assert np.isnan(performance_profile(SCORES_RK[:1], thresholds)[1]).all()
    with pytest.raises(ValueError, match="must not fall"):
        performance_profile(SCORES_RK, thresholds[::-1])


def loop_improvement(ours: list[list[float]], theirs: list[list[float]]) -> float:
    tasks = []
    for task in range(len(ours[0])):
        won = [1.0 if a[task] > b[task] else 0.5 if a[task] == b[task] else 0.0 for a in ours for b in theirs]
        tasks.append(sum(won) / len(won))
    return sum(tasks) / len(tasks)


def test_probability_of_improvement() -> None:
    found = probability_of_improvement(SCORES_RK, OTHERS_SK, draws=20_000)
    assert found.value == pytest.approx(loop_improvement(SCORES_RK.tolist(), OTHERS_SK.tolist()))
    statistics = [stats.mannwhitneyu(SCORES_RK[:, task], OTHERS_SK[:, task]).statistic / (5 * 3) for task in range(3)]
    assert found.value == pytest.approx(np.mean(statistics))
    source, drawn = random.Random(5), []
    for _ in range(3_000):
        ours, theirs = (
            [[rows[source.randrange(len(rows))][task] for task in range(3)] for _ in rows]
            for rows in (SCORES_RK.tolist(), OTHERS_SK.tolist())
        )
        drawn.append(loop_improvement(ours, theirs))
    np.testing.assert_allclose(found[1:], np.percentile(drawn, [2.5, 97.5]), atol=0.03)


@settings(max_examples=30, deadline=None)
@given(cubes, st.integers(1, 4), st.integers(0, 99))
def test_who_wins_is_the_other_way_round_for_the_other(ours_RK: np.ndarray, others: int, seed: int) -> None:
    theirs_SK = np.random.default_rng(seed).integers(0, 5, (others, ours_RK.shape[1])) / 4
    one = probability_of_improvement(ours_RK, theirs_SK, draws=20)
    other = probability_of_improvement(theirs_SK, ours_RK, draws=20)
    assert one.value + other.value == pytest.approx(1)
    assert probability_of_improvement(ours_RK, ours_RK, draws=5).value == pytest.approx(0.5)


def test_pairing_takes_what_a_seed_does_to_both_out_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    luck_R1 = rng.normal(0, 0.2, (10, 1))
    theirs = 0.5 + luck_R1 + rng.normal(0, 0.01, (10, 4))
    ours = theirs + 0.05
    paired, unpaired = (difference(ours, theirs, mean, paired=paired) for paired in (True, False))
    np.testing.assert_allclose(paired, (0.05, 0.05, 0.05), atol=1e-12)
    assert unpaired.value == pytest.approx(0.05) and unpaired.low < 0 < unpaired.high
    with pytest.raises(ValueError, match=r"\(10, 4\) and \(9, 4\)"):
        difference(ours, theirs[:9], mean, paired=True)
    assert not difference(ours[:1], theirs[:1], mean).known
