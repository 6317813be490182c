"""Options of the learners (no torch import: the command line reads this for its help)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cluster.config import ClusterError


class LearnerLost(RuntimeError):
    """A learner died or hangs, and its group with it: the run can go on from its newest checkpoint."""

    run_failed = True
    step = 0
    """Vector steps that the run had done."""
    updates = 0
    """The same of updates."""


@dataclass
class LearnerConfig:
    """How many processes learn, and what they may cost.

    The number is part of what decides a run: every learner has random streams of its own. N learners with the same
    transitions and noise move the parameters as one does, to rounding.
    """

    num: Annotated[int, "learners; each takes its share of every task's batch. 1: the driver itself"] = 1
    cpus: Annotated[
        float | None, "CPUs of the cluster that a learner holds; null: none on this machine, else its threads"
    ] = None
    gpus: Annotated[float | None, "the same of GPUs; null: 1 with device=cuda, else none"] = None
    timeout: Annotated[float, "seconds without an answer after which the learners are taken for dead"] = 300.0
    max_restarts: Annotated[int, "times that the run goes on from its newest checkpoint after a learner died"] = 3

    def validate(self) -> None:
        """Check every option.

        Raises:
            ClusterError: an option has a value that makes no sense; the message names it and what is allowed.
        """
        if self.num < 1:
            raise ClusterError(f"learner.num={self.num} must be at least 1")
        for key in ("cpus", "gpus"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise ClusterError(f"learner.{key}={value} must not be negative, or null")
        if not self.timeout > 0:
            raise ClusterError(f"learner.timeout={self.timeout} must be positive (seconds)")
        if self.max_restarts < 0:
            raise ClusterError(f"learner.max_restarts={self.max_restarts} must not be negative")
