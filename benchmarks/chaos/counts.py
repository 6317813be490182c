"""Transitions in the replay of a disturbed run, against its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.training.limiter import UpdateLimiter
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.runs.checkpoint import CheckpointStore


@dataclass(frozen=True)
class Counts:
    """Of all tasks together.

    Attributes:
        expected: Transitions that the schedule puts into the replay.
        lost: Of these, how many are not there.
        duplicated: How many are there more than once, counted without the first.
        updates: Updates done.
        updates_owed: Updates that the steps pay for.
    """

    expected: int
    lost: int
    duplicated: int
    updates: int
    updates_owed: int

    @property
    def exact(self) -> bool:
        """Whether nothing is missing and nothing there twice."""
        return self.lost == self.duplicated == 0 and self.updates == self.updates_owed


def count(run: Path, steps: int, copies: int) -> Counts:
    """Look into the newest checkpoint of a run.

    A transition holds an action drawn from continuous noise, so two that are equal to the bit are one, inserted twice.

    Args:
        run: The run's folder.
        steps: Vector steps that the run was to do.
        copies: Environments a task.

    Raises:
        SettingsError: the run has no checkpoint, or one whose replay has forgotten its first transitions.
    """
    store = CheckpointStore(run / "checkpoints", keep=1)
    checkpoint = store.newest()
    if checkpoint is None:
        raise SettingsError(f"{run} has no whole checkpoint")
    if checkpoint.segments and min(segment.start for segment in checkpoint.segments) > 0:
        raise SettingsError(f"{run}: the replay is too small for {steps} steps; ask for a shorter duration=")
    state = checkpoint.state
    rows_KRD = np.concatenate(
        [store.read_segment(segment)["rows"] for segment in sorted(checkpoint.segments, key=lambda one: one.start)], 1
    )
    expected, lost, duplicated = steps * copies, 0, 0
    for rows_RD in rows_KRD:
        different = len(np.unique(np.ascontiguousarray(rows_RD).view(f"V{rows_RD.shape[1] * 4}")))
        lost += max(0, expected - different)
        duplicated += len(rows_RD) - different
    limiter = state["limiter"]
    owed = UpdateLimiter(limiter["ratio"], limiter["warmup_steps"], limiter["burst"]).updates_owed(steps)
    return Counts(len(rows_KRD) * expected, lost, duplicated, limiter["updates"], owed)
