"""Which epochs of a run count: as the papers do it, and as it should be done.

`paper`: for NYUv2, Cityscapes and MultiDigits the mean over the last ten evaluated epochs of the test split; for CelebA
and QM9 the test split at the epoch that was best on the validation split (by mean F1; by Delta-m). Metrics are averaged
as in the papers' code (`batches`).

`correct`: metrics over all pixels or examples (`pooled`) of the test split, at the epoch that was best on the
validation split. A run without one is not chosen on the test split: its last epoch counts, and the table says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from experiments_vision.contract import Objective
from experiments_vision.delta import mean
from experiments_vision.tables.runs import Run, Values

Mode = Literal["paper", "correct"]
MODES: tuple[Mode, ...] = ("paper", "correct")
LAST = 10
BY_VALIDATION = ("celeba", "qm9")
"""Data sets whose papers choose an epoch on a validation split."""

NO_VALIDATION = "no validation split: the last epoch, chosen by nothing"
NO_SCORE = "no epoch has a valid score on the validation split: the last epoch"


@dataclass(frozen=True)
class Result:
    """What a run shows in a mode.

    Attributes:
        values: The test split's metrics, in their own units; of a single-task run its task's only.
        notes: What is special about it.
    """

    values: Values
    notes: tuple[str, ...]


def result(run: Run, objective: Objective, mode: Mode) -> Result | str:
    """The run's numbers, or why there are none."""
    if not run.finished:
        return "is not finished"
    names = [spec.name for spec in objective.metrics if run.task is None or spec.task == _task(run, objective)]
    if not names:
        return f"method.task={run.task}: {run.dataset} has tasks 0 to {len(objective.tasks) - 1}"
    kind = "batches" if mode == "paper" else "pooled"
    tested = sorted(run.found.get("test", {}))
    if not tested:
        return "has no evaluation of the test split"
    missing = sorted({name for epoch in tested for name in names if name not in run.found["test"][epoch].get(kind, {})})
    if missing:
        return f"lacks rows of the test split: {kind}/{missing[0]}" + (" and more" if missing[1:] else "")
    if mode == "paper" and run.dataset not in BY_VALIDATION:
        last = tested[-LAST:]
        values = {name: mean(run.found["test"][epoch][kind][name] for epoch in last) for name in names}
        notes = () if len(last) == LAST else (f"the mean of {len(last)} evaluated epochs: there are no {LAST}",)
        return Result(values, _with_nan(values, notes))
    best = best_epoch(run, objective, kind, names)
    diverged = best is None and "val" in run.found
    if best is None and mode == "paper" and not diverged:
        return "has no validation split to choose an epoch by"
    if best is not None and best not in run.found["test"]:
        return f"was best on the validation split at epoch {best}, which was not tested"
    values = run.values("test", tested[-1] if best is None else best, kind, names)
    note = (NO_SCORE,) if diverged else (NO_VALIDATION,) if best is None else ()
    return Result(values, _with_nan(values, note))


def best_epoch(run: Run, objective: Objective, kind: str, names: list[str]) -> int | None:
    """The first epoch of the best score on the validation split; None if there is no split or no score but NaN."""
    scores = {
        epoch: objective.score(run.values("val", epoch, kind, names)) for epoch in sorted(run.found.get("val", {}))
    }
    valid = [epoch for epoch, score in scores.items() if not math.isnan(score)]
    return max(valid, key=lambda epoch: scores[epoch], default=None)


def _task(run: Run, objective: Objective) -> str | None:
    index = run.task or 0
    return objective.tasks[index] if index < len(objective.tasks) else None


def _with_nan(values: Mapping[str, float], notes: tuple[str, ...]) -> tuple[str, ...]:
    broken = [name for name, value in values.items() if math.isnan(value)]
    return (*notes, f"nan: no valid value of {', '.join(broken[:3])}") if broken else notes
