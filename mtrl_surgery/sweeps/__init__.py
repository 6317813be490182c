"""Sweeps: many runs of one command as Ray tasks, each a process of its own that can be lost and goes on.

`train -m` says what each of its runs takes, where it is written and whether there is room for it (`plan`), and has Ray
do them (`scheduler`, `attempt`). How a run stands is read from its own folder (`standing`); `drive` does all in order.
"""

from __future__ import annotations


class SweepError(ValueError):
    """A word, key or folder of a sweep that makes no sense, or that nothing can be done with; the message names it."""


class SweepFailure(SweepError):
    """What was asked for is fine, but the cluster broke (exit code 1)."""

    run_failed = True
