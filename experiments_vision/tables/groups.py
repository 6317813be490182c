"""Runs of one configuration with several seeds, as one row of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from experiments_vision.contract import Objective
from experiments_vision.errors import VisionError
from experiments_vision.objectives.registry import OBJECTIVES
from experiments_vision.tables.modes import Mode, Values, result
from mtrl_surgery.reports.labels import Label, grouped, labels
from mtrl_surgery.reports.records import Record, open_runs
from mtrl_surgery.reports.statistics import Spread, spread


@dataclass
class Group:
    """Runs that differ in nothing but the seed (and, for single-task runs, the task).

    Attributes:
        label: What they are called.
        seeds: Seed -> the test split's metrics.
        notes: What is special about its runs.
        seconds: An epoch's training, of every run that notes it.
    """

    label: Label
    seeds: dict[int, Values] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def single(self) -> bool:
        """Whether it is the single-task baseline: each metric comes from its own task's runs."""
        return self.label.method == "stl"

    def metric(self, name: str) -> Spread:
        """A metric over the seeds that have it."""
        return spread([values[name] for values in self.seeds.values() if name in values])

    def complete(self, names: Iterable[str]) -> list[Values]:
        """The values of the seeds that have all the metrics."""
        wanted = list(names)
        return [values for values in self.seeds.values() if all(name in values for name in wanted)]


def find_runs(paths: Sequence[str]) -> tuple[dict[tuple[str, str], list[Record]], list[str]]:
    """The supervised runs that the paths name.

    Args:
        paths: Run folders, folders of run folders at any depth, or patterns.

    Returns:
        The runs by data set and model, and what is to be said of folders that hold something else.

    Raises:
        ReportError: A path without any run, or none can be read.
        VisionError: None of them is a run of ours.
    """
    records, said = open_runs(paths, ("evaluations", "health"))
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        name = record.config["dataset"].get("name") if record.kind == "supervised" else None
        if name in OBJECTIVES:
            found.setdefault((name, str(record.config.get("model"))), []).append(record)
        elif name is None:
            said.append(f"{record.path} is no run of experiments_vision and is left out.")
        else:
            choices = ", ".join(OBJECTIVES)
            said.append(f"left out: {record.path / 'config.yaml'}: dataset.name={name} is unknown; choices: {choices}")
    if not found:
        raise VisionError("; ".join(said))
    return dict(sorted(found.items())), said


def group(runs: Sequence[Record], objective: Objective, mode: Mode) -> tuple[list[Group], list[str]]:
    """The runs of one data set and model as groups, and a sentence for each run that is not in one."""
    results = {run: result(run, objective, mode) for run in runs}
    said = [f"{run.path} {found}; it is not in the table." for run, found in results.items() if isinstance(found, str)]
    names = {run: label for run, label in zip(runs, labels([run.config for run in runs]), strict=True)}
    whole = [run for run in runs if not isinstance(results[run], str)]
    by_label, left_out = grouped(whole, [names[run] for run in whole])
    groups = []
    for label, own in by_label.items():
        made = Group(label)
        for (seed, _, _), run in own.items():
            found = results[run]
            assert not isinstance(found, str)
            made.seeds.setdefault(seed, {}).update(found.values)
            made.notes |= dict.fromkeys(found.notes)
            if (seconds := _seconds(run)) is not None:
                made.seconds.append(seconds)
        groups.append(made)
    said += [f"{r.path} has the configuration and seed of {t.path}; it is not in the table." for r, t in left_out]
    return groups, said


def baseline_of(groups: Sequence[Group], objective: Objective) -> tuple[Values, str | None]:
    """The single-task runs' means, and why they are no baseline for every metric, if so."""
    singles = [own for own in groups if own.single]
    if not singles:
        return {}, "There are no runs with method=stl, so there is no Delta-m against our own single-task results."
    if len(singles) > 1:
        shown = "; ".join(str(own.label) for own in singles)
        return {}, f"The runs with method=stl differ in more than task and seed ({shown}), so there is no Delta-m."
    found = {spec.name: singles[0].metric(spec.name) for spec in objective.metrics}
    values = {name: own.mean for name, own in found.items() if own.seeds}
    missing = [task for task in objective.tasks if not _has_task(values, objective, task)]
    if missing:
        shown = ", ".join(f"{objective.tasks.index(task)} ({task})" for task in missing)
        return values, f"There is no run with method=stl for method.task={shown}, so there is no Delta-m."
    return values, None


def time_ratio(own: Group, groups: Sequence[Group]) -> float:
    """Time an epoch relative to the `ls` group of the same options outside `method`; NaN if there is none."""
    for other in groups:
        if other.label.method == "ls" and other.label.others == own.label.others and other.seconds and own.seconds:
            plain = spread(other.seconds).mean
            return spread(own.seconds).mean / plain if plain > 0 else math.nan
    return math.nan


def _has_task(values: Mapping[str, float], objective: Objective, task: str) -> bool:
    return all(spec.name in values for spec in objective.metrics if spec.task == task)


def _seconds(run: Record) -> float | None:
    """An epoch's training, the median over epochs; None if no epoch is noted."""
    # One thread's processor time is what its clock would say of a machine without other work.
    one_thread = run.config.get("device") == "cpu" and run.config.get("threads") == 1
    health = run.frames["health"].reindex(
        columns=["event", "epoch", key := "cpu_seconds" if one_thread else "train_seconds"]
    )
    # A resumed run may have trained an epoch twice: the later row counts.
    by_epoch = health[health["event"] == "epoch"].groupby("epoch")[key].last().dropna()
    return float(by_epoch.median()) if len(by_epoch) else None
