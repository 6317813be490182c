from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrl_surgery.reports.statistics import mean_ranks, ranks, spread


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


def test_ties_share_the_smaller_rank_and_nan_is_last() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0], higher_is_better=True) == [1, 4, 1, 3]
    assert ranks([3.0, 1.0, 3.0, 2.0], higher_is_better=False) == [3, 1, 3, 2]
    assert ranks([math.nan, 1.0, 9.0], higher_is_better=True) == [3, 2, 1]
    assert ranks([math.nan, 1.0, 9.0], higher_is_better=False) == [3, 1, 2]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9, unique=True), st.booleans())
def test_without_ties_ranks_are_a_permutation(values: list[float], higher: bool) -> None:
    found = ranks(values, higher)
    assert sorted(found) == list(range(1, len(values) + 1))
    assert values[found.index(1)] == (max(values) if higher else min(values))


def test_mean_ranks_average_over_metrics() -> None:
    assert mean_ranks([[1.0, 2.0, 3.0], [1.0, 2.0, 2.0]], [True, False]) == [2.0, 2.0, 1.5]
    with pytest.raises(ValueError, match="no metric"):
        mean_ranks([], [])
