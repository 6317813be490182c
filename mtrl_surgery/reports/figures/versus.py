"""Method against method: by how much, how surely, and on which tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, difference, probability_of_improvement
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, rows_for
from mtrl_surgery.reports.figures.curves import NAMES, whole
from mtrl_surgery.reports.figures.heats import colours, extent, heat, slanted_room, written
from mtrl_surgery.reports.summaries import SUMMARIES, Summary, title

_WRITTEN = 12
"""Methods up to which the numbers stand in the cells."""
_BESIDE = 4
"""Methods up to which two matrices stand side by side."""
_MANY = 16
"""Methods from which on fewer draws of the bootstrap must do: their pairs grow with the square."""

Scored = list[tuple[Group, np.ndarray]]


def method_against_method(
    benchmark: Benchmark, last: int = 5, aggregate: str = "iqm", confidence: float = 0.95
) -> Part:
    """Two matrices, row against column: the difference of aggregates, and the probability of improvement."""
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for how in SUMMARIES:
        scored = ordered(benchmark, how, last, aggregate)
        if len(scored) < 2:
            continue
        found = _pairs(scored, aggregate, confidence)
        rows += [(how, *row) for row in found]
        figures[title(how, last)] = _matrices(scored, found, aggregate)
    caption = (
        f"Row against column, best first. First by how much the row's {NAMES[aggregate]} is above the column's, then "
        "how likely one run of the row's method beats one of the column's on a task drawn at random. Blue: the row is "
        "better. Intervals (on hovering) pair the seeds that both methods have."
    )
    named = (
        "summary", "method", "other", "difference", "difference low", "difference high", "paired seeds",
        "probability of improvement", "probability low", "probability high",
    )  # fmt: skip
    return Part("method_against_method", "Method against method", caption, figures, named, rows)


def task_differences(benchmark: Benchmark, last: int = 5) -> Part | None:
    """Task x method: the mean over seeds minus the baseline's, which is `ls`, or else the first method."""
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    base_name = ""
    for how in SUMMARIES:
        scored = ordered(benchmark, how, last, "mean")
        if len(scored) < 2:
            return None
        base = next((pair for pair in scored if pair[0].label == "ls"), scored[-1])
        base_name = base[0].label
        others = [pair for pair in scored if pair is not base]
        means_KM = np.stack([scores_RK.mean(0) - base[1].mean(0) for _, scores_RK in others], 1)
        labels = [group.label for group, _ in others]
        for task, values in zip(benchmark.tasks, means_KM, strict=True):
            rows += [(how, base_name, label, task, value) for label, value in zip(labels, values, strict=True)]
        figures[title(how, last)] = _differences(labels, benchmark.tasks, means_KM, f"minus {base_name}")
    caption = (
        f"What each method gains (blue) or loses (red) against {base_name}, task by task: the difference of means over "
        f"seeds of the {benchmark.score}. A method that helps on average may still pay for it on some tasks."
    )
    named = ("summary", "baseline", "method", "task", "difference")
    return Part("task_differences", f"Gains and losses against {base_name}", caption, figures, named, rows)


def ordered(benchmark: Benchmark, how: Summary, last: int, aggregate: str) -> Scored:
    """Groups with their summaries [run, task], the best first; those without a whole evaluation are left out."""
    scored = [(group, scores) for group in benchmark.groups if len(scores := whole(group, how, last))]
    return sorted(scored, key=lambda pair: -float(AGGREGATES[aggregate](pair[1])))


def paired(ours: Group, theirs: Group, ours_RK: np.ndarray, theirs_SK: np.ndarray) -> bool:
    """Whether row r of both is the same seed: initial weights, goals and streams follow from it."""
    everyone = len(ours_RK) == len(set(ours.seeds_R)) and len(theirs_SK) == len(theirs.seeds_R)
    return everyone and ours.seeds_R == theirs.seeds_R


def _pairs(scored: Scored, aggregate: str, confidence: float) -> list[tuple[Any, ...]]:
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
    return found


def _matrices(scored: Scored, found: list[tuple[Any, ...]], aggregate: str) -> Figure:
    labels = [group.label for group, _ in scored]
    place = {label: index for index, label in enumerate(labels)}
    count = len(labels)
    by_MM, surely_MM = np.full((2, count, count), np.nan)
    said: list[list[str]] = [[""] * count for _ in labels]
    for ours, theirs, by, low, high, same, surely, least, most in found:
        row, column = place[ours], place[theirs]
        by_MM[row, column], surely_MM[row, column] = by, surely
        said[row][column] = (
            f"{ours} against {theirs}<br>difference {by:+.3g} [{low:+.3g}, {high:+.3g}]"
            f"{', paired seeds' if same else ''}<br>better with probability {surely:.2f} [{least:.2f}, {most:.2f}]"
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
        hover = {"customdata": said, "hovertemplate": "%{customdata}<extra></extra>"}
        panels.add(index, heat(labels, labels, shown, **hover, **(written(values, signed, 11) if few else {})))
        named = columns == 1 or index == 0
        panels.axis(index, "y", autorange="reversed", showgrid=False, showticklabels=named, ticks="")
        panels.axis(index, "x", showgrid=False, tickangle=-40 if slanted else 0)
        panels.square(index)
    return panels.figure(coloraxis={**colours(-1, 1, "", panels, True), "showscale": False})


def _differences(labels: list[str], tasks: tuple[str, ...], means_KM: np.ndarray, minus: str) -> Figure:
    """Methods across and tasks down, or the other way round where there are many methods and few tasks."""
    across, down, values = labels, list(tasks), means_KM
    if len(labels) > max(_WRITTEN, len(tasks)):
        across, down, values = down, across, means_KM.T
    slanted = len(across) > 4
    top = slanted_room(across) if slanted else 34
    height = rows_for(len(down), least=min(120, 40 * len(down)))
    panels = Panels([None], height=height, left=16 + 7 * max(map(len, down)), right=90, top=top)
    share = min(1.0, 0.14 * len(across))  # few cells need not be as wide as the page
    panels.axis(0, "x", side="top", tickangle=-40 if slanted else 0, showgrid=False, domain=[0, share])
    panels.axis(0, "y", autorange="reversed", showgrid=False)
    hover = "%{y}, %{x}: %{z:+.3g}<extra></extra>"
    few = len(across) <= _WRITTEN
    panels.add(0, heat(across, down, values, hovertemplate=hover, **(written(values, signed=True) if few else {})))
    most = extent(values)
    axis = colours(-most, most, minus, panels, True)
    axis["colorbar"]["x"] = share + 0.01
    return panels.figure(coloraxis=axis)
