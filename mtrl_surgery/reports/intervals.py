"""Intervals: Wilson's for a rate from counts, and Student's t around an estimate with a standard error.

Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

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
