"""Wilson's intervals, summaries of a run's curve, and spreads over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mtrl_surgery.reports.statistics import (
    SUMMARIES,
    Interval,
    Summary,
    spread,
    summarise,
    title,
    wilson,
)

NAN = math.nan
SCORES_TRK = np.array(
    [
        [[0.1, 0.9], [0.5, 0.5], [NAN, NAN]],
        [[0.8, 0.6], [0.7, 0.1], [NAN, NAN]],
        [[0.5, 0.7], [1.0, NAN], [NAN, NAN]],
        [[0.6, 0.6], [NAN, NAN], [NAN, NAN]],
    ]
)


def test_mean_and_standard_error() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert found.mean == 3 and found.seeds == 3
    assert found.error == pytest.approx(np.std([1, 2, 6], ddof=1) / math.sqrt(3))


def test_one_seed_has_no_error_and_none_no_mean() -> None:
    assert spread([4.0])[0] == 4 and math.isnan(spread([4.0]).error)
    assert math.isnan(spread([]).mean) and spread([]).seeds == 0


def test_a_diverged_seed_is_not_left_out() -> None:
    found = spread([1.0, math.nan])
    assert math.isnan(found.mean) and math.isnan(found.error) and found.seeds == 2


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [("final", [0.6, 0.6], [0.7, 0.1]), ("last", [0.55, 0.65], [0.6, 0.3]), ("max", [0.8, 0.6], [0.5, 0.5])],
)
def test_each_summary(how: Summary, first: list[float], second: list[float]) -> None:
    found_RK = summarise(SCORES_TRK, how, last=2)
    np.testing.assert_allclose(found_RK[:2], [first, second])
    assert np.isnan(found_RK[2]).all()


def test_max_is_one_evaluation_and_not_each_tasks_best() -> None:
    assert summarise(SCORES_TRK[:, :1], "max").tolist() != SCORES_TRK[:, :1].max(0).tolist()


def test_a_run_with_fewer_evaluations_counts_all() -> None:
    np.testing.assert_allclose(summarise(SCORES_TRK[:, :1], "last", last=99)[0], SCORES_TRK[:, 0].mean(0))


def test_each_has_its_own_name() -> None:
    assert len({title(how) for how in SUMMARIES}) == len(SUMMARIES) and "7" in title("last", 7)


def test_what_is_no_summary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"summary=best: choices: final, last, max"):
        summarise(SCORES_TRK, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="last=0 must be at least 1"):
        summarise(SCORES_TRK, "last", last=0)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(hits: int, misses: int, confidence: float) -> None:
    low, high = wilson(hits, hits + misses, confidence)
    if hits + misses == 0:
        assert np.isnan(low) and np.isnan(high)
        return
    theirs = binomtest(hits, hits + misses).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose((low, high), (theirs.low, theirs.high), atol=1e-12)
    assert 0 <= low <= hits / (hits + misses) <= high <= 1


def test_wilson_of_arrays() -> None:
    low, high = wilson(np.array([[0, 5], [10, 10]]), np.array([10, 10]))
    assert low.shape == high.shape == (2, 2)
    assert low[0, 0] == 0 and high[1].tolist() == [1, 1]
    np.testing.assert_allclose(1 - low[0, 1], high[0, 1])


@pytest.mark.parametrize(("counts", "message"), [((11, 10), "at most the episodes"), ((-1, 10), "at least 0")])
def test_impossible_counts_are_refused(counts: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wilson(*counts)


def test_confidence_is_a_probability() -> None:
    with pytest.raises(ValueError, match=r"confidence=95 must be above 0 and below 1"):
        wilson(1, 2, 95)


def test_an_interval_without_ends_is_not_known() -> None:
    assert Interval(0.5, 0.4, 0.6).known and not Interval(0.5, float("nan"), float("nan")).known
