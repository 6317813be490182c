"""Scores over time, and performance profiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, CURVE_DRAWS, curve, performance_profile
from mtrl_surgery.reports.figures.base import (
    Panels,
    Part,
    band,
    line,
    look_of,
    rows_for,
    step_title,
    thin_steps,
)
from mtrl_surgery.reports.figures.heats import colours as colour_axis
from mtrl_surgery.reports.figures.heats import extent, heat
from mtrl_surgery.reports.summaries import SUMMARIES, Summary, summarise, title

_POINTS = 80
"""Of a curve with a band: more than a figure shows."""

BANDED = 8
"""Methods up to which curves have bands."""

NAMES = {"iqm": "interquartile mean", "mean": "mean", "median": "median over tasks"}


def score_curves(
    benchmark: Benchmark, aggregate: str = "iqm", confidence: float = 0.95, every_interval: bool = True
) -> Part:
    """Every method's aggregate over seeds and tasks, with its bootstrap interval.

    Args:
        benchmark: Its runs.
        aggregate: Over seeds and tasks.
        confidence: Of the intervals.
        every_interval: Also those of more methods than have bands, which only the CSV file shows.
    """
    panels = Panels([None], height=400, top=34, legend=benchmark.groups)
    rows: list[tuple[Any, ...]] = []
    banded = len(benchmark.groups) <= BANDED
    for group in benchmark.groups:
        places = thin_steps(len(group.steps_T), _POINTS)
        steps = group.steps_T[places]
        statistic = AGGREGATES[aggregate]
        draws = CURVE_DRAWS if banded or every_interval else 0
        scores_TRK = group.scores_TRK[places]
        value_T, low_T, high_T = curve(
            scores_TRK, statistic, confidence, draws, stratified=group.stratified, limits=benchmark.limits
        )
        look = look_of(group)
        there = np.isfinite(value_T)
        if banded and np.isfinite(low_T).any():
            panels.add(0, band(steps, low_T, high_T, look, group.label))
        seeds_T = np.isfinite(scores_TRK).all(-1).sum(-1)
        hover = "%{y:.3f} at %{x:,} (%{customdata} seeds)<extra>%{fullData.name}</extra>"
        for dotted, shown_T in _stretches(value_T[there], seeds_T[there] < len(group.seeds_R)):
            drawn = line(steps[there], shown_T, look, group.label, customdata=seeds_T[there].tolist())
            if dotted:
                drawn |= {"line": {**drawn["line"], "dash": "dot", "width": 1.5}, "showlegend": False}
            panels.add(0, {**drawn, "hovertemplate": hover})
        rows += list(zip([group.label] * len(steps), steps, value_T, low_T, high_T, seeds_T, strict=True))
    panels.axis(0, "x", title=step_title(benchmark.kind), rangemode="tozero")
    panels.axis(0, "y", title=_wrapped(benchmark.score), **_range(benchmark))
    bands = (
        f"Bands: {confidence:.0%} intervals over seeds (Student's t with the bootstrap's standard error), pointwise; a "
        "method with one seed has none."
        if banded
        else f"Intervals are in the summary: more than {BANDED} bands would hide the curves."
    )
    caption = (
        f"{NAMES[aggregate].capitalize()} over seeds and tasks of the {benchmark.score}. {bands} Dotted: not all seeds "
        "of the method have been evaluated there (hovering tells how many)."
    )
    columns = ("method", "step", aggregate, "low", "high", "seeds")
    return Part("score_curves", "Learning curves", caption, {"": panels.figure()}, columns, rows)


def score_heat(benchmark: Benchmark) -> Part:
    """Task x time for each method: which tasks are learned when, and which are lost again."""
    groups = benchmark.groups
    columns = min(3, len(groups))
    height = rows_for(len(benchmark.tasks))
    panels = Panels([g.label for g in groups], columns, height, gap=0.03, below=58, left=_room(benchmark), right=90)
    rows: list[tuple[Any, ...]] = []
    for place, group in enumerate(groups):
        times = thin_steps(len(group.steps_T), _POINTS)
        mean_TK = _mean(group.scores_TRK[times])
        steps = group.steps_T[times]
        hover = "%{y}, step %{x}: %{z:.3f}<extra>" + group.label + "</extra>"
        panels.add(place, heat(_even(steps), benchmark.tasks, mean_TK.T, hovertemplate=hover))
        panels.axis(place, "y", autorange="reversed", showticklabels=place % columns == 0, ticks="", showgrid=False)
        panels.axis(place, "x", type="category", nticks=5, showgrid=False, tickangle=0)
        for step, values in zip(steps, mean_TK, strict=True):
            rows += [(group.label, step, task, value) for task, value in zip(benchmark.tasks, values, strict=True)]
    low, high, diverging = _limits(benchmark)
    axis = colour_axis(low, high, "" if diverging else "score", panels, diverging)
    caption = f"Mean over seeds of the {benchmark.score}, a row a task; time runs to the right."
    named = ("method", "step", "task", "score")
    return Part("task_by_time", "Tasks over time", caption, {"": panels.figure(coloraxis=axis)}, named, rows)


def profiles(benchmark: Benchmark, last: int = 5, confidence: float = 0.95) -> Part:
    """The share of runs and tasks above every score, for each summary."""
    figures = {}
    rows: list[tuple[Any, ...]] = []
    for how in SUMMARIES:
        scored = [(g, s) for g in benchmark.groups if len(s := whole(g, how, last))]
        every = np.concatenate([s.ravel() for _, s in scored]) if scored else np.zeros(1)
        # Supervised scores lie close together, but for a few that failed: those would take most of the axis.
        lowest, highest = (
            (0.0, 1.0) if benchmark.kind == "rl" else (float(np.quantile(every, 0.05)), float(every.max()))
        )
        bounds_N = np.linspace(lowest, highest, 101)
        panels = Panels([None], height=360, top=34, legend=[group for group, _ in scored])
        for group, scores_RK in scored:
            share_N, low_N, high_N = performance_profile(scores_RK, bounds_N, confidence, stratified=group.stratified)
            look = look_of(group)
            if len(scored) <= BANDED and np.isfinite(low_N).all():
                panels.add(0, band(bounds_N, low_N, high_N, look, group.label))
            hover = "%{y:.0%} above %{x:.3g}<extra>%{fullData.name}</extra>"
            panels.add(0, line(bounds_N, share_N, look, group.label, hovertemplate=hover))
            rows += [(group.label, how, *values) for values in zip(bounds_N, share_N, low_N, high_N, strict=True)]
        panels.axis(0, "x", title=_wrapped(benchmark.score, 110))
        panels.axis(0, "y", title="share of runs and tasks above", range=[0, 1.02])
        figures[title(how, last)] = panels.figure()
    caption = (
        "Performance profiles: for each score, the share of seeds and tasks that got above it. A curve that is higher "
        "everywhere is a method that is better whichever score you ask for."
    )
    named = ("method", "summary", "score", "share", "low", "high")
    return Part("profiles", "Performance profiles", caption, figures, named, rows)


def whole(group: Group, how: Summary, last: int) -> np.ndarray:
    """A group's summary [run, task], of the runs that have all tasks."""
    scores_RK = summarise(group.scores_TRK, how, last)
    return scores_RK[np.isfinite(scores_RK).all(1)]


def _stretches(value_T: np.ndarray, fewer_T: np.ndarray) -> list[tuple[bool, np.ndarray]]:
    """A curve's whole line, and its dotted one that leads to, over and from the points with fewer seeds."""
    near_T = fewer_T.copy()
    near_T[1:] |= fewer_T[:-1]
    near_T[:-1] |= fewer_T[1:]
    both = [(False, np.where(fewer_T, np.nan, value_T)), (True, np.where(near_T, value_T, np.nan))]
    return both if fewer_T.any() else both[:1]


def _mean(scores_TRK: np.ndarray) -> np.ndarray:
    """Over the runs that there are; NaN for none."""
    there = np.isfinite(scores_TRK)
    count = there.sum(1)
    return np.where(count > 0, np.where(there, scores_TRK, 0).sum(1) / np.maximum(count, 1), np.nan)


def _even(steps: np.ndarray) -> list[str]:
    """Short labels: 2.5k, 1M."""
    return [_short(int(step)) for step in steps]


def _short(step: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if step >= size:
            return f"{step / size:.4g}{unit}"
    return str(step)


def _limits(benchmark: Benchmark) -> tuple[float, float, bool]:
    """Where the colours begin and end, and whether 0 is in their middle."""
    if benchmark.kind == "rl":
        return 0.0, 1.0, False
    found = [group.scores_TRK[np.isfinite(group.scores_TRK)] for group in benchmark.groups]
    every = np.concatenate(found) if found else np.zeros(0)
    if not len(every):
        return 0.0, 1.0, False
    if benchmark.yardstick.common:  # from the worst tenth: first evaluations would take all the colours
        return float(np.quantile(every, 0.1)), float(every.max()), False
    most = extent(every)
    return -most, most, True


def _range(benchmark: Benchmark) -> dict[str, Any]:
    return {"range": [0, 1.02]} if benchmark.kind == "rl" else {}


def _room(benchmark: Benchmark) -> int:
    return 16 + 7 * max(map(len, benchmark.tasks))


def _wrapped(text: str, width: int = 52) -> str:
    """Long axis titles in two lines."""
    cut = text.rfind(" ", 0, width)
    return text if len(text) <= width or cut < 0 else f"{text[:cut]}<br>{text[cut + 1 :]}"
