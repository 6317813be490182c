"""Method against method: by how much, how surely, and on which tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, difference, probability_of_improvement
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, long, rows_for
from mtrl_surgery.reports.figures.curves import NAMES, whole
from mtrl_surgery.reports.figures.heats import colours, extent, heat, slanted_room, written
from mtrl_surgery.reports.statistics import SUMMARIES, Summary, title

_WRITTEN = 12
"""Methods up to which the numbers stand in the cells."""
_BESIDE = 4
"""Methods up to which two matrices stand side by side."""
_MANY = 16
"""Methods from which on fewer draws of the bootstrap must do: their pairs grow with the square."""

_PAIR = [
    "method", "other", "difference", "difference low", "difference high", "paired seeds",
    "probability of improvement", "probability low", "probability high",
]  # fmt: skip

Scored = list[tuple[Group, np.ndarray]]


def method_against_method(
    benchmark: Benchmark, last: int = 5, aggregate: str = "iqm", confidence: float = 0.95
) -> Part:
    """Two matrices, row against column: the difference of aggregates, and the probability of improvement."""

    def pairs(how: Summary) -> pd.DataFrame:
        return _pairs(ordered(benchmark, how, last, aggregate), aggregate, confidence)

    def figure(how: Summary) -> Figure:
        labels = [group.label for group, _ in ordered(benchmark, how, last, aggregate)]
        return _matrices(labels, pairs(how), aggregate)

    def numbers() -> pd.DataFrame:
        every = pd.concat({how: pairs(how) for how in shown}, names=["summary"]) if shown else pd.DataFrame()
        return every.reset_index(0)

    shown = [how for how in SUMMARIES if len(ordered(benchmark, how, last, aggregate)) > 1]
    caption = (
        f"Row against column, best first. First by how much the row's {NAMES[aggregate]} is above the column's, then "
        "how likely one run of the row's method beats one of the column's on a task drawn at random. Blue: the row is "
        "better. Intervals (on hovering) pair the seeds that both methods have."
    )
    figures = {title(how, last): partial(figure, how) for how in shown}
    return Part("method_against_method", "Method against method", caption, figures, numbers)


def task_differences(benchmark: Benchmark, last: int = 5) -> Part | None:
    """Task x method: the mean over seeds minus the baseline's, which is `ls`, or else the last of all methods."""
    scored = {how: ordered(benchmark, how, last, "mean") for how in SUMMARIES}
    if min(map(len, scored.values())) < 2:
        return None
    bases = {how: next((g.label for g, _ in own if g.label == "ls"), own[-1][0].label) for how, own in scored.items()}

    def differences(how: Summary) -> pd.DataFrame:
        means = pd.DataFrame({group.label: scores.mean(0) for group, scores in scored[how]}, index=benchmark.tasks)
        return means.drop(columns=bases[how]).sub(means[bases[how]], axis=0)

    def numbers() -> pd.DataFrame:
        found = {(how, base): differences(how) for how, base in bases.items()}
        numbers = long(found, ["summary", "baseline", "task"], "method", "difference").dropna()
        return numbers[["summary", "baseline", "method", "task", "difference"]]

    base = bases[SUMMARIES[-1]]
    caption = (
        f"What each method gains (blue) or loses (red) against {base}, task by task: the difference of means over "
        f"seeds of the {benchmark.score}. A method that helps on average may still pay for it on some tasks."
    )
    figures = {
        title(how, last): (lambda how=how: _differences(differences(how), f"minus {bases[how]}")) for how in SUMMARIES
    }
    return Part("task_differences", f"Gains and losses against {base}", caption, figures, numbers)


def ordered(benchmark: Benchmark, how: Summary, last: int, aggregate: str) -> Scored:
    """Groups with their summaries [run, task], the best first; those without a whole evaluation are left out."""
    scored = [(group, scores) for group in benchmark.groups if len(scores := whole(group, how, last))]
    return sorted(scored, key=lambda pair: -float(AGGREGATES[aggregate](pair[1])))


def paired(ours: Group, theirs: Group, ours_RK: np.ndarray, theirs_SK: np.ndarray) -> bool:
    """Whether row r of both is the same seed: initial weights, goals and streams follow from it."""
    everyone = len(ours_RK) == len(set(ours.seeds_R)) and len(theirs_SK) == len(theirs.seeds_R)
    return everyone and ours.seeds_R == theirs.seeds_R


def _pairs(scored: Scored, aggregate: str, confidence: float) -> pd.DataFrame:
    draws = 2000 if len(scored) < _MANY else 500
    found: list[tuple[Any, ...]] = []
    for place, (ours, ours_RK) in enumerate(scored):
        for theirs, theirs_SK in scored[place + 1 :]:
            same = paired(ours, theirs, ours_RK, theirs_SK)
            stratified = ours.stratified and theirs.stratified
            by = difference(ours_RK, theirs_SK, AGGREGATES[aggregate], same, confidence, draws, stratified=stratified)
            surely = probability_of_improvement(ours_RK, theirs_SK, confidence, draws, stratified=stratified)
            found.append((ours.label, theirs.label, *by, same, *surely))
            back = (-by.value, -by.high, -by.low, same, 1 - surely.value, 1 - surely.high, 1 - surely.low)
            found.append((theirs.label, ours.label, *back))
    return pd.DataFrame(found, columns=_PAIR)


def _matrices(labels: list[str], found: pd.DataFrame, aggregate: str) -> Figure:
    count = len(labels)
    said = [
        f"{ours} against {theirs}<br>difference {by:+.3g} [{low:+.3g}, {high:+.3g}]{', paired seeds' if same else ''}"
        f"<br>better with probability {surely:.2f} [{least:.2f}, {most:.2f}]"
        for ours, theirs, by, low, high, same, surely, least, most in found.itertuples(index=False)
    ]
    by_MM, surely_MM, said_MM = (
        found.assign(said=said).pivot(index="method", columns="other", values=key).reindex(index=labels, columns=labels)
        for key in ("difference", "probability of improvement", "said")
    )
    room = 16 + 7 * max(map(len, labels))
    few = count <= _WRITTEN
    columns = 2 if count <= _BESIDE else 1
    side = count * (56 if columns > 1 else 44 if few else 18)
    slanted = columns == 1 or max(map(len, labels)) > 8
    below = slanted_room(labels) if slanted else 52
    titles = (f"difference of {NAMES[aggregate]}s", "probability of improvement")
    panels = Panels(titles, columns, side, gap=0.12, below=below + 30, left=room, right=20, bottom=below)
    for index, (values, most, signed) in enumerate(((by_MM, extent(by_MM), True), (surely_MM, 0.5, False))):
        # Both panels on one diverging axis: each in units of its own extreme.
        shown = np.clip((values - 0.5 * index) / most, -1, 1)
        hover = {"customdata": said_MM.fillna("").to_numpy().tolist(), "hovertemplate": "%{customdata}<extra></extra>"}
        panels.add(index, heat(labels, labels, shown, **hover, **(written(values, signed, 11) if few else {})))
        named = columns == 1 or index == 0
        panels.axis(index, "y", autorange="reversed", showgrid=False, showticklabels=named, ticks="")
        panels.axis(index, "x", showgrid=False, tickangle=-40 if slanted else 0)
        panels.square(index)
    return panels.figure(coloraxis={**colours(-1, 1, "", panels, True), "showscale": False})


def _differences(means: pd.DataFrame, minus: str) -> Figure:
    """Methods across and tasks down, or the other way round where there are many methods and few tasks."""
    shown = means.T if means.shape[1] > max(_WRITTEN, len(means)) else means
    across, down = list(shown.columns), list(shown.index)
    slanted = len(across) > 4
    top = slanted_room(across) if slanted else 34
    height = rows_for(len(down), least=min(120, 40 * len(down)))
    panels = Panels([None], height=height, left=16 + 7 * max(map(len, down)), right=90, top=top)
    share = min(1.0, 0.14 * len(across))  # few cells need not be as wide as the page
    panels.axis(0, "x", side="top", tickangle=-40 if slanted else 0, showgrid=False, domain=[0, share])
    panels.axis(0, "y", autorange="reversed", showgrid=False)
    hover = "%{y}, %{x}: %{z:+.3g}<extra></extra>"
    texts = written(shown, signed=True) if len(across) <= _WRITTEN else {}
    panels.add(0, heat(across, down, shown, hovertemplate=hover, **texts))
    most = extent(shown)
    axis = colours(-most, most, minus, panels, True)
    axis["colorbar"]["x"] = share + 0.01
    return panels.figure(coloraxis=axis)
