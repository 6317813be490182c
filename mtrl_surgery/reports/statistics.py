"""What is said of runs in numbers: intervals, one number a task from a curve, means over seeds, ranks.

Intervals are Wilson's for a rate from counts (Wilson, "Probable Inference, the Law of Succession, and Statistical
Inference", JASA 22, 1927), and Student's t around an estimate with a standard error.

The literature summarises a run's curve in three ways and often does not say which; ours have names:

- `final`: the last evaluation.
- `last`: the mean of the last k evaluations, which forgives a bad last moment.
- `max`: the evaluation whose mean over tasks is the greatest. It is chosen by the very scores it reports, so it is
  biased upwards, the more so the fewer the episodes and the more the evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Limits = tuple[float, float]
ANYWHERE: Limits = (-math.inf, math.inf)
RATE: Limits = (0.0, 1.0)


class Interval(NamedTuple):
    """An estimate and what it may as well be.

    Attributes:
        value: The estimate; NaN where there is none.
        low: The lower end; NaN where the data tell nothing of the spread (one run, say).
        high: The upper end.
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether it has two ends."""
        return not (math.isnan(self.low) or math.isnan(self.high))


NOTHING = Interval(math.nan, math.nan, math.nan)


def wilson(successes: ArrayLike, episodes: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval for success rates, without continuity correction.

    Unlike the usual rate plus or minus two standard errors it stays inside [0, 1], and has a width at 0 and 1 too.

    Args:
        successes: Counts of any shape, 0 to `episodes`.
        episodes: Counts that broadcast with them; no episode gives NaN.
        confidence: Of the two-sided interval, in (0, 1).

    Returns:
        The lower and the upper ends.

    Raises:
        ValueError: A confidence or a count out of range.
    """
    check_confidence(confidence)
    hits, tries = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(episodes, np.float64))
    if bool(np.any(hits < 0)) or bool(np.any(hits > tries)):
        raise ValueError("successes must be at least 0 and at most the episodes")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / tries
        middle = (rate + z * z / (2 * tries)) / (1 + z * z / tries)
        half = z / (1 + z * z / tries) * np.sqrt(rate * (1 - rate) / tries + z * z / (4 * tries * tries))
        # At 0 and at `episodes` one end is the rate itself; rounding must not move it past.
        low = np.where(hits == 0, 0.0 * rate, np.maximum(middle - half, 0.0))
        high = np.where(hits == tries, rate, np.minimum(middle + half, 1.0))
    return low, high


def student(
    value: ArrayLike, error: ArrayLike, degrees: ArrayLike, confidence: float = 0.95, limits: Limits = ANYWHERE
) -> tuple[Floats, Floats]:
    """Student's t interval: the lower and the upper ends.

    Args:
        value: The estimate.
        error: Its standard error.
        degrees: Degrees of freedom of the error; 0 gives NaN.
        confidence: Of the two-sided interval, in (0, 1).
        limits: Between which the estimate must lie, such as 0 and 1 for a rate.

    Raises:
        ValueError: A confidence out of range.
    """
    check_confidence(confidence)
    half = stdtrit(degrees, (1 + confidence) / 2) * np.asarray(error, np.float64)
    return np.maximum(value - half, limits[0]), np.minimum(value + half, limits[1])


def check_confidence(confidence: float) -> None:
    """Raises ValueError for a confidence that is no probability between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must be above 0 and below 1")


Summary = Literal["final", "last", "max"]
SUMMARIES: tuple[Summary, ...] = get_args(Summary)


def summarise(scores_TRK: Floats, how: Summary, last: int = 5) -> Floats:
    """Every run's score of every task, [run, task].

    Args:
        scores_TRK: Scores by evaluation in order of time, run and task; higher is better. NaN where a run was not
            evaluated; an evaluation counts for a run where it has all tasks.
        how: Which evaluations count.
        last: The k of `last`; of a run with fewer evaluations all count.

    Returns:
        NaN for a run without a whole evaluation.

    Raises:
        ValueError: An unknown summary, or `last` below 1.
    """
    if how not in SUMMARIES:
        raise ValueError(f"summary={how}: choices: {', '.join(SUMMARIES)}")
    if last < 1:
        raise ValueError(f"last={last} must be at least 1")
    _, runs, tasks = scores_TRK.shape
    result_RK = np.full((runs, tasks), np.nan)
    for run in range(runs):
        own_TK = scores_TRK[:, run]
        whole_TK = own_TK[np.isfinite(own_TK).all(1)]
        if not len(whole_TK):
            continue
        if how == "final":
            result_RK[run] = whole_TK[-1]
        elif how == "last":
            result_RK[run] = whole_TK[-last:].mean(0)
        else:
            result_RK[run] = whole_TK[whole_TK.mean(1).argmax()]
    return result_RK


def title(how: Summary, last: int = 5) -> str:
    """What a table calls it."""
    return {"final": "final", "last": f"mean of the last {last}", "max": "max over training"}[how]


def nanmean(values: Floats, axis: int = 0) -> Floats:
    """The mean of the finite values along an axis; NaN where there is none."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis) / there.sum(axis))


class Spread(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: NaN for no value, or where any value is NaN: a seed that diverged is not left out.
        error: The standard error of the mean; NaN below two values.
        seeds: How many values.
    """

    mean: float
    error: float
    seeds: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard error, with n - 1 under the variance."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    error = float(np.std(values, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    return Spread(mean, error, count)
