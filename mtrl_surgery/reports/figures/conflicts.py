"""Who fights whom, over training, and what each method did about it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import (
    DIVERGING,
    Figure,
    Panels,
    Part,
    colours,
    heat,
    legend,
    legend_room,
    line,
    look_of,
    rows_for,
    slanted_room,
    step_title,
    thin_steps,
)
from mtrl_surgery.reports.figures.grids import GridAxis, task_grid
from mtrl_surgery.reports.series import Maps, networks, of_maps, of_run

THIRDS = ("first third", "second third", "last third")
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


def conflict_curves(benchmark: Benchmark) -> Part | None:
    """Each method's conflict over training, as means over pairs and seeds; None where nothing was logged."""
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for network, prefix in networks(benchmark.records).items():
        drawn = {
            key: [(group, *series) for group in benchmark.groups if len((series := of_run(group, prefix + key))[0])]
            for key, _, _ in _SCALARS
        }
        shown = [scalar for scalar in _SCALARS if drawn[scalar[0]]]
        if not shown:
            continue
        titles = [f"{name}<br><sup>{meaning}</sup>" for _, name, meaning in shown]
        panels = Panels(titles, 2, 220, gap=0.09, below=110, right=legend_room(benchmark.groups), top=60)
        seen: set[str] = set()
        for place, (key, _, _) in enumerate(shown):
            for group, steps, values in drawn[key]:
                times = thin_steps(len(steps), 120)
                first = group.label not in seen
                seen.add(group.label)
                panels.add(place, line(steps[times], values[times], look_of(group), group.label, showlegend=first))
                rows += [(network, key, group.label, s, v) for s, v in zip(steps[times], values[times], strict=True)]
            last_row = place >= len(shown) - 2
            if key != "mean_cosine":
                panels.axis(place, "y", range=[0, 1.02])
            panels.axis(place, "x", rangemode="tozero", **({"title": step_title(benchmark.kind)} if last_row else {}))
        figures[network] = panels.figure(showlegend=True, legend=legend(len(benchmark.groups)))
    if not figures:
        return None
    caption = "How task gradients conflict while each method trains: means over seeds, pairs of tasks and looks."
    named = ("network", "measure", "method", "step", "value")
    return Part("conflict_curves", "Conflict over training", caption, figures, named, rows)


def conflict_maps(benchmark: Benchmark) -> Part | None:
    """Task x task matrices for each method and third of training; None where no run logged maps."""
    found = _found(benchmark)
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for network in dict.fromkeys(network for _, maps in found for network in maps):
        own = [(group, maps[network]) for group, maps in found if network in maps]
        for measure, (name, low, high, diverging) in _MEASURES.items():
            own_of = [(group, maps) for group, maps in own if measure in maps.values_TKK]
            if not own_of:
                continue
            count = len(own_of[0][1].tasks)
            side = max(130, 18 * count)
            short = [_short(task) for task in own_of[0][1].tasks]
            titles = [f"{group.label}, {third}" for group, _ in own_of for third in THIRDS]
            room = 16 + 7 * max(map(len, short))
            panels = Panels(titles, 3, side, gap=0.03, below=40, left=room, right=100, bottom=slanted_room(short))
            for row, (group, maps) in enumerate(own_of):
                tasks = [_short(task) for task in maps.tasks]
                for column, mean_KK in enumerate(_thirds(maps, measure)):
                    place = 3 * row + column
                    hover = f"%{{y}} and %{{x}}: %{{z:.3f}}<extra>{group.label}, {THIRDS[column]}</extra>"
                    panels.add(place, heat(tasks, tasks, mean_KK, hovertemplate=hover))
                    panels.axis(place, "y", autorange="reversed", showgrid=False, showticklabels=column == 0)
                    last_row = row == len(own_of) - 1
                    panels.axis(place, "x", showgrid=False, tickangle=-45, showticklabels=last_row, nticks=len(tasks))
                    rows += _cells((network, measure, group.label, THIRDS[column]), maps.tasks, mean_KK)
            bar = colours(low, high, name, panels, diverging)
            figures[f"{network}: {name}"] = panels.figure(coloraxis=bar)
    if not figures:
        return None
    caption = (
        "Which tasks' gradients point apart (red) and together (blue), and which differ in length: means over looks "
        "and seeds, a row a method, early to late training from left to right."
    )
    named = ("network", "measure", "method", "time", "task", "other", "value")
    return Part("conflict_map", "The conflict map", caption, figures, named, rows)


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


def what_methods_did(benchmark: Benchmark) -> Part | None:
    """Each task's weight over time, the direction's cosine with its gradient, and the gradient's length."""
    figures: dict[str, Figure] = {}
    rows: list[tuple[Any, ...]] = []
    for network, prefix in networks(benchmark.records).items():
        for axis in _DID:
            figure, cells = task_grid(benchmark, prefix + axis.key, axis)
            if figure is not None:
                figures[f"{network}: {axis.name}"] = figure
                rows += [(network, axis.name, *cell) for cell in cells]
    if not figures:
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
        figures,
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
