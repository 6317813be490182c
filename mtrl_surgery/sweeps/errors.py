"""What can be asked wrongly of a sweep."""

from __future__ import annotations


class SweepError(ValueError):
    """A word, key or folder of a sweep that makes no sense, or that nothing can be done with; the message names it."""


class SweepFailure(SweepError):
    """What was asked for is fine, but the cluster broke (exit code 1)."""

    run_failed = True
