"""Statistics over runs x tasks, with stratified bootstrap intervals.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv 2108.13264:
the interquartile mean, performance profiles and the probability of improvement. Scores are arrays [run, task] (`R`
runs, `S` those of a second method, `D` draws of the bootstrap); a run's scores of all tasks belong together only where
a function says *paired*. Everything random comes from a seed and is the same whatever was asked before, so results are
kept: a report that is made again, as the dashboard's are, computes what has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.intervals import NOTHING, Floats, Interval, percentiles
from mtrl_surgery.reports.memory import remembered

Indices = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]
"""[..., run, task] -> [...]"""

N = TypeVar("N", bound=np.generic)

DRAWS = 2000
CURVE_DRAWS = 500
_BLOCK = 4_000_000
"""Numbers of a block of draws: a few tens of megabytes, whatever is asked for."""


def iqm(scores_RK: Floats) -> Floats:
    """The interquartile mean over all runs and tasks: a quarter of the scores is cut off at each end (rounded down).

    Args:
        scores_RK: Scores; axes before the last two are kept.
    """
    return _middle_mean(scores_RK.reshape(*scores_RK.shape[:-2], -1))


def mean(scores_RK: Floats) -> Floats:
    """The mean over all runs and tasks; axes before the last two are kept."""
    return np.asarray(scores_RK.mean((-2, -1)))


def median(scores_RK: Floats) -> Floats:
    """The median over tasks of the mean over runs; axes before the last two are kept."""
    return np.asarray(np.median(scores_RK.mean(-2), -1))


AGGREGATES: dict[str, Statistic] = {"iqm": iqm, "mean": mean, "median": median}


@lru_cache(maxsize=8)  # methods of one shape are compared with each other
def resamples(runs: int, tasks: int, draws: int = DRAWS, seed: int = 0) -> Indices:
    """Which run stands in for which: for every task its own draw with replacement, [draw, run, task]; read-only."""
    chosen_DRK = np.random.default_rng(seed).integers(runs, size=(draws, runs, tasks))
    chosen_DRK.flags.writeable = False
    return chosen_DRK


@remembered(2000)
def interval(
    scores_RK: Floats, statistic: Statistic = iqm, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """A statistic with its stratified bootstrap interval: runs are drawn with replacement, task by task.

    One run says nothing of other seeds: its interval's ends are NaN. So are all three where a score is NaN.
    """
    if scores_RK.size == 0:
        return NOTHING
    value = float(statistic(scores_RK))
    if len(scores_RK) < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    found = _drawn(lambda chosen_DRK: statistic(_take(scores_RK, chosen_DRK)), scores_RK.shape, draws, seed)
    low, high = percentiles(found, confidence)
    return Interval(value, float(low), float(high))


def curve(
    scores_TRK: Floats, statistic: Statistic = iqm, confidence: float = 0.95, draws: int = CURVE_DRAWS, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """`interval` at every point of time: values, lower and upper ends, [time] each.

    The draws are the same at all times, so the band is as smooth as its curve.

    Args:
        scores_TRK: NaN where a run was not evaluated; a run counts where it has all tasks.
        statistic: Of the runs that count.
        confidence: Of the band, pointwise.
        draws: Of the bootstrap; 0 for no band.
        seed: Of its random numbers.
    """
    there_TR = np.isfinite(scores_TRK).all(-1)
    value_T, low_T, high_T = (np.full(len(scores_TRK), np.nan) for _ in range(3))
    for pattern_R in np.unique(there_TR, axis=0):  # times with the same runs go in one piece
        times = np.flatnonzero((there_TR == pattern_R).all(1))
        scores = scores_TRK[times][:, pattern_R]
        if not pattern_R.any():
            continue
        value_T[times] = statistic(scores)
        if pattern_R.sum() > 1 and draws:
            low_T[times], high_T[times] = _band(scores, statistic, confidence, draws, seed)
    return value_T, low_T, high_T


@remembered(500)
def _band(scores_TRK: Floats, statistic: Statistic, confidence: float, draws: int, seed: int) -> tuple[Floats, Floats]:
    chosen_DRK = resamples(scores_TRK.shape[1], scores_TRK.shape[2], draws, seed)
    several = max(1, _BLOCK // chosen_DRK.size)
    ends = [
        percentiles(np.moveaxis(statistic(_take(part, chosen_DRK)), 0, -1), confidence)
        for part in (scores_TRK[first : first + several] for first in range(0, len(scores_TRK), several))
    ]
    return np.concatenate([low for low, _ in ends]), np.concatenate([high for _, high in ends])


@remembered(500)
def performance_profile(
    scores_RK: Floats, thresholds_N: Floats, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """The share of runs x tasks whose score is above each threshold, with a pointwise band: [threshold] each.

    The band is NaN for one run.

    Raises:
        ValueError: Thresholds that fall.
    """
    thresholds_N = np.asarray(thresholds_N, np.float64)
    if bool(np.any(np.diff(thresholds_N) < 0)):
        raise ValueError("thresholds must not fall")
    above_NRK = scores_RK > thresholds_N[:, None, None]
    share_N = np.asarray(above_NRK.mean((1, 2)))
    if len(scores_RK) < 2:
        return share_N, np.full_like(share_N, np.nan), np.full_like(share_N, np.nan)
    # All that a draw needs of a score is how many thresholds it is above.
    passed_RK = above_NRK.sum(0)
    drawn_DQ = _take(passed_RK, resamples(scores_RK.shape[0], scores_RK.shape[1], draws, seed)).reshape(draws, -1)
    bins = len(thresholds_N) + 1
    flat = drawn_DQ + bins * np.arange(draws)[:, None]
    histogram_DN = np.bincount(flat.ravel(), minlength=draws * bins).reshape(draws, bins) / drawn_DQ.shape[1]
    # A score that passed n thresholds is above the first n of them.
    shares_DN = np.asarray(histogram_DN[:, ::-1].cumsum(1)[:, ::-1][:, 1:], np.float64)
    low_N, high_N = percentiles(shares_DN, confidence)
    return share_N, low_N, high_N


@remembered(8000)
def probability_of_improvement(
    ours_RK: Floats, theirs_SK: Floats, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """How likely a run of ours beats one of theirs on a task drawn at random; ties count a half.

    The mean over tasks of the Mann-Whitney statistic. Its ends are NaN if both have a single run.
    """
    if not ours_RK.size or not theirs_SK.size:
        return NOTHING
    order_RSK = 0.5 * (np.sign(ours_RK[:, None] - theirs_SK[None]) + 1)  # 1 won, 0.5 tied, 0 lost
    value = float(order_RSK.mean())
    (runs, tasks), others = ours_RK.shape, len(theirs_SK)
    if (runs < 2 and others < 2) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    # A draw is how often each run was drawn: the statistic is bilinear in those counts.
    ours_DRK = _counts(runs, tasks, draws, seed)
    theirs_DSK = _counts(others, tasks, draws, seed + 1)
    found_D = np.einsum("drk,rsk,dsk->d", ours_DRK, order_RSK, theirs_DSK, optimize=True) / (runs * others * tasks)
    low, high = percentiles(found_D, confidence)
    return Interval(value, float(low), float(high))


@remembered(8000)
def difference(
    ours_RK: Floats,
    theirs_SK: Floats,
    statistic: Statistic = iqm,
    paired: bool = False,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """By how much a statistic of ours is above theirs.

    Args:
        ours_RK: Our scores.
        theirs_SK: Theirs, of the same tasks.
        statistic: Of each.
        paired: Row r of both is the same seed, and both are drawn together: what a seed does to both cancels.
        confidence: Of the interval.
        draws: Of the bootstrap.
        seed: Of its random numbers.

    Raises:
        ValueError: Paired scores of different shapes.
    """
    if paired and ours_RK.shape != theirs_SK.shape:
        raise ValueError(f"paired scores have shapes {ours_RK.shape} and {theirs_SK.shape}")
    if not ours_RK.size or not theirs_SK.size:
        return NOTHING
    value = float(statistic(ours_RK) - statistic(theirs_SK))
    if (len(ours_RK) < 2 and len(theirs_SK) < 2) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    ours_D = _drawn(lambda chosen: statistic(_take(ours_RK, chosen)), ours_RK.shape, draws, seed)
    again = seed if paired else seed + 1
    theirs_D = _drawn(lambda chosen: statistic(_take(theirs_SK, chosen)), theirs_SK.shape, draws, again)
    low, high = percentiles(ours_D - theirs_D, confidence)
    return Interval(value, float(low), float(high))


def _drawn(of: Callable[[Indices], Floats], shape: tuple[int, ...], draws: int, seed: int) -> Floats:
    """A number a draw, a block of draws at a time."""
    chosen_DRK = resamples(shape[0], shape[1], draws, seed)
    several = max(1, _BLOCK // max(1, math.prod(shape)))
    return np.concatenate([of(chosen_DRK[first : first + several]) for first in range(0, draws, several)])


def _take(scores_RK: NDArray[N], chosen_DRK: Indices) -> NDArray[N]:
    """Scores [..., run, task] as drawn: [..., draw, run, task]."""
    return scores_RK[..., chosen_DRK, np.arange(scores_RK.shape[-1])]


@lru_cache(maxsize=8)
def _counts(runs: int, tasks: int, draws: int, seed: int) -> Floats:
    """How often each run was drawn, [draw, run, task]."""
    chosen_DRK = resamples(runs, tasks, draws, seed)
    cells = (np.arange(draws)[:, None, None] * runs + chosen_DRK) * tasks + np.arange(tasks)
    return np.bincount(cells.ravel(), minlength=draws * runs * tasks).reshape(draws, runs, tasks).astype(np.float64)


def _middle_mean(values: Floats) -> Floats:
    """Over the last axis, without the least and the greatest quarter."""
    count = values.shape[-1]
    cut = count // 4
    if not cut:
        return np.asarray(values.mean(-1))
    # All of it is sorted: numpy does that with vector instructions, several times as fast as a partition.
    return np.asarray(np.sort(values, -1)[..., cut : count - cut].mean(-1))
