from __future__ import annotations

import math

import numpy as np
import pytest

from mtrl_surgery.reports.summaries import SUMMARIES, Summary, summarise, title

NAN = math.nan
# [time, run, task]: the second run ends early, and its third evaluation lacks a task; the third was never evaluated.
SCORES_TRK = np.array(
    [
        [[0.1, 0.9], [0.5, 0.5], [NAN, NAN]],
        [[0.8, 0.6], [0.7, 0.1], [NAN, NAN]],
        [[0.5, 0.7], [1.0, NAN], [NAN, NAN]],
        [[0.6, 0.6], [NAN, NAN], [NAN, NAN]],
    ]
)


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
