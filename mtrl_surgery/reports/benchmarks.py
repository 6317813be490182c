"""Runs that may be compared: the same tasks, judged alike, grouped by method and options, their seeds side by side.

Shapes: `T` evaluations, `R` seeds, `K` tasks; where a supervised task has several metrics, K counts the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.intervals import ANYWHERE, RATE, Floats, Limits
from mtrl_surgery.reports.labels import labels, method_name, single_task
from mtrl_surgery.reports.palette import Style, value_style
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Metric, Yardstick, cube, run_scores

Success = Literal["any", "last"]
SUCCESSES: tuple[Success, ...] = ("any", "last")


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
        seeds_R: Their seeds, ascending; the same one twice only where groups are made by `label_of`.
        steps_T: Of the evaluations of any of them.
        scores_TRK: Higher is better; NaN where a run has no evaluation.
        successes_TRK: Of reinforcement learning, how many episodes succeeded; else None.
        episodes_TRK: Out of how many.
        look: How it is drawn, where it is no method; None: in its method's style.
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
    look: Style | None = None

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
    def limits(self) -> Limits:
        """Between which scores lie."""
        return RATE if self.kind == "rl" else ANYWHERE

    @property
    def records(self) -> tuple[Record, ...]:
        """All its runs."""
        return tuple(record for group in self.groups for record in group.records)


def benchmarks(
    records: Sequence[Record],
    success: Success = "any",
    judge: Judge | None = None,
    label_of: Callable[[Record], str] | None = None,
) -> tuple[list[Benchmark], list[str]]:
    """The benchmarks that runs belong to, and a sentence for each run that belongs to none.

    Args:
        records: Runs of any kind.
        success: At any step of an episode, or at its last one.
        judge: For supervised runs.
        label_of: The group of each run; left out: its method with its options, and seeds apart.

    Raises:
        ReportError: An unknown `success`, or no run that can be judged.
    """
    if success not in SUCCESSES:
        raise ReportError(f"success={success}: choices: {', '.join(SUCCESSES)}")
    by_key: dict[tuple[Any, ...], list[Record]] = {}
    sticks: dict[tuple[Any, ...], Yardstick] = {}
    said: list[str] = []
    for record in records:
        try:
            found = _place(record, success, judge)
            if not isinstance(found, str):
                record.expect(found[1].tasks)
        except ValueError as error:  # the judge's too: an unknown data set
            said.append(f"left out: {record.path}: {error}")
            continue
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
        made.append(
            _benchmark(f"{names[place]}-{twice + 1}" if twice else names[place], key[0], own, sticks[key], label_of)
        )
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


def _benchmark(
    name: str, kind: str, records: Sequence[Record], stick: Yardstick, label_of: Callable[[Record], str] | None
) -> Benchmark:
    own: Sequence[str] = (
        [label_of(record) for record in records]
        if label_of
        else _labels(tuple((record, record.versions["config"]) for record in records))
    )
    by_label: dict[str, list[Record]] = {}
    for record, label in zip(records, own, strict=True):
        by_label.setdefault(label, []).append(record)
    methods = {
        label: " + ".join(dict.fromkeys(method_name(record.config) for record in own))
        for label, own in by_label.items()
    }
    order = sorted(by_label, key=(lambda label: _natural(label)) if label_of else lambda label: (methods[label], label))
    variants: dict[str, int] = {}
    said: list[str] = []
    groups = []
    for label in order:
        variant = variants[methods[label]] = variants.get(methods[label], -1) + 1
        groups.append(_group(label, methods[label], variant, by_label[label], stick, said, twins=label_of is not None))
    if label_of and (max(variants.values()) > 2 or any(" + " in method for method in variants)):
        # No longer a method each: colours of their own, in the order of the values.
        groups = [replace(group, look=value_style(place, len(groups))) for place, group in enumerate(groups)]
    score = stick.label
    if not stick.common:
        groups, score = _relative(groups, stick)
    return Benchmark(name, kind, stick, score, tuple(groups), tuple(said))


@lru_cache(maxsize=16)
def _labels(of: tuple[tuple[Record, int], ...]) -> list[str]:
    """Of records and their configurations' versions: a dashboard asks again whenever an evaluation is done."""
    return labels([record.config for record, _ in of])


def _group(
    label: str, method: str, variant: int, records: Sequence[Record], stick: Yardstick, said: list[str], twins: bool
) -> Group:
    """A group's runs side by side; where `twins` are welcome, runs of one seed each have a place of their own."""
    places: dict[tuple[int, str], list[Record]] = {}
    taken: dict[tuple[int, int | None], Record] = {}
    for record in sorted(records, key=lambda record: record.status != "finished"):
        task = single_task(record.config)
        twin = taken.setdefault((record.seed, task), record)
        if twin is not record and not twins:
            said.append(f"{record.path} has the configuration and seed of {twin.path}; it is not in the figures.")
            continue
        own = str(record.path) if twins and task is None else ""
        places.setdefault((record.seed, own), []).append(record)
    order = sorted(places)
    steps_T, cube_3TRK = cube([[run_scores(r, stick) for r in places[place]] for place in order], len(stick.metrics))
    scores, successes, episodes = cube_3TRK
    counts = (successes, episodes) if bool(np.isfinite(episodes).any()) else (None, None)
    kept = sorted((r for own in places.values() for r in own), key=lambda record: (record.seed, str(record.path)))
    return Group(label, method, variant, tuple(kept), tuple(seed for seed, _ in order), steps_T, scores, *counts)


def _natural(label: str) -> list[Any]:
    """Numbers in a label by their value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return [(place % 2, float(part) if place % 2 else part) for place, part in enumerate(parts)]


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
