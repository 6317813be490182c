"""Scores over time, and performance profiles."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, CURVE_DRAWS, DRAWS, curve, performance_profile
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, band, line, long, step_title, thin_steps
from mtrl_surgery.reports.figures.heats import colours as colour_axis
from mtrl_surgery.reports.figures.heats import extent, heats_over_time
from mtrl_surgery.reports.statistics import SUMMARIES, Summary, nanmean, summarise, title

_POINTS = 80
"""Of a curve with a band: more than a figure shows."""

BANDED = 8
"""Methods up to which curves have bands."""

NAMES = {"iqm": "interquartile mean", "mean": "mean", "median": "median over tasks"}


def score_curves(benchmark: Benchmark, aggregate: str = "iqm", confidence: float = 0.95) -> Part:
    """Every method's aggregate over seeds and tasks, with its bootstrap interval."""
    banded = len(benchmark.groups) <= BANDED
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

    def numbers(draws: int = CURVE_DRAWS) -> pd.DataFrame:
        return pd.concat([_curve(benchmark, group, aggregate, confidence, draws) for group in benchmark.groups])

    def figure() -> Figure:
        panels = Panels([None], height=400, top=34, legend=benchmark.groups)
        found = numbers(CURVE_DRAWS if banded else 0)
        for group in benchmark.groups:
            own = found[found["method"] == group.label]
            if banded and own["low"].notna().any():
                panels.add(0, band(own["step"], own["low"], own["high"], group.style, group.label))
            own = own[own[aggregate].notna()]
            hover = "%{y:.3f} at %{x:,} (%{customdata} seeds)<extra>%{fullData.name}</extra>"
            fewer_T = (own["seeds"] < len(group.seeds_R)).to_numpy()
            for dotted, shown_T in _stretches(own[aggregate].to_numpy(), fewer_T):
                drawn = line(own["step"], shown_T, group.style, group.label, customdata=own["seeds"].tolist())
                if dotted:
                    drawn |= {"line": {**drawn["line"], "dash": "dot", "width": 1.5}, "showlegend": False}
                panels.add(0, {**drawn, "hovertemplate": hover})
        panels.axis(0, "x", title=step_title(benchmark.kind), rangemode="tozero")
        panels.axis(0, "y", title=_wrapped(benchmark.score), **_range(benchmark))
        return panels.figure()

    return Part("score_curves", "Learning curves", caption, {"": figure}, numbers)


def _curve(benchmark: Benchmark, group: Group, aggregate: str, confidence: float, draws: int) -> pd.DataFrame:
    places = thin_steps(len(group.steps_T), _POINTS)
    scores_TRK = group.scores_TRK[places]
    value_T, low_T, high_T = curve(
        scores_TRK, AGGREGATES[aggregate], confidence, draws, stratified=group.stratified, limits=benchmark.limits
    )
    seeds_T = np.isfinite(scores_TRK).all(-1).sum(-1)
    columns = {"step": group.steps_T[places], aggregate: value_T, "low": low_T, "high": high_T, "seeds": seeds_T}
    return pd.DataFrame({"method": group.label, **columns})


def score_heat(benchmark: Benchmark) -> Part:
    """Task x time for each method: which tasks are learned when, and which are lost again."""
    caption = f"Mean over seeds of the {benchmark.score}, a row a task; time runs to the right."

    def means() -> dict[str, pd.DataFrame]:
        found = {}
        for group in benchmark.groups:
            times = thin_steps(len(group.steps_T), _POINTS)
            mean_TK = nanmean(group.scores_TRK[times], 1)
            found[group.label] = pd.DataFrame(mean_TK, index=group.steps_T[times], columns=list(benchmark.tasks))
        return found

    def numbers() -> pd.DataFrame:
        return long(means(), ["method", "step"], "task", "score")

    def figure() -> Figure:
        panels = heats_over_time(means(), benchmark.tasks, right=90)
        low, high, diverging = _limits(benchmark)
        return panels.figure(coloraxis=colour_axis(low, high, "" if diverging else "score", panels, diverging))

    return Part("task_by_time", "Tasks over time", caption, {"": figure}, numbers)


def profiles(benchmark: Benchmark, last: int = 5, confidence: float = 0.95) -> Part:
    """The share of runs and tasks above every score, for each summary."""

    def shares(how: Summary, draws: int = DRAWS) -> pd.DataFrame:
        scored = [(g, s) for g in benchmark.groups if len(s := whole(g, how, last))]
        every = np.concatenate([s.ravel() for _, s in scored]) if scored else np.zeros(1)
        # Supervised scores lie close together, but for a few that failed: those would take most of the axis.
        ends = (0.0, 1.0) if benchmark.kind == "rl" else (float(np.quantile(every, 0.05)), float(every.max()))
        bounds_N = np.linspace(*ends, 101)
        found = []
        for group, scores_RK in scored:
            names = ("share", "low", "high")
            own = performance_profile(scores_RK, bounds_N, confidence, draws, stratified=group.stratified)
            head = {"method": group.label, "summary": how, "score": bounds_N}
            found.append(pd.DataFrame({**head, **dict(zip(names, own, strict=True))}))
        return pd.concat(found) if found else pd.DataFrame(columns=["method", "summary", "score"])

    def figure(how: Summary) -> Figure:
        found = shares(how, DRAWS if len(benchmark.groups) <= BANDED else 0)
        groups = [group for group in benchmark.groups if (found["method"] == group.label).any()]
        panels = Panels([None], height=360, top=34, legend=groups)
        for group in groups:
            own = found[found["method"] == group.label]
            if own["low"].notna().all():
                panels.add(0, band(own["score"], own["low"], own["high"], group.style, group.label))
            hover = "%{y:.0%} above %{x:.3g}<extra>%{fullData.name}</extra>"
            panels.add(0, line(own["score"], own["share"], group.style, group.label, hovertemplate=hover))
        panels.axis(0, "x", title=_wrapped(benchmark.score, 110))
        panels.axis(0, "y", title="share of runs and tasks above", range=[0, 1.02])
        return panels.figure()

    caption = (
        "Performance profiles: for each score, the share of seeds and tasks that got above it. A curve that is higher "
        "everywhere is a method that is better whichever score you ask for."
    )
    figures = {title(how, last): partial(figure, how) for how in SUMMARIES}
    return Part("profiles", "Performance profiles", caption, figures, lambda: pd.concat(map(shares, SUMMARIES)))


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


def _limits(benchmark: Benchmark) -> tuple[float, float, bool]:
    """Where the colours begin and end, and whether 0 is in their middle."""
    if benchmark.kind == "rl":
        return 0.0, 1.0, False
    found = [group.scores_TRK[np.isfinite(group.scores_TRK)] for group in benchmark.groups]
    every = np.concatenate(found) if found else np.zeros(0)
    if not len(every):
        return 0.0, 1.0, False
    if benchmark.scoring.common:  # from the worst tenth: first evaluations would take all the colours
        return float(np.quantile(every, 0.1)), float(every.max()), False
    most = extent(every)
    return -most, most, True


def _range(benchmark: Benchmark) -> dict[str, Any]:
    return {"range": [0, 1.02]} if benchmark.kind == "rl" else {}


def _wrapped(text: str, width: int = 52) -> str:
    """Long axis titles in two lines."""
    cut = text.rfind(" ", 0, width)
    return text if len(text) <= width or cut < 0 else f"{text[:cut]}<br>{text[cut + 1 :]}"
