"""Statistics over runs x tasks, with intervals from the bootstrap's standard error.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv 2108.13264:
the interquartile mean, performance profiles and the probability of improvement. Where we depart from it:

1. A draw takes whole runs. There, each task draws runs of its own; but the tasks of a run share one network, and what a
   seed does to all of them would be averaged away. Only where each task has runs of its own (single-task learning) is
   it drawn task by task: `stratified`.
2. An interval is Student's t with the bootstrap's standard error (Hesterberg, arXiv 1411.5279), not the percentiles of
   the draws. Those of 3, 5 and 10 runs that are nominally 95 % cover 0.73, 0.83 and 0.90; Student's 0.94 to 0.96.

Scores are arrays [run, task] (`R` runs, `S` those of a second method, `D` draws of the bootstrap). Everything random
comes from a seed and is the same whatever was asked before, so draws are kept by the scores that they were made from: a
dashboard's next figure draws for the methods that have changed, and a method is drawn once for all its comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.statistics import ANYWHERE, NOTHING, RATE, Floats, Interval, Limits, student

Indices = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]
"""[..., run, task] -> [...]"""

N = TypeVar("N", bound=np.generic)

DRAWS = 2000
CURVE_DRAWS = 500
_BLOCK = 4_000_000
"""Numbers of a block of draws: a few tens of megabytes, whatever is asked for."""
_KEPT = 500
"""Results of draws that are kept: 16 KB each, and of a curve a quarter of a megabyte."""


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
def resamples(runs: int, tasks: int = 1, draws: int = DRAWS, seed: int = 0) -> Indices:
    """Which run stands in for which, drawn with replacement: [draw, run, task]; one task serves all. Read-only."""
    chosen_DRK = np.random.default_rng(seed).integers(runs, size=(draws, runs, tasks))
    chosen_DRK.flags.writeable = False
    return chosen_DRK


def interval(
    scores_RK: Floats,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    stratified: bool = False,
    limits: Limits = ANYWHERE,
) -> Interval:
    """A statistic with its interval over runs.

    One run says nothing of other seeds: its interval's ends are NaN. So are all three where a score is NaN.

    Args:
        scores_RK: A row a run.
        statistic: Of all of them.
        confidence: Of the interval.
        draws: Of the bootstrap.
        seed: Of its random numbers.
        stratified: Each task has runs of its own, and is drawn by itself.
        limits: Between which the statistic must lie.
    """
    if scores_RK.size == 0:
        return NOTHING
    value = float(statistic(scores_RK))
    if len(scores_RK) < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    error = float(_error(_drawn(scores_RK, statistic, draws, seed, stratified), len(scores_RK)))
    return _interval(value, error, len(scores_RK) - 1, confidence, limits)


def curve(
    scores_TRK: Floats,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    draws: int = CURVE_DRAWS,
    seed: int = 0,
    stratified: bool = False,
    limits: Limits = ANYWHERE,
) -> tuple[Floats, Floats, Floats]:
    """`interval` at every point of time: values, lower and upper ends, [time] each.

    The draws are the same at all times, so the band is as smooth as its curve.

    Args:
        scores_TRK: NaN where a run was not evaluated; a run counts where it has all tasks.
        statistic: Of the runs that count.
        confidence: Of the band, pointwise.
        draws: Of the bootstrap; 0 for no band.
        seed: Of its random numbers.
        stratified: See `interval`.
        limits: See `interval`.
    """
    there_TR = np.isfinite(scores_TRK).all(-1)
    value_T, low_T, high_T = (np.full(len(scores_TRK), np.nan) for _ in range(3))
    for pattern_R in np.unique(there_TR, axis=0):  # times with the same runs go in one piece
        times = np.flatnonzero((there_TR == pattern_R).all(1))
        scores, runs = scores_TRK[times][:, pattern_R], int(pattern_R.sum())
        if not runs:
            continue
        value_T[times] = statistic(scores)
        if runs > 1 and draws:
            error_T = _error(_drawn(scores, statistic, draws, seed, stratified), runs)
            low_T[times], high_T[times] = student(value_T[times], error_T, runs - 1, confidence, limits)
    return value_T, low_T, high_T


def performance_profile(
    scores_RK: Floats,
    thresholds_N: Floats,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    stratified: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """The share of runs x tasks whose score is above each threshold, with a pointwise band: [threshold] each.

    The band is NaN for one run, or without draws. See `interval` for the other arguments.

    Raises:
        ValueError: Thresholds that fall.
    """
    thresholds_N = np.asarray(thresholds_N, np.float64)
    if bool(np.any(np.diff(thresholds_N) < 0)):
        raise ValueError("thresholds must not fall")
    above_NRK = scores_RK > thresholds_N[:, None, None]
    share_N = np.asarray(above_NRK.mean((1, 2)))
    runs, tasks = scores_RK.shape
    if runs < 2 or not draws:
        return share_N, np.full_like(share_N, np.nan), np.full_like(share_N, np.nan)
    # All that a draw needs of a score is how many thresholds it is above.
    passed_RK = above_NRK.sum(0)
    drawn_DQ = _take(passed_RK, resamples(runs, tasks if stratified else 1, draws, seed)).reshape(draws, -1)
    bins = len(thresholds_N) + 1
    flat = drawn_DQ + bins * np.arange(draws)[:, None]
    histogram_DN = np.bincount(flat.ravel(), minlength=draws * bins).reshape(draws, bins) / drawn_DQ.shape[1]
    # A score that passed n thresholds is above the first n of them.
    shares_DN = np.asarray(histogram_DN[:, ::-1].cumsum(1)[:, ::-1][:, 1:], np.float64)
    return share_N, *student(share_N, _error(shares_DN.T, runs), runs - 1, confidence, RATE)


def probability_of_improvement(
    ours_RK: Floats,
    theirs_SK: Floats,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    stratified: bool = False,
) -> Interval:
    """How likely a run of ours beats one of theirs on a task drawn at random; ties count a half.

    The mean over tasks of the Mann-Whitney statistic. Its ends are NaN if either has a single run. See `interval` for
    the other arguments.
    """
    if not ours_RK.size or not theirs_SK.size:
        return NOTHING
    order_RSK = 0.5 * (np.sign(ours_RK[:, None] - theirs_SK[None]) + 1)  # 1 won, 0.5 tied, 0 lost
    value = float(order_RSK.mean())
    # How each run of ours fares against all of theirs, and the other way round: two samples, each with its own error.
    drawn = []
    for place, won_RK in ((seed, order_RSK.mean(1)), (seed + 1, order_RSK.mean(0))):
        own_RK = won_RK if stratified else won_RK.mean(1, keepdims=True)  # whole runs are drawn: their means do
        drawn.append(mean(_take(own_RK, resamples(*own_RK.shape, draws, place))))
    return _of_two(value, drawn, (len(ours_RK), len(theirs_SK)), confidence, RATE)


def difference(
    ours_RK: Floats,
    theirs_SK: Floats,
    statistic: Statistic = iqm,
    paired: bool = False,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    stratified: bool = False,
) -> Interval:
    """By how much a statistic of ours is above theirs; its ends are NaN if either has a single run.

    Args:
        ours_RK: Our scores.
        theirs_SK: Theirs, of the same tasks.
        statistic: Of each.
        paired: Row r of both is the same seed, and both are drawn together: what a seed does to both cancels.
        confidence: Of the interval.
        draws: Of the bootstrap.
        seed: Of its random numbers.
        stratified: See `interval`.

    Raises:
        ValueError: Paired scores of different shapes.
    """
    if paired and ours_RK.shape != theirs_SK.shape:
        raise ValueError(f"paired scores have shapes {ours_RK.shape} and {theirs_SK.shape}")
    if not ours_RK.size or not theirs_SK.size:
        return NOTHING
    value = float(statistic(ours_RK) - statistic(theirs_SK))
    ours_D = _drawn(ours_RK, statistic, draws, seed, stratified)
    theirs_D = _drawn(theirs_SK, statistic, draws, seed if paired else seed + 1, stratified)
    if paired:
        return _of_two(value, [ours_D - theirs_D], (len(ours_RK),), confidence)
    return _of_two(value, [ours_D, theirs_D], (len(ours_RK), len(theirs_SK)), confidence)


def _of_two(
    value: float, drawn: Sequence[Floats], runs: Sequence[int], confidence: float, limits: Limits = ANYWHERE
) -> Interval:
    """An estimate from independent samples: their variances add up, with Welch and Satterthwaite's degrees of freedom.

    Args:
        value: The estimate.
        drawn: Of each sample the estimate's draws while the others stay.
        runs: Of each sample.
        confidence: Of the interval.
        limits: Between which the estimate must lie.
    """
    if min(runs) < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    variances = [float(_error(draws_D, count)) ** 2 for draws_D, count in zip(drawn, runs, strict=True)]
    total, freedom = sum(variances), sum(own**2 / (count - 1) for own, count in zip(variances, runs, strict=True))
    degrees = total**2 / freedom if freedom else min(runs) - 1.0
    return _interval(value, math.sqrt(total), degrees, confidence, limits)


def _interval(value: float, error: float, degrees: float, confidence: float, limits: Limits) -> Interval:
    low, high = student(value, error, degrees, confidence, limits)
    return Interval(value, float(low), float(high))


def _error(drawn: Floats, runs: int) -> Floats:
    """The standard error by the draws on the last axis; of so few runs a draw's own is too small, by 1 - 1/R."""
    return np.asarray(drawn.std(-1) * math.sqrt(runs / max(1, runs - 1)))


def _drawn(scores: Floats, statistic: Statistic, draws: int, seed: int, stratified: bool) -> Floats:
    """The statistic of every draw of scores [..., run, task]: [..., draw]."""
    return _drawn_once(np.asarray(scores, np.float64).tobytes(), scores.shape, statistic, draws, seed, stratified)


@lru_cache(_KEPT)
def _drawn_once(
    content: bytes, shape: tuple[int, ...], statistic: Statistic, draws: int, seed: int, stratified: bool
) -> Floats:
    """By the content of the scores; a block of draws at a time."""
    scores = np.frombuffer(content).reshape(shape)
    *_, runs, tasks = shape
    chosen_DRK = resamples(runs, tasks if stratified else 1, draws, seed)
    several = max(1, _BLOCK // max(1, scores.size))
    parts = (chosen_DRK[first : first + several] for first in range(0, draws, several))
    drawn = np.concatenate([statistic(_take(scores, part)) for part in parts], -1)
    drawn.flags.writeable = False
    return drawn


def _take(scores_RK: NDArray[N], chosen_DRK: Indices) -> NDArray[N]:
    """Scores [..., run, task] as drawn: [..., draw, run, task]."""
    return scores_RK[..., chosen_DRK, np.arange(scores_RK.shape[-1])]


def _middle_mean(values: Floats) -> Floats:
    """Over the last axis, without the least and the greatest quarter."""
    count = values.shape[-1]
    cut = count // 4
    if not cut:
        return np.asarray(values.mean(-1))
    # All of it is sorted: numpy does that with vector instructions, several times as fast as a partition.
    return np.asarray(np.sort(values, -1)[..., cut : count - cut].mean(-1))
