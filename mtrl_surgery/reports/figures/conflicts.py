"""Who fights whom, over training, and what each method did about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import (
    Drawn,
    Figure,
    Panels,
    Part,
    line,
    look_of,
    rows_for,
    step_title,
    thin_steps,
)
from mtrl_surgery.reports.figures.grids import GridAxis, grid_cells, task_grid
from mtrl_surgery.reports.figures.heats import DIVERGING, colours, heat, slanted_room, written
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.scores import Steps
from mtrl_surgery.reports.series import Maps, logs, networks, of_maps, of_run

THIRDS = ("first third", "second third", "last third")
_WRITTEN = 5
"""Tasks up to which a map has its numbers in its cells."""
_NAMED = 16
"""Tasks up to which a map has their names at its edges; of more it has their numbers, and the caption the names."""
_WIDEST = 300
"""Pixels of a map's side: about what a third of the page leaves it."""
_POINTS = 120
"""Of a curve."""
_PAIRS = 30
"""Pairs of tasks that a figure over time shows: those that fight most."""

_SCALARS = (
    ("conflict_rate", "pairs in conflict", "share of the pairs with a negative inner product"),
    ("mean_cosine", "mean cosine", "over pairs"),
    ("magnitude_similarity", "magnitude similarity", "mean over pairs; 1: gradients of one length"),
    ("triad_rate", "tragic triad", "share of the pairs that can be in PCGrad's tragic triad"),
)
_MEASURES = {
    "cosine": ("cosine", -1.0, 1.0, True),
    "similarity": ("magnitude similarity", 0.0, 1.0, False),
    "conflict": ("share of looks in conflict", 0.0, 1.0, False),
}
_WEIGHT_SCALE = [[0.0, "#762a83"], [0.25, "#af8dc3"], [0.5, "#f7f7f7"], [0.75, "#7fbf7b"], [1.0, "#1b7837"]]
_DID = (
    GridAxis(
        "weights", "weight", -2.0, 2.0, "weight / mean weight", _WEIGHT_SCALE, "log2", ("1/4", "1/2", "1", "2", "4")
    ),
    GridAxis("alignment", "direction", -1.0, 1.0, "cosine with the direction", DIVERGING),
    GridAxis("gradient_norm", "gradient length", None, None, "log10 of the norm", None, "log10"),
)


def conflict_curves(benchmark: Benchmark, every_number: bool = True) -> Part | None:
    """Each method's conflict over training, as means over pairs and seeds; None where nothing was logged.

    Args:
        benchmark: Its runs.
        every_number: Also those that only the CSV file shows.
    """
    prefixes = networks(benchmark.records)
    found = {
        network: [scalar for scalar in _SCALARS if logs(benchmark.records, prefix + scalar[0])]
        for network, prefix in prefixes.items()
    }
    makers = {
        network: partial(_curves_figure, benchmark, prefixes[network], shown)
        for network, shown in found.items()
        if shown
    }
    if not makers:
        return None
    rows: list[tuple[Any, ...]] = []
    for network in makers if every_number else ():
        for key, _, _ in found[network]:
            for group in benchmark.groups:
                steps, values = _curve(group, prefixes[network] + key, _POINTS)
                rows += [(network, key, group.label, s, v) for s, v in zip(steps, values, strict=True)]
    caption = "How task gradients conflict while each method trains: means over seeds, pairs of tasks and looks."
    named = ("network", "measure", "method", "step", "value")
    return Part("conflict_curves", "Conflict over training", caption, Drawn(makers), named, rows)


def _curves_figure(benchmark: Benchmark, prefix: str, shown: Sequence[tuple[str, str, str]]) -> Figure:
    titles = [f"{name}<br><sup>{meaning}</sup>" for _, name, meaning in shown]
    panels = Panels(titles, 2, 220, gap=0.09, below=110, top=60, legend=benchmark.groups)
    seen: set[str] = set()
    most = min(_POINTS, max(40, 10 * _POINTS // len(benchmark.groups)))  # among many lines nobody sees more
    for place, (key, _, _) in enumerate(shown):
        for group in benchmark.groups:
            steps, values = _curve(group, prefix + key, most)
            if len(steps):
                first = group.label not in seen
                seen.add(group.label)
                panels.add(place, line(steps, values, look_of(group), group.label, showlegend=first))
        last_row = place >= len(shown) - 2
        if key != "mean_cosine":
            panels.axis(place, "y", range=[0, 1.02])
        panels.axis(place, "x", rangemode="tozero", **({"title": step_title(benchmark.kind)} if last_row else {}))
    return panels.figure()


def _curve(group: Group, key: str, most: int) -> tuple[Steps, Floats]:
    steps, values = of_run(group, key)
    times = thin_steps(len(steps), most)
    return steps[times], values[times]


def conflict_maps(benchmark: Benchmark, every_number: bool = True) -> Part | None:
    """Task x task matrices for each method and third of training; None where no run logged maps.

    Args:
        benchmark: Its runs.
        every_number: Also those that only the CSV file shows.
    """
    found = _found(benchmark)
    makers: dict[str, Callable[[], Figure]] = {}
    rows: list[tuple[Any, ...]] = []
    for network in dict.fromkeys(network for _, maps in found for network in maps):
        for measure in _MEASURES:
            own = [(g, m[network]) for g, m in found if network in m and measure in m[network].values_TKK]
            if not own:
                continue
            makers[f"{network}: {_MEASURES[measure][0]}"] = partial(_maps_figure, own, measure)
            for group, maps in own if every_number else ():
                for third, mean_KK in zip(THIRDS, _thirds(maps, measure), strict=True):
                    rows += _cells((network, measure, group.label, third), maps.tasks, mean_KK)
    if not makers:
        return None
    caption = (
        "Which tasks' gradients point apart (red) and together (blue), and which differ in length: means over looks "
        "and seeds, early to late training from left to right."
    )
    tasks = next(iter(found[0][1].values())).tasks
    if len(tasks) > _NAMED:
        caption += " Tasks: " + ", ".join(f"{place} {_short(task)}" for place, task in enumerate(tasks, 1)) + "."
    named = ("network", "measure", "method", "time", "task", "other", "value")
    return Part("conflict_map", "The conflict map", caption, Drawn(makers), named, rows)


def _maps_figure(found: list[tuple[Group, Maps]], measure: str) -> Figure:
    """Three panels a method; of two or three tasks, two methods side by side."""
    own = [(group, maps, _thirds(maps, measure)) for group, maps in found]
    name, low, high, diverging = _MEASURES[measure]
    tasks = [_short(task) for task in own[0][1].tasks]
    count = len(tasks)
    columns = 6 if count <= 3 and len(own) > 1 else 3
    few, many = count <= _WRITTEN, count > _NAMED
    side = 48 * count if few else min(_WIDEST, max(130, 18 * count))
    titles = [f"{group.label}<br><sup>{third}</sup>" for group, _, _ in own for third in THIRDS]
    room = 40 if many else 16 + 7 * max(map(len, tasks))
    below = 40 if many else slanted_room(tasks)
    panels = Panels(titles, columns, side, 0.03, 64, left=room, right=100, top=52, bottom=below)
    places = [0, *range(4, count, 5)]
    numbered = {"tickvals": places, "ticktext": [str(place + 1) for place in places]} if many else {}
    if diverging:  # pairs are seldom parallel or opposed, and would all be pale
        most = max((float(np.nanmax(np.abs(t), initial=0.0)) for _, _, thirds in own for t in thirds), default=1.0)
        high = next(end for end in (0.1, 0.2, 0.5, 1.0, np.inf) if most <= end)
        high = min(high, 1.0)
        low = -high
    for row, (group, maps, thirds) in enumerate(own):
        labels = [_short(task) for task in maps.tasks]
        for third, mean_KK in enumerate(thirds):
            place = 3 * row + third
            hover = f"%{{y}} and %{{x}}: %{{z:.3g}}<extra>{group.label}, {THIRDS[third]}</extra>"
            numbers = written(mean_KK, size=10) if few else {}
            panels.add(place, heat(labels, labels, mean_KK, hovertemplate=hover, **numbers))
            lowest = place + columns >= len(titles)
            panels.axis(
                place, "y", autorange="reversed", showgrid=False, showticklabels=place % columns == 0, **numbered
            )
            panels.axis(place, "x", showgrid=False, showticklabels=lowest, nticks=count, **numbered)
            panels.axis(place, "x", tickangle=0 if many else -45)
            panels.square(place)
    return panels.figure(coloraxis=colours(low, high, name, panels, diverging))


def pairs_over_time(benchmark: Benchmark) -> Part | None:
    """The pairs that fight most, each a row over time; None where no run logged maps."""
    found = _found(benchmark)
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for network in dict.fromkeys(network for _, maps in found for network in maps):
        own = [
            (group, maps[network])
            for group, maps in found
            if "cosine" in maps.get(network, Maps((), *_EMPTY)).values_TKK
        ]
        if not own or len(own[0][1].tasks) < 3:
            continue  # a single pair is what the curves show
        pairs = _worst(own)
        tasks = own[0][1].tasks
        names = [f"{_short(tasks[a])} & {_short(tasks[b])}" for a, b in pairs]
        columns = min(2, len(own))
        room = 16 + 6 * max(map(len, names))
        panels = Panels([g.label for g, _ in own], columns, rows_for(len(pairs)), gap=0.04, left=room, right=100)
        for place, (group, maps) in enumerate(own):
            times = thin_steps(len(maps.steps_T), 60)
            cosine_QT = np.stack([maps.values_TKK["cosine"][times, a, b] for a, b in pairs])
            steps = [f"{step / 1000:g}k" if step >= 1000 else str(step) for step in maps.steps_T[times].tolist()]
            hover = f"%{{y}}, step %{{x}}: %{{z:.3f}}<extra>{group.label}</extra>"
            panels.add(place, heat(steps, names, cosine_QT, hovertemplate=hover))
            panels.axis(place, "y", autorange="reversed", showgrid=False, showticklabels=place % columns == 0)
            panels.axis(place, "x", type="category", nticks=6, showgrid=False, tickangle=0)
            for name, values in zip(names, cosine_QT, strict=True):
                steps_T = maps.steps_T[times].tolist()
                rows += [(network, group.label, name, s, v) for s, v in zip(steps_T, values.tolist(), strict=True)]
        bar = colours(-1, 1, "cosine", panels, True)
        figures[network] = panels.figure(coloraxis=bar)
    if not figures:
        return None
    caption = "The pairs of tasks with the lowest mean cosine, worst first; time runs to the right."
    return Part(
        "conflict_pairs", "Who fights whom", caption, figures, ("network", "method", "pair", "step", "cosine"), rows
    )


def what_methods_did(benchmark: Benchmark, every_number: bool = True) -> Part | None:
    """Each task's weight over time, the direction's cosine with its gradient, and the gradient's length.

    Args:
        benchmark: Its runs.
        every_number: Also those that only the CSV file shows.
    """
    makers: dict[str, Callable[[], Figure]] = {}
    rows: list[tuple[Any, ...]] = []
    for network, prefix in networks(benchmark.records).items():
        for axis in _DID:
            key = prefix + axis.key
            if logs(benchmark.records, key):
                makers[f"{network}: {axis.name}"] = partial(task_grid, benchmark, key, axis)
                cells = grid_cells(benchmark, key) if every_number else ()
                rows += [(network, axis.name, *cell) for cell in cells]
    if not makers:
        return None
    caption = (
        "What the method made of the conflict. Weight: how much of a task's gradient is in the direction, against the "
        "mean over tasks (1: its fair share). Direction: the cosine between the direction and the task's gradient; "
        "below 0 (red) the step raises that task's loss. Gradient length: what the weights had to make up for."
    )
    return Part(
        "methods_did",
        "What the methods did about it",
        caption,
        Drawn(makers),
        ("network", "measure", "method", "step", "task", "value"),
        rows,
    )


_EMPTY: tuple[Any, dict[str, Any]] = (np.zeros(0, np.int64), {})


def _found(benchmark: Benchmark) -> list[tuple[Group, dict[str, Maps]]]:
    found = [(group, of_maps(group)) for group in benchmark.groups]
    return [(group, maps) for group, maps in found if maps]


def _thirds(maps: Maps, measure: str) -> list[np.ndarray]:
    """Means over each third of the looks; of fewer looks than three, some are the same."""
    values_TKK = maps.values_TKK[measure]
    ends = [round(third * len(values_TKK) / 3) for third in range(4)]
    parts = [values_TKK[min(a, len(values_TKK) - 1) : max(b, a + 1)] for a, b in pairwise(ends)]
    return [_nanmean(part) for part in parts]


def _worst(own: list[tuple[Group, Maps]]) -> list[tuple[int, int]]:
    """Pairs by their mean cosine over methods and time, the lowest first."""
    mean_KK = _nanmean(np.stack([_nanmean(maps.values_TKK["cosine"]) for _, maps in own]))
    first, second = np.triu_indices(len(mean_KK), 1)
    order = np.argsort(mean_KK[first, second])[:_PAIRS]
    return [(int(first[place]), int(second[place])) for place in order]


def _nanmean(values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(0) / there.sum(0))


def _cells(head: tuple[Any, ...], tasks: tuple[str, ...], mean_KK: np.ndarray) -> list[tuple[Any, ...]]:
    first, second = np.triu_indices(len(tasks), 1)
    return [(*head, tasks[a], tasks[b], float(mean_KK[a, b])) for a, b in zip(first, second, strict=True)]


def _short(task: str) -> str:
    return task.removesuffix("-v3")
