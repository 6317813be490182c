"""Method against method: by how much, how surely, and on which tasks."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.bootstrap import AGGREGATES, difference, probability_of_improvement
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, colours, extent, heat, rows_for, slanted_room
from mtrl_surgery.reports.figures.curves import NAMES, whole
from mtrl_surgery.reports.summaries import SUMMARIES, Summary, title

_WRITTEN = 12
"""Methods up to which the numbers stand in the cells."""
_MANY = 16
"""Methods from which on fewer draws of the bootstrap must do: their pairs grow with the square."""

Scored = list[tuple[Group, np.ndarray]]


def method_against_method(
    benchmark: Benchmark, last: int = 5, aggregate: str = "iqm", confidence: float = 0.95
) -> Part:
    """Two matrices, row minus column: the difference of aggregates, and the probability of improvement."""
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for how in SUMMARIES:
        scored = ordered(benchmark, how, last, aggregate)
        if len(scored) < 2:
            continue
        found = _pairs(scored, aggregate, confidence)
        rows += [(how, *row) for row in found]
        figures[title(how, last)] = _matrices(scored, found, aggregate, benchmark)
    caption = (
        f"Row against column, best first. Left: by how much the row's {NAMES[aggregate]} is above the column's. Right: "
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
        height = rows_for(len(benchmark.tasks), least=120)
        panels = Panels([None], height=height, left=16 + 7 * max(map(len, benchmark.tasks)), right=90, top=90)
        hover = "%{y}, %{x}: %{z:+.3f}<extra></extra>"
        few = len(labels) <= _WRITTEN
        text = {"text": _texts(means_KM, "+.2f"), "texttemplate": "%{text}"} if few else {}
        panels.add(0, heat(labels, benchmark.tasks, means_KM, hovertemplate=hover, **text))
        panels.axis(0, "x", side="top", tickangle=-30 if len(labels) > 4 else 0, showgrid=False)
        panels.axis(0, "y", autorange="reversed", showgrid=False)
        most = extent(means_KM)
        figures[title(how, last)] = panels.figure(coloraxis=colours(-most, most, f"minus {base_name}", panels, True))
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
            by = difference(ours_RK, theirs_SK, AGGREGATES[aggregate], same, confidence, draws)
            surely = probability_of_improvement(ours_RK, theirs_SK, confidence, draws)
            found.append((ours.label, theirs.label, *by, same, *surely))
            back = (-by.value, -by.high, -by.low, same, 1 - surely.value, 1 - surely.high, 1 - surely.low)
            found.append((theirs.label, ours.label, *back))
    return found


def _matrices(scored: Scored, found: list[tuple[Any, ...]], aggregate: str, benchmark: Benchmark) -> Figure:
    labels = [group.label for group, _ in scored]
    place = {label: index for index, label in enumerate(labels)}
    count = len(labels)
    by_MM, surely_MM = np.full((2, count, count), np.nan)
    said: list[list[str]] = [[""] * count for _ in labels]
    for ours, theirs, by, low, high, same, surely, least, most in found:
        row, column = place[ours], place[theirs]
        by_MM[row, column], surely_MM[row, column] = by, surely
        said[row][column] = (
            f"{ours} against {theirs}<br>difference {by:+.3f} [{low:+.3f}, {high:+.3f}]"
            f"{', paired seeds' if same else ''}<br>better with probability {surely:.2f} [{least:.2f}, {most:.2f}]"
        )
    side = max(150, min(26, 320 // count + 8) * count)
    room = 16 + 7 * max(map(len, labels))
    titles = (f"difference of {NAMES[aggregate]}s", "probability of improvement")
    panels = Panels(titles, 2, side, gap=0.12, left=room, right=20, bottom=slanted_room(labels) if count > 4 else 52)
    most = extent(by_MM)
    for index, (values, scale, form) in enumerate(((by_MM, most, "+.2f"), (2 * surely_MM - 1, 1.0, ".2f"))):
        shown = by_MM if index == 0 else surely_MM
        written = {"text": _texts(shown, form), "texttemplate": "%{text}"} if count <= _WRITTEN else {}
        # Both panels on one diverging axis: each in units of its own extreme.
        trace = heat(
            labels,
            labels,
            np.clip(values / scale, -1, 1),
            customdata=said,
            hovertemplate="%{customdata}<extra></extra>",
        )
        panels.add(index, {**trace, **written})
        panels.axis(index, "y", autorange="reversed", showgrid=False, showticklabels=index == 0, ticks="")
        panels.axis(index, "x", showgrid=False, tickangle=-40 if count > 4 else 0)
    return panels.figure(coloraxis={**colours(-1, 1, "", panels, True), "showscale": False})


def _texts(values: np.ndarray, form: str) -> list[list[str]]:
    return [["" if not np.isfinite(value) else f"{round(value, 2) + 0.0:{form}}" for value in row] for row in values]
