from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mtrl_surgery.reports.intervals import Interval, wilson


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
