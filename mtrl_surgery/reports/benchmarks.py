"""Runs that may be compared: the same tasks, judged alike, grouped by method and options, their seeds side by side.

Shapes: `T` evaluations, `R` seeds, `K` tasks; where a supervised task has several metrics, K counts the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.labels import labels, method_name, single_task
from mtrl_surgery.reports.records import Record

Success = Literal["any", "last"]
SUCCESSES: tuple[Success, ...] = ("any", "last")


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


Judge = Callable[[Record], Yardstick]
"""The yardstick of a supervised run: only the benchmarks' own package knows its metrics."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed (and, for single-task learning, the task).

    Attributes:
        label: Its name in every figure and table.
        method: The method's name, which decides the colour.
        variant: 0 for the first group of that method in the benchmark, 1 for the second, ...
        records: Its runs.
        seeds_R: Their seeds, ascending.
        steps_T: Of the evaluations of any of them.
        scores_TRK: Higher is better; NaN where a run has no evaluation.
        successes_TRK: Of reinforcement learning, how many episodes succeeded; else None.
        episodes_TRK: Out of how many.
    """

    label: str
    method: str
    variant: int
    records: tuple[Record, ...]
    seeds_R: tuple[int, ...]
    steps_T: NDArray[np.int64]
    scores_TRK: Floats = field(repr=False)
    successes_TRK: Floats | None = field(default=None, repr=False)
    episodes_TRK: Floats | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Benchmark:
    """One set of tasks with all that was run on it.

    Attributes:
        name: Such as `mt10`, or `nyuv2 segnet`.
        kind: `rl` or `supervised`.
        yardstick: How it is judged.
        score: What a score is, in words.
        groups: The methods.
        said: What is to be said of runs that are not in it.
    """

    name: str
    kind: str
    yardstick: Yardstick
    score: str
    groups: tuple[Group, ...]
    said: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels of the task axis."""
        return tuple(metric.label for metric in self.yardstick.metrics)

    @property
    def records(self) -> tuple[Record, ...]:
        """All its runs."""
        return tuple(record for group in self.groups for record in group.records)


def benchmarks(
    records: Sequence[Record], success: Success = "any", judge: Judge | None = None
) -> tuple[list[Benchmark], list[str]]:
    """The benchmarks that runs belong to, and a sentence for each run that belongs to none.

    Args:
        records: Runs of any kind.
        success: At any step of an episode, or at its last one.
        judge: For supervised runs.

    Raises:
        ReportError: An unknown `success`, or no run that can be judged.
    """
    if success not in SUCCESSES:
        raise ReportError(f"success={success}: choices: {', '.join(SUCCESSES)}")
    by_key: dict[tuple[Any, ...], list[Record]] = {}
    sticks: dict[tuple[Any, ...], Yardstick] = {}
    said: list[str] = []
    for record in records:
        found = _place(record, success, judge)
        if isinstance(found, str):
            said.append(f"{record.path} {found}; it is not in the report.")
            continue
        key, stick = found
        sticks[key] = stick
        by_key.setdefault(key, []).append(record)
    if not by_key:
        raise ReportError("; ".join(said))
    names = [str(key[1]) for key in by_key]
    made = []
    for place, (key, own) in enumerate(by_key.items()):
        twice = names[:place].count(names[place])  # other tasks under the same name
        made.append(_benchmark(f"{names[place]}-{twice + 1}" if twice else names[place], key[0], own, sticks[key]))
    return made, said


def _place(record: Record, success: Success, judge: Judge | None) -> tuple[tuple[Any, ...], Yardstick] | str:
    if record.kind == "rl":
        env = record.config["env"]
        tasks = tuple(env.get("tasks") or ()) or tuple(dict.fromkeys(row["task"] for row in record.rows["evaluations"]))
        if not tasks:
            return "names no tasks and has no evaluation yet"
        metrics = tuple(Metric(_short(task), task, f"successes_{success}") for task in tasks)
        stick = Yardstick(metrics, f"success rate ({'at any step' if success == 'any' else 'at the last step'})", tasks)
        return ("rl", env.get("name"), env.get("kind"), tasks), stick
    if record.kind == "supervised" and judge is not None:
        stick = judge(record)
        return (
            "supervised",
            f"{record.config['dataset'].get('name')} {record.config.get('model')}",
            stick.tasks,
        ), stick
    return "is no run that a report can judge"


def _benchmark(name: str, kind: str, records: Sequence[Record], stick: Yardstick) -> Benchmark:
    own = labels([record.config for record in records])
    variants: dict[str, list[str]] = {}
    by_label: dict[str, list[Record]] = {}
    for record, label in zip(records, own, strict=True):
        by_label.setdefault(label, []).append(record)
    said: list[str] = []
    groups = []
    for label in sorted(by_label, key=lambda label: (method_name(by_label[label][0].config), label)):
        method = method_name(by_label[label][0].config)
        seen = variants.setdefault(method, [])
        groups.append(_group(label, method, len(seen), by_label[label], stick, said))
        seen.append(label)
    score = stick.label
    if not stick.common:
        groups, score = _relative(groups, stick)
    return Benchmark(name, kind, stick, score, tuple(groups), tuple(said))


def _group(
    label: str, method: str, variant: int, records: Sequence[Record], stick: Yardstick, said: list[str]
) -> Group:
    curves: dict[int, dict[int, Floats]] = {}  # seed -> step -> [3, K]: score, successes, episodes
    taken: dict[tuple[int, int | None], Record] = {}
    kept = []
    for record in sorted(records, key=lambda record: record.status != "finished"):
        task = single_task(record.config)
        twin = taken.setdefault((record.seed, task), record)
        if twin is not record:
            said.append(f"{record.path} has the configuration and seed of {twin.path}; it is not in the figures.")
            continue
        kept.append(record)
        own = curves.setdefault(record.seed, {})
        for step, values_3K in _curve(record, stick, task):
            if step in own:
                values_3K = np.where(np.isnan(values_3K), own[step], values_3K)
            own[step] = values_3K
    seeds = tuple(sorted(curves))
    steps_T = np.array(sorted({step for own in curves.values() for step in own}), np.int64)
    cube_3TRK = np.full((3, len(steps_T), len(seeds), len(stick.metrics)), np.nan)
    place = {int(step): index for index, step in enumerate(steps_T)}
    for run, seed in enumerate(seeds):
        for step, values_3K in curves[seed].items():
            cube_3TRK[:, place[step], run] = values_3K
    counted = bool(np.isfinite(cube_3TRK[2]).any())
    scores, successes, episodes = cube_3TRK
    records = tuple(sorted(kept, key=lambda record: (record.seed, str(record.path))))
    return Group(
        label, method, variant, records, seeds, steps_T, scores, *((successes, episodes) if counted else (None, None))
    )


def _curve(record: Record, stick: Yardstick, task: int | None) -> Iterable[tuple[int, Floats]]:
    """A run's evaluations: the step, and [3, K] score, successes and episodes."""
    found: dict[int, Floats] = {}
    places: dict[str, list[int]] = {}
    only = None if task is None or task >= len(stick.tasks) else stick.tasks[task]
    for index, metric in enumerate(stick.metrics):
        if only in (None, metric.task):
            places.setdefault(metric.task, []).append(index)
    for row in record.rows["evaluations"]:
        if row.get("split", "test") != "test" or row.get("task") not in places:
            continue
        values_3K = found.setdefault(int(row["step"]), np.full((3, len(stick.metrics)), np.nan))
        for index in places[row["task"]]:
            values_3K[:, index] = _values(row, stick.metrics[index])
    return found.items()


def _values(row: Mapping[str, Any], metric: Metric) -> tuple[float, float, float]:
    if "episodes" in row:
        episodes, successes = row["episodes"], row[metric.name]
        return (successes / episodes if episodes else math.nan), successes, episodes
    value = row.get(f"pooled/{metric.name}")
    return (math.nan if value is None else float(value)), math.nan, math.nan


def _relative(groups: Sequence[Group], stick: Yardstick) -> tuple[list[Group], str]:
    """Scores of different units as per cent better than the plain mean of losses, or than the mean of all methods."""
    plain = next((group for group in groups if group.label == "ls"), None)
    base = [plain] if plain is not None else list(groups)
    last_GK = [_last(group) for group in base]
    base_K = np.nanmean(np.stack(last_GK), 0) if last_GK else np.full(len(stick.metrics), np.nan)
    sign_K = np.array([100.0 if metric.higher_is_better else -100.0 for metric in stick.metrics])
    with np.errstate(invalid="ignore", divide="ignore"):
        made = [replace(g, scores_TRK=sign_K * (g.scores_TRK - base_K) / np.abs(base_K)) for g in groups]
    return made, f"{stick.label}, per cent better than {'ls' if plain else 'the mean of all methods'} at its end"


def _last(group: Group) -> Floats:
    """Mean over seeds of each metric's last value."""
    result_K = np.full(group.scores_TRK.shape[2], np.nan)
    for task in range(len(result_K)):
        last = [own[np.isfinite(own)][-1] for own in group.scores_TRK[:, :, task].T if np.isfinite(own).any()]
        if last:
            result_K[task] = np.mean(last)
    return result_K


def _short(task: str) -> str:
    """Meta-World's names without their version."""
    return task.removesuffix("-v3").removesuffix("-v2")
