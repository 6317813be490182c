"""Runs that may be compared: the same tasks, judged alike, grouped by method and options, their seeds side by side.

Shapes: `T` evaluations, `R` seeds, `K` tasks; where a supervised task has several metrics, K counts the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtrl_surgery.reports.labels import Label, grouped, labels, method_name, single_task
from mtrl_surgery.reports.palette import Style, style, value_style
from mtrl_surgery.reports.records import Record, ReportError, joined
from mtrl_surgery.reports.statistics import ANYWHERE, RATE, Floats, Limits

Success = Literal["any", "last"]
SUCCESSES: tuple[Success, ...] = get_args(Success)
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
class Scoring:
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


ScoringOf = Callable[[Record], Scoring]
"""The scoring of a supervised run: only the benchmarks' own package knows its metrics."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed (and, for single-task learning, the task).

    Attributes:
        label: Its name in every figure and table.
        method: The method's name.
        style: How it is drawn: in its method's colour, or one of its own where it is no method.
        records: Its runs.
        seeds_R: Their seeds, ascending; the same one twice only where groups are made by `label_of`.
        steps_T: Of the evaluations of any of them.
        scores_TRK: Higher is better; NaN where a run has no evaluation.
        successes_TRK: Of reinforcement learning, how many episodes succeeded; else None.
        episodes_TRK: Out of how many.
    """

    label: str
    method: str
    style: Style
    records: tuple[Record, ...]
    seeds_R: tuple[int, ...]
    steps_T: NDArray[np.int64]
    scores_TRK: Floats = field(repr=False)
    successes_TRK: Floats | None = field(default=None, repr=False)
    episodes_TRK: Floats | None = field(default=None, repr=False)

    @property
    def stratified(self) -> bool:
        """Whether each task has runs of its own (single-task learning), so that nothing ties its scores to others."""
        return all(single_task(record.config) is not None for record in self.records)


@dataclass(frozen=True)
class Benchmark:
    """One set of tasks with all that was run on it.

    Attributes:
        name: Such as `mt10`, or `nyuv2 segnet`.
        kind: `rl` or `supervised`.
        scoring: How it is judged.
        score: What a score is, in words.
        groups: The methods.
        said: What is to be said of runs that are not in it.
    """

    name: str
    kind: str
    scoring: Scoring
    score: str
    groups: tuple[Group, ...]
    said: tuple[str, ...] = ()
    _frames: dict[str, pd.DataFrame] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The labels of the task axis."""
        return tuple(metric.label for metric in self.scoring.metrics)

    @property
    def limits(self) -> Limits:
        """Between which scores lie."""
        return RATE if self.kind == "rl" else ANYWHERE

    @property
    def records(self) -> tuple[Record, ...]:
        """All its runs, group by group."""
        return tuple(record for group in self.groups for record in group.records)

    def frame(self, file: str) -> pd.DataFrame:
        """All rows of a file of all runs: `run` is a place in `records`, `group` a label."""
        if file not in self._frames:
            whole = joined(self.records, file)
            names = pd.Index([group.label for group in self.groups])
            places = np.repeat(np.arange(len(names)), [len(group.records) for group in self.groups])
            groups: Any = pd.Categorical.from_codes(places[whole["run"].to_numpy()], categories=names)
            whole.insert(0, "group", groups)
            whole.insert(1, "seed", np.array([record.seed for record in self.records])[whole["run"].to_numpy()])
            self._frames[file] = whole
        return self._frames[file]


def benchmarks(
    records: Sequence[Record],
    success: Success = "any",
    scoring_of: ScoringOf | None = None,
    label_of: Callable[[Record], str] | None = None,
) -> tuple[list[Benchmark], list[str]]:
    """The benchmarks that runs belong to, and a sentence for each run that belongs to none.

    Args:
        records: Runs of any kind.
        success: At any step of an episode, or at its last one.
        scoring_of: For supervised runs.
        label_of: The group of each run; left out: its method with its options, and seeds apart.

    Raises:
        ReportError: An unknown `success`, or no run that can be judged.
    """
    if success not in SUCCESSES:
        raise ReportError(f"success={success}: choices: {', '.join(SUCCESSES)}")
    found: dict[tuple[Any, ...], tuple[Scoring, list[Record]]] = {}
    said: list[str] = []
    for record in records:
        try:
            key, scoring = _place(record, success, scoring_of)
            if scoring is None:
                said.append(f"{record.path} {key[0]}; it is not in the report.")
                continue
            record.expect(scoring.tasks)
        except ValueError as error:  # an unknown data set's too
            said.append(f"left out: {record.path}: {error}")
            continue
        found.setdefault(key, (scoring, []))[1].append(record)
    if not found:
        raise ReportError("; ".join(said))
    made: list[Benchmark] = []
    names = [str(key[1]) for key in found]
    for place, (key, (scoring, own)) in enumerate(found.items()):
        twice = names[:place].count(names[place])  # other tasks under the same name
        name = f"{names[place]}-{twice + 1}" if twice else names[place]
        made.append(_benchmark(name, key[0], own, scoring, label_of))
    return made, said


def scoring(record: Record, scoring_of: ScoringOf | None) -> Scoring:
    """The scoring of a supervised run.

    Raises:
        ReportError: Nobody said how such runs are judged.
        ValueError: An unknown data set.
    """
    if scoring_of is None:
        raise ReportError("a supervised run: python -m experiments_vision report (or dashboard) knows its metrics")
    return scoring_of(record)


def _place(
    record: Record, success: Success, scoring_of: ScoringOf | None
) -> tuple[tuple[Any, ...], Scoring] | tuple[tuple[str], None]:
    """What runs that are compared have in common, and how they are judged; or why a run is compared with none."""
    if record.kind == "rl":
        env, frame = record.config["env"], record.frames["evaluations"]
        tasks = tuple(env.get("tasks") or ()) or (tuple(frame["task"].unique()) if len(frame) else ())
        if not tasks:
            return ("names no tasks and has no evaluation yet",), None
        metrics = tuple(Metric(short_task(task), task, f"successes_{success}") for task in tasks)
        said = f"success rate ({'at any step' if success == 'any' else 'at the last step'})"
        return ("rl", env.get("name"), env.get("kind"), tasks), Scoring(metrics, said, tasks)
    if record.kind == "supervised":
        own = scoring(record, scoring_of)
        name = f"{record.config['dataset'].get('name')} {record.config.get('model')}"
        return ("supervised", name, own.tasks), own
    return ("is no run that a report can judge",), None


@lru_cache(maxsize=16)
def _labels(records: tuple[Record, ...], versions: tuple[int, ...]) -> list[Label]:
    return labels([record.config for record in records])


def _benchmark(
    name: str, kind: str, records: Sequence[Record], scoring: Scoring, label_of: Callable[[Record], str] | None
) -> Benchmark:
    config_versions = tuple(record.versions["config"] for record in records)
    names = [Label(label_of(r)) for r in records] if label_of else _labels(tuple(records), config_versions)
    found, left_out = grouped(records, names, twins=label_of is not None)
    by_label = {str(label): own for label, own in found.items()}
    methods = {
        label: " + ".join(dict.fromkeys(method_name(record.config) for record in own.values()))
        for label, own in by_label.items()
    }
    order = sorted(by_label, key=_natural if label_of else lambda label: (methods[label], label))
    variants: dict[str, int] = {}
    looks = {}
    for label in order:
        variants[methods[label]] = variants.get(methods[label], -1) + 1
        looks[label] = style(methods[label], variants[methods[label]])
    if label_of and (max(variants.values()) > 2 or any(" + " in method for method in variants)):
        # No longer a method each: colours of their own, in the order of the values.
        looks = {label: value_style(place, len(order)) for place, label in enumerate(order)}
    groups = []
    for label in order:
        # The runs of single-task learning, a task each, share a seed's place.
        places = [(seed, path if task is None else "") for seed, task, path in by_label[label]]
        seeds = sorted(set(places))
        seats = tuple(seeds.index(place) for place in places)
        kept = tuple(by_label[label].values())
        steps_T, cube_3TRK = _cube(kept, tuple(record.versions["evaluations"] for record in kept), scoring, seats)
        counts = cube_3TRK[1:] if np.isfinite(cube_3TRK[2]).any() else (None, None)
        kept = tuple(sorted(kept, key=lambda record: (record.seed, str(record.path))))
        seeds_R = tuple(seed for seed, _ in seeds)
        groups.append(Group(label, methods[label], looks[label], kept, seeds_R, steps_T, cube_3TRK[0], *counts))
    score = scoring.label
    if not scoring.common:
        groups, score = _relative(groups, scoring)
    said = [f"{r.path} has the configuration and seed of {t.path}; it is not in the figures." for r, t in left_out]
    return Benchmark(name, kind, scoring, score, tuple(groups), tuple(said))


@lru_cache(maxsize=200)  # a dashboard asks again whenever one run of many was evaluated
def _cube(
    records: tuple[Record, ...], versions: tuple[int, ...], scoring: Scoring, seats: tuple[int, ...]
) -> tuple[NDArray[np.int64], Floats]:
    """Runs side by side: the steps of any of them, and score, successes and episodes, [3, time, run, task]."""
    own = _evaluated(records, scoring)
    steps_T, at_N = np.unique(own["step"], return_inverse=True)
    cube_3TRK = np.full((3, len(steps_T), max(seats) + 1, len(scoring.metrics)), np.nan)
    at = (at_N, np.array(seats)[own["run"]], own["place"])
    cube_3TRK[:, *at] = own[["score", "successes", "episodes"]].to_numpy().T
    return steps_T, cube_3TRK


def _evaluated(records: Sequence[Record], scoring: Scoring) -> pd.DataFrame:
    """Runs' evaluations, a row each: `run` (a place in `records`), `step`, `place` on the task axis and its `score`.

    And `successes` and `episodes`; NaN in supervised runs, as is the score where there was no episode.
    """
    frame = joined(records, "evaluations")
    columns = ["run", "step", "place", "score", "successes", "episodes"]
    if "task" not in frame:
        return pd.DataFrame(columns=columns, dtype=np.int64)
    single = {place: task for place, record in enumerate(records) if (task := single_task(record.config)) is not None}
    trained = {place: scoring.tasks[task] for place, task in single.items() if task < len(scoring.tasks)}
    if trained:
        only = frame["run"].map(trained)
        frame = frame[only.isna() | (only == frame["task"])]
    if records[0].kind == "rl":
        frame = frame.reindex(columns=["run", "step", "task", scoring.metrics[0].name, "episodes"])
        frame.columns = pd.Index(["run", "step", "task", "successes", "episodes"])
        place_N = pd.Index([metric.task for metric in scoring.metrics]).get_indexer(pd.Index(frame["task"]))
        frame = frame.assign(place=place_N, score=frame["successes"] / frame["episodes"])
    else:
        frame = frame.reindex(columns=["run", "step", "split", "average", "task", "metric", "value"])
        frame = frame[(frame["split"] == "test") & (frame["average"] == "pooled")]
        names = pd.Index([f"{metric.task} {metric.name}" for metric in scoring.metrics])
        place_N = names.get_indexer(pd.Index(frame["task"] + " " + frame["metric"]))
        frame = frame.assign(place=place_N, score=frame["value"], successes=np.nan, episodes=np.nan)
    numbers = dict.fromkeys(("score", "successes", "episodes"), np.float64) | {"step": np.int64}
    return frame.loc[frame["place"] >= 0, columns].astype(numbers)


def _natural(label: str) -> list[Any]:
    """Numbers in a label by their value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return [(place % 2, float(part) if place % 2 else part) for place, part in enumerate(parts)]


def _relative(groups: Sequence[Group], scoring: Scoring) -> tuple[list[Group], str]:
    """Scores of different units as per cent better than the plain mean of losses, or than the mean of all methods."""
    plain = next((group for group in groups if group.label == "ls"), None)
    base_K = pd.DataFrame([_last(group) for group in ([plain] if plain else groups)]).mean().to_numpy()
    sign_K = np.array([100.0 if metric.higher_is_better else -100.0 for metric in scoring.metrics])
    with np.errstate(invalid="ignore", divide="ignore"):
        made = [replace(g, scores_TRK=sign_K * (g.scores_TRK - base_K) / np.abs(base_K)) for g in groups]
    return made, f"{scoring.label}, per cent better than {'ls' if plain else 'the mean of all methods'} at its end"


def _last(group: Group) -> Floats:
    """Mean over seeds of each metric's last value."""
    runs = [pd.DataFrame(own_TK).ffill().tail(1) for own_TK in np.moveaxis(group.scores_TRK, 1, 0)]
    return pd.concat(runs).mean().to_numpy()


def short_task(task: str) -> str:
    """Meta-World's names without their version."""
    return task.removesuffix("-v3").removesuffix("-v2")
