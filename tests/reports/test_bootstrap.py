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


def loop_draws(scores: list[list[float]], statistic, draws: int, seed: int, stratified: bool = False) -> list[float]:
    """The bootstrap by its definition: whole runs with replacement, or (as rliable does) for every task by itself."""
    source, tasks = random.Random(seed), len(scores[0])
    found = []
    for _ in range(draws):
        if stratified:
            drawn = [[scores[source.randrange(len(scores))][task] for task in range(tasks)] for _ in scores]
        else:
            drawn = [scores[source.randrange(len(scores))] for _ in scores]
        found.append(statistic(drawn))
    return found


def loop_ends(value: float, drawn: list[float], runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t with the draws' deviation, which 1 - 1/R is made up for."""
    error = np.std(drawn) * math.sqrt(runs / (runs - 1))
    low, high = stats.t.interval(confidence, runs - 1, value, error)
    return float(low), float(high)


def loop_iqm(scores: list[list[float]]) -> float:
    flat = sorted(value for row in scores for value in row)
    cut = int(0.25 * len(flat))
    return math.fsum(flat[cut : len(flat) - cut]) / (len(flat) - 2 * cut)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
@pytest.mark.parametrize("stratified", [False, True])
def test_the_interval_is_that_of_a_plain_loop(confidence: float, stratified: bool) -> None:
    found = interval(SCORES_RK, iqm, confidence, draws=20_000, stratified=stratified)
    assert found.value == pytest.approx(loop_iqm(SCORES_RK.tolist()))
    drawn = loop_draws(SCORES_RK.tolist(), loop_iqm, 4_000, seed=1, stratified=stratified)
    np.testing.assert_allclose(found[1:], loop_ends(found.value, drawn, 5, confidence), atol=0.012)


def test_of_a_mean_it_is_students_interval_of_the_runs_means() -> None:
    scores_RK = np.random.default_rng(3).random((12, 4))
    means_R = scores_RK.mean(1)
    theirs = stats.t.interval(0.95, 11, means_R.mean(), stats.sem(means_R))
    np.testing.assert_allclose(interval(scores_RK, mean, draws=20_000)[1:], theirs, atol=0.004)


@pytest.mark.parametrize("effect", [0.0, 0.05])
@pytest.mark.parametrize("runs", [3, 5, 10])
def test_intervals_cover_what_they_say(runs: int, effect: float) -> None:
    """Ten tasks, 50 episodes each, noise 0.05 a task and what a seed does to all: 0.90 at least of 500 intervals.

    The percentiles of the same draws cover 0.73, 0.83 and 0.90 at 3, 5 and 10 runs; task by task 0.58 to 0.76.
    """
    rng, hard_K = np.random.default_rng(runs), np.linspace(0.2, 0.9, 10)

    def sample(count: int) -> np.ndarray:
        rate_RK = hard_K + effect * rng.standard_normal((count, 1)) + 0.05 * rng.standard_normal((count, 10))
        return rng.binomial(50, np.clip(rate_RK, 0, 1)) / 50

    for statistic in (mean, iqm):
        truth = float(np.mean([statistic(sample(runs)) for _ in range(4000)]))
        found = [interval(sample(runs), statistic, draws=200) for _ in range(500)]
        assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.90, statistic


def test_a_difference_covers_too_paired_and_not() -> None:
    rng, hard_K = np.random.default_rng(0), np.linspace(0.2, 0.9, 10)
    for same in (True, False):
        hits = []
        for _ in range(500):
            luck_R1 = 0.05 * rng.standard_normal((2, 5, 1))
            ours = hard_K + luck_R1[0] + 0.05 * rng.standard_normal((5, 10)) + 0.1
            theirs = hard_K + luck_R1[0 if same else 1] + 0.05 * rng.standard_normal((5, 10))
            found = difference(ours, theirs, mean, paired=same, draws=200)
            hits.append(found.low <= 0.1 <= found.high)
        assert np.mean(hits) >= 0.90, same


@settings(max_examples=30, deadline=None)
@given(cubes, st.sampled_from(sorted(AGGREGATES)))
def test_an_interval_holds_its_value_keeps_to_its_limits_and_repeats(scores_RK: np.ndarray, name: str) -> None:
    found = interval(scores_RK, AGGREGATES[name], draws=50)
    assert scores_RK.min() - 1e-12 <= found.value <= scores_RK.max() + 1e-12
    if len(scores_RK) == 1:
        assert not found.known, "one run has no spread to show"
        return
    assert found.low <= found.value <= found.high
    within = interval(scores_RK, AGGREGATES[name], draws=50, limits=(0.0, 1.0))
    assert within == (found.value, max(found.low, 0.0), min(found.high, 1.0))
    assert found == interval(scores_RK, AGGREGATES[name], draws=50), "the same seed, the same interval"
    shifted = interval(scores_RK + 2, AGGREGATES[name], draws=50)
    np.testing.assert_allclose(shifted, np.array(found) + 2, atol=1e-9)


def test_strata_are_kept_where_each_task_has_runs_of_its_own() -> None:
    """Two tasks without any spread between runs: so has the interval none, however far the tasks are apart."""
    assert interval(np.array([[0.0, 1.0]] * 6), mean, stratified=True) == (0.5, 0.5, 0.5)
    chosen_DRK = resamples(5, 3, draws=4000)
    assert chosen_DRK.shape == (4000, 5, 3) and chosen_DRK.min() == 0 and chosen_DRK.max() == 4
    correlated = np.corrcoef(chosen_DRK[:, 0, 0], chosen_DRK[:, 0, 1])[0, 1]
    assert abs(correlated) < 0.05, "each task has its own draw"


def test_what_a_seed_does_to_all_tasks_is_not_averaged_away() -> None:
    luck_R1 = np.random.default_rng(0).normal(0, 0.1, (6, 1))
    together = interval(0.5 + np.repeat(luck_R1, 25, 1), mean)
    one = interval(0.5 + luck_R1, mean)
    apart = interval(0.5 + np.repeat(luck_R1, 25, 1), mean, stratified=True)
    np.testing.assert_allclose(together, one, atol=1e-12)
    assert apart.high - apart.low < 0.3 * (one.high - one.low)


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
        ends = np.clip(loop_ends(float(share[place]), drawn, len(SCORES_RK)), 0, 1)
        np.testing.assert_allclose((low[place], high[place]), ends, atol=0.02)
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
    # Whole runs of one side are redrawn while the other stays; the variances add up, with Welch's degrees of freedom.
    ours, theirs = SCORES_RK.tolist(), OTHERS_SK.tolist()
    variances = [
        np.var(loop_draws(ours, lambda drawn: loop_improvement(drawn, theirs), 3_000, seed=5)) * 5 / 4,
        np.var(loop_draws(theirs, lambda drawn: loop_improvement(ours, drawn), 3_000, seed=6)) * 3 / 2,
    ]
    degrees = sum(variances) ** 2 / (variances[0] ** 2 / 4 + variances[1] ** 2 / 2)
    ends = stats.t.interval(0.95, degrees, found.value, math.sqrt(sum(variances)))
    np.testing.assert_allclose(found[1:], np.clip(ends, 0, 1), atol=0.02)


def test_a_single_run_on_either_side_tells_nothing_of_the_spread() -> None:
    for ours, theirs in ((SCORES_RK, OTHERS_SK[:1]), (SCORES_RK[:1], OTHERS_SK)):
        assert not probability_of_improvement(ours, theirs).known
        assert not difference(ours, theirs).known


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
