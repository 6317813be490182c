"""Means and standard errors over seeds, and ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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


def ranks(values: Sequence[float], higher_is_better: bool) -> list[int]:
    """1 for the best; equal values share the smaller rank (1, 2, 2, 4), and NaN comes after every number."""
    badness = [math.inf if math.isnan(value) else -value if higher_is_better else value for value in values]
    return [1 + sum(other < own for other in badness) for own in badness]


def mean_ranks(values_MG: Sequence[Sequence[float]], higher_is_better_M: Sequence[bool]) -> list[float]:
    """Every group's rank, averaged over the metrics.

    Args:
        values_MG: A row a metric, a value a group.
        higher_is_better_M: The direction of each metric.

    Raises:
        ValueError: No metric, or rows of different lengths.
    """
    if not values_MG:
        raise ValueError("mean_ranks: there is no metric to rank by")
    ranks_MG = [ranks(row, higher) for row, higher in zip(values_MG, higher_is_better_M, strict=True)]
    return [sum(column) / len(ranks_MG) for column in zip(*ranks_MG, strict=True)]
