"""The update-to-data limiter: how many updates the collected experience pays for, in exact rational arithmetic.

One object serves both modes. Sync asks after each chunk how many updates are owed and does exactly those; async also
asks the way back, how far collection may run ahead of the updates done. (Acme's SampleToInsertRatio blocks whoever is
ahead; here the driver asks, so nothing blocks and nothing depends on the clock.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from cluster.config import ClusterError


class UpdateLimiter:
    """Holds the ratio of updates to vector steps.

    With n vector steps inserted, the updates owed since the start of the run are 0 while n <= warmup_steps, then
    floor(ratio * (n - warmup_steps)), or floor(ratio * n) with `burst`, which makes up for the warm-up at once.
    """

    def __init__(self, ratio: Fraction | float | str, warmup_steps: int = 0, burst: bool = False) -> None:
        """Start with no update done.

        Args:
            ratio: updates a vector step; a float counts as the decimal it prints (0.1 is one in ten exactly).
            warmup_steps: vector steps without any update.
            burst: whether the warm-up's updates are made up for when it ends.

        Raises:
            ClusterError: a negative or infinite ratio, or a negative warm-up.
        """
        try:
            self.ratio = ratio if isinstance(ratio, Fraction) else Fraction(str(ratio))
        except ValueError:
            raise ClusterError(f"updates_per_step={ratio!r} is no finite number or fraction") from None
        if self.ratio < 0:
            raise ClusterError(f"updates_per_step={ratio} must not be negative")
        if warmup_steps < 0:
            raise ClusterError(f"warmup_steps={warmup_steps} must not be negative")
        self.warmup_steps = warmup_steps
        self.burst = burst
        self.updates = 0

    @property
    def _origin(self) -> int:
        return 0 if self.burst else self.warmup_steps

    def updates_owed(self, steps: int) -> int:
        """Updates that `steps` inserted vector steps pay for, counted from the start of the run."""
        if steps <= self.warmup_steps:
            return 0
        return int(self.ratio * (steps - self._origin))  # positive, so int() is floor

    def due(self, steps: int) -> int:
        """Updates still to do after `steps` inserted vector steps."""
        return max(0, self.updates_owed(steps) - self.updates)

    def record(self, updates: int, steps: int) -> None:
        """Count updates as done.

        Raises:
            ClusterError: they exceed what `steps` inserted vector steps pay for.
        """
        if updates < 0 or self.updates + updates > self.updates_owed(steps):
            raise ClusterError(
                f"{self.updates} + {updates} updates exceed the {self.updates_owed(steps)} that {steps} steps pay for"
            )
        self.updates += updates

    def steps_covered(self) -> int | None:
        """The most vector steps that owe no update beyond those done; None if no number of steps ever owes one.

        Collection that stays within this plus a lead never runs away from the learner.
        """
        if self.ratio == 0:
            return None
        return max(self.warmup_steps, self._origin + math.ceil((self.updates + 1) / self.ratio) - 1)

    def state_dict(self) -> dict[str, Any]:
        """Counts and settings for a checkpoint."""
        return {
            "ratio": str(self.ratio),
            "warmup_steps": self.warmup_steps,
            "burst": self.burst,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the count of a checkpoint.

        Raises:
            ClusterError: the checkpoint was made with another ratio or warm-up.
        """
        mine = self.state_dict()
        for key in ("ratio", "warmup_steps", "burst"):
            if state[key] != mine[key]:
                raise ClusterError(f"the checkpoint was made with limiter {key}={state[key]}, this run has {mine[key]}")
        self.updates = state["updates"]
