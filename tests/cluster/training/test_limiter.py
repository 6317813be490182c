"""The limiter: exact counts, never ahead of the data, and the way back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import ClusterError
from cluster.training.limiter import UpdateLimiter

RATIOS = st.fractions(min_value=0, max_value=20, max_denominator=50)


@given(RATIOS, st.integers(0, 500), st.booleans(), st.integers(0, 3000))
def test_updates_owed_is_exactly_the_ratio_after_the_warm_up(
    ratio: Fraction, warmup: int, burst: bool, steps: int
) -> None:
    owed = UpdateLimiter(ratio, warmup, burst).updates_owed(steps)
    if steps <= warmup:
        assert owed == 0
    else:
        paid = ratio * (steps if burst else steps - warmup)
        assert owed <= paid < owed + 1


@given(RATIOS, st.integers(0, 100), st.booleans(), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_any_way_of_cutting_the_steps_does_the_same_updates(
    ratio: Fraction, warmup: int, burst: bool, chunks: list[int]
) -> None:
    limiter, steps = UpdateLimiter(ratio, warmup, burst), 0
    for chunk in chunks:
        steps += chunk
        limiter.record(limiter.due(steps), steps)
        assert limiter.due(steps) == 0
    assert limiter.updates == UpdateLimiter(ratio, warmup, burst).updates_owed(sum(chunks))


@given(RATIOS.filter(lambda ratio: ratio > 0), st.integers(0, 200), st.booleans(), st.integers(0, 2000), st.data())
def test_steps_covered_is_the_most_steps_that_owe_nothing_more(
    ratio: Fraction, warmup: int, burst: bool, steps: int, data: st.DataObject
) -> None:
    limiter = UpdateLimiter(ratio, warmup, burst)
    limiter.record(data.draw(st.integers(0, limiter.updates_owed(steps))), steps)
    covered = limiter.steps_covered()
    assert covered is not None
    assert limiter.updates_owed(covered) <= limiter.updates < limiter.updates_owed(covered + 1)


def test_without_a_ratio_nothing_is_ever_owed() -> None:
    limiter = UpdateLimiter(0)
    assert limiter.updates_owed(10**9) == 0
    assert limiter.steps_covered() is None


def test_a_float_counts_as_the_decimal_it_prints() -> None:
    assert UpdateLimiter(0.1).updates_owed(10**15) == 10**14


def test_more_updates_than_are_paid_for_are_refused() -> None:
    limiter = UpdateLimiter(1, warmup_steps=10)
    limiter.record(5, 15)
    with pytest.raises(ClusterError, match="5 \\+ 1 updates exceed the 5"):
        limiter.record(1, 15)


@pytest.mark.parametrize(("ratio", "warmup"), [(-1, 0), ("nan", 0), (float("inf"), 0), (1, -1)])
def test_senseless_limits_are_refused(ratio: float | str, warmup: int) -> None:
    with pytest.raises(ClusterError, match=r"updates_per_step|warmup_steps"):
        UpdateLimiter(ratio, warmup)


def test_a_checkpoint_brings_back_the_count_and_refuses_another_ratio() -> None:
    limiter = UpdateLimiter("1/3", 5)
    limiter.record(4, 17)
    again = UpdateLimiter("1/3", 5)
    again.load_state_dict(limiter.state_dict())
    assert again.updates == 4
    with pytest.raises(ClusterError, match="ratio=1/3, this run has 1/2"):
        UpdateLimiter("1/2", 5).load_state_dict(limiter.state_dict())
