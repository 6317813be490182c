"""Scores as arrays: of one run [time, task], and of a group's runs side by side [time, run, task]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.labels import single_task
from mtrl_surgery.reports.records import Record

Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """What one place of the task axis is judged by.

    Attributes:
        label: How it is called in a report.
        task: Whose it is.
        name: In the rows of supervised runs; of reinforcement learning, which success counts.
        higher_is_better: Its direction.
        scale: What the papers multiply it with; metrics of one scale can be averaged.
    """

    label: str
    task: str
    name: str
    higher_is_better: bool = True
    scale: float = 1.0


@dataclass(frozen=True)
class Yardstick:
    """How the runs of a benchmark are judged.

    Attributes:
        metrics: In the order of the task axis.
        label: What a score is.
        tasks: The benchmark's tasks; each metric is of one of them.
    """

    metrics: tuple[Metric, ...]
    label: str
    tasks: tuple[str, ...]

    @property
    def common(self) -> bool:
        """Whether the scores of different tasks can be averaged as they are."""
        first = self.metrics[0]
        return all(m.higher_is_better and m.scale == first.scale for m in self.metrics)


def run_scores(record: Record, stick: Yardstick) -> tuple[Steps, Floats]:
    """A run's evaluations: their steps, ascending, and score, successes and episodes of each task, [3, time, task].

    NaN where a task was not evaluated, and where there are no episodes to count.
    """
    return record.derived(("evaluations", "config"), ("scores", stick), lambda: _read(record, stick))


def cube(runs: Sequence[Sequence[tuple[Steps, Floats]]], metrics: int) -> tuple[Steps, Floats]:
    """Runs side by side: the steps of any of them, and [3, time, run, task].

    Args:
        runs: Of each place on the axis of runs the `run_scores` of its runs: one, or one a task.
        metrics: The length of the axis of tasks.
    """
    every = [steps for own in runs for steps, _ in own]
    steps_T = np.unique(np.concatenate(every)) if every else np.zeros(0, np.int64)
    cube_3TRK = np.full((3, len(steps_T), len(runs), metrics), np.nan)
    for run, own in enumerate(runs):
        for steps, values_3TK in own:
            at = np.searchsorted(steps_T, steps)
            cube_3TRK[:, at, run] = np.where(np.isnan(values_3TK), cube_3TRK[:, at, run], values_3TK)
    return steps_T, cube_3TRK


def _read(record: Record, stick: Yardstick) -> tuple[Steps, Floats]:
    task = single_task(record.config)
    only = None if task is None or task >= len(stick.tasks) else stick.tasks[task]
    places: dict[str, list[int]] = {}
    for index, metric in enumerate(stick.metrics):
        if only in (None, metric.task):
            places.setdefault(metric.task, []).append(index)
    found: dict[int, list[tuple[float, float, float]]] = {}
    for row in record.rows["evaluations"]:
        if row.get("split", "test") != "test" or row.get("task") not in places:
            continue
        values = found.setdefault(int(row["step"]), [(math.nan, math.nan, math.nan)] * len(stick.metrics))
        for index in places[row["task"]]:
            values[index] = _values(row, stick.metrics[index])
    steps = sorted(found)
    values_TK3 = np.array([found[step] for step in steps], np.float64).reshape(len(steps), len(stick.metrics), 3)
    return np.array(steps, np.int64), np.moveaxis(values_TK3, 2, 0)


def _values(row: Mapping[str, Any], metric: Metric) -> tuple[float, float, float]:
    if "episodes" in row:
        episodes, successes = row["episodes"], row[metric.name]
        return (successes / episodes if episodes else math.nan), successes, episodes
    value = row.get(f"pooled/{metric.name}")
    return (math.nan if value is None else float(value)), math.nan, math.nan
