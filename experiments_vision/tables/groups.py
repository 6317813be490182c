"""Runs of one configuration with several seeds, as one row of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments_vision.contract import Objective
from experiments_vision.tables.modes import Mode, result
from experiments_vision.tables.runs import Run, Values
from mtrl_surgery.reports.statistics import Spread, spread


@dataclass
class Group:
    """Runs that differ in nothing but the seed (and, for single-task runs, the task).

    Attributes:
        method: The method's name.
        options: Those in which the groups of one table differ.
        seeds: Seed -> the test split's metrics.
        notes: What is special about its runs.
        seconds: An epoch's training, of every run that notes it.
    """

    method: str
    options: dict[str, Any]
    seeds: dict[int, Values] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        """`samgs`, or `samgs (beta=0.9, epochs=50)` where groups differ in options."""
        said = ", ".join(f"{key.removeprefix('method.')}={_shown(value)}" for key, value in self.options.items())
        return f"{self.method} ({said})" if said else self.method

    @property
    def single(self) -> bool:
        """Whether it is the single-task baseline: each metric comes from its own task's runs."""
        return self.method == "stl"

    def metric(self, name: str) -> Spread:
        """A metric over the seeds that have it."""
        return spread([values[name] for values in self.seeds.values() if name in values])

    def complete(self, names: Iterable[str]) -> list[Values]:
        """The values of the seeds that have all the metrics."""
        wanted = list(names)
        return [values for values in self.seeds.values() if all(name in values for name in wanted)]

    def means(self, names: Iterable[str]) -> Values:
        """Every metric's mean over seeds; metrics that no run has are left out."""
        return {name: own.mean for name in names if (own := self.metric(name)).seeds}


def group(runs: Sequence[Run], objective: Objective, mode: Mode) -> tuple[list[Group], list[str]]:
    """The runs of one data set and model as groups, and a sentence for each run that is not in one."""
    differing = _differing(runs)
    groups: dict[tuple[str, str], Group] = {}
    taken: dict[tuple[str, str, int, int | None], Run] = {}
    said: list[str] = []
    for run in runs:
        found = result(run, objective, mode)
        if isinstance(found, str):
            said.append(f"{run.path} {found}; it is not in the table.")
            continue
        options = {key: run.options.get(key) for key in differing[run.method] if key in run.options}
        key = (run.method, repr(sorted(options.items())))
        twin = taken.setdefault((*key, run.seed, run.task), run)
        if twin is not run:
            said.append(f"{run.path} has the configuration and seed of {twin.path}; it is not in the table.")
            continue
        own = groups.setdefault(key, Group(run.method, options))
        own.seeds.setdefault(run.seed, {}).update(found.values)
        own.notes |= dict.fromkeys(found.notes)
        if run.seconds is not None:
            own.seconds.append(run.seconds)
    return list(groups.values()), said


def baseline_of(groups: Sequence[Group], objective: Objective) -> tuple[Values, str | None]:
    """The single-task runs' means, and why they are no baseline for every metric, if so."""
    singles = [own for own in groups if own.single]
    if not singles:
        return {}, "There are no runs with method=stl, so there is no Delta-m against our own single-task results."
    if len(singles) > 1:
        labels = "; ".join(own.label for own in singles)
        return {}, f"The runs with method=stl differ in more than task and seed ({labels}), so there is no Delta-m."
    values = singles[0].means(spec.name for spec in objective.metrics)
    missing = [task for task in objective.tasks if not _has_task(values, objective, task)]
    if missing:
        shown = ", ".join(f"{objective.tasks.index(task)} ({task})" for task in missing)
        return values, f"There is no run with method=stl for method.task={shown}, so there is no Delta-m."
    return values, None


def time_ratio(own: Group, groups: Sequence[Group]) -> float:
    """Time an epoch relative to the `ls` group of the same options outside `method`; NaN if there is none."""
    outside = _outside(own.options)
    for other in groups:
        if other.method == "ls" and _outside(other.options) == outside and other.seconds and own.seconds:
            plain = spread(other.seconds).mean
            return spread(own.seconds).mean / plain if plain > 0 else math.nan
    return math.nan


def _has_task(values: Mapping[str, float], objective: Objective, task: str) -> bool:
    return all(spec.name in values for spec in objective.metrics if spec.task == task)


def _differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """By method, the keys to name in its rows: a method's own where its runs differ, all others where any runs do."""
    by_method: dict[str, list[str]] = {}
    outside = _keys(run.options for run in runs)
    for method in {run.method for run in runs}:
        own = _keys(run.options for run in runs if run.method == method)
        inside = [key for key in own if key.startswith("method.")]
        by_method[method] = inside + [key for key in outside if not key.startswith("method.")]
    return by_method


def _keys(options: Iterable[Mapping[str, Any]]) -> list[str]:
    every = list(options)
    keys = dict.fromkeys(key for own in every for key in own)
    return [key for key in keys if len({repr(own.get(key)) for own in every}) > 1]


def _outside(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if not key.startswith("method.")}


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
