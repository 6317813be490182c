"""Which epochs of a run count: as the papers do it, and as it should be done.

`paper`: for NYUv2, Cityscapes and MultiDigits the mean over the last ten evaluated epochs of the test split; for CelebA
and QM9 the test split at the epoch that was best on the validation split (by mean F1; by Delta-m). Metrics are averaged
as in the papers' code (`batches`).

`correct`: metrics over all pixels or examples (`pooled`) of the test split, at the epoch that was best on the
validation split. A run without one is not chosen on the test split: its last epoch counts, and the table says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from experiments_vision.contract import Objective
from experiments_vision.delta import mean
from mtrl_surgery.reports.labels import single_task
from mtrl_surgery.reports.records import Record

Values = dict[str, float]
"""By metric."""
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


def result(run: Record, objective: Objective, mode: Mode) -> Result | str:
    """The run's numbers, or why there are none."""
    dataset, task = str(run.config["dataset"]["name"]), single_task(run.config)
    if run.status != "finished":
        return "is not finished"
    names = [spec.name for spec in objective.metrics if task is None or spec.task == _task(task, objective)]
    if not names:
        return f"method.task={task}: {dataset} has tasks 0 to {len(objective.tasks) - 1}"
    kind = "batches" if mode == "paper" else "pooled"
    rows = run.frames["evaluations"].reindex(columns=["split", "epoch", "average", "metric", "value"])
    tested = rows.loc[rows["split"] == "test", "epoch"].nunique()
    if not tested:
        return "has no evaluation of the test split"
    own = rows[(rows["average"] == kind) & rows["metric"].isin(names)]
    there = own[own["split"] == "test"].groupby("metric")["epoch"].nunique()
    missing = sorted(name for name in names if there.get(name, 0) < tested)
    if missing:
        return f"lacks rows of the test split: {kind}/{missing[0]}" + (" and more" if missing[1:] else "")
    own = own.drop_duplicates(["split", "epoch", "metric"], keep="last")
    values = own.pivot(index=["split", "epoch"], columns="metric", values="value").astype(float)[names]
    by_split: dict[Any, Any] = {split: found.droplevel(0).to_dict("index") for split, found in values.groupby("split")}
    test: dict[Any, Values] = by_split["test"]
    if mode == "paper" and dataset not in BY_VALIDATION:
        last = list(test.values())[-LAST:]
        notes = () if len(last) == LAST else (f"the mean of {len(last)} evaluated epochs: there are no {LAST}",)
        return _result({name: mean(epoch[name] for epoch in last) for name in names}, notes)
    validated = bool((rows["split"] == "val").any())
    scores = {epoch: objective.score(found) for epoch, found in by_split.get("val", {}).items()}
    valid = [epoch for epoch, score in scores.items() if not math.isnan(score)]
    if not valid and mode == "paper" and not validated:
        return "has no validation split to choose an epoch by"
    if not valid:
        return _result(list(test.values())[-1], (NO_SCORE if validated else NO_VALIDATION,))
    best = max(valid, key=lambda epoch: scores[epoch])  # the first of equals
    if best not in test:
        return f"was best on the validation split at epoch {best}, which was not tested"
    return _result(test[best], ())


def _task(task: int, objective: Objective) -> str | None:
    return objective.tasks[task] if task < len(objective.tasks) else None


def _result(values: Values, notes: tuple[str, ...]) -> Result:
    broken = [name for name, value in values.items() if math.isnan(value)]
    return Result(values, (*notes, f"nan: no valid value of {', '.join(broken[:3])}") if broken else notes)
