"""Who fights whom, over training, and what each method did about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, short_task
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, line, long, step_title, thin_steps
from mtrl_surgery.reports.figures.grids import GridAxis, grid_numbers, task_grid
from mtrl_surgery.reports.figures.heats import DIVERGING, colours, heat, heats_over_time, slanted_room, written
from mtrl_surgery.reports.series import Pairs, logs, networks, of_pairs, of_run, square
from mtrl_surgery.reports.statistics import Floats, nanmean

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


def conflict_curves(benchmark: Benchmark) -> Part | None:
    """Each method's conflict over training, as means over pairs and seeds; None where nothing was logged."""
    prefixes = networks(benchmark)
    shown = {
        network: [scalar for scalar in _SCALARS if logs(benchmark, prefix + scalar[0])]
        for network, prefix in prefixes.items()
    }
    shown = {network: own for network, own in shown.items() if own}
    if not shown:
        return None

    def figure(network: str) -> Figure:
        titles = [f"{name}<br><sup>{meaning}</sup>" for _, name, meaning in shown[network]]
        panels = Panels(titles, 2, 220, gap=0.09, below=110, top=60, legend=benchmark.groups)
        seen: set[str] = set()
        most = min(_POINTS, max(40, 10 * _POINTS // len(benchmark.groups)))  # among many lines nobody sees more
        for place, (key, _, _) in enumerate(shown[network]):
            found = of_run(benchmark, prefixes[network] + key)
            for group in benchmark.groups:
                if group.label in found:
                    own = found[group.label].iloc[thin_steps(len(found[group.label]), most)]
                    first = group.label not in seen
                    seen.add(group.label)
                    panels.add(place, line(own.index, own, group.style, group.label, showlegend=first))
            last_row = place >= len(titles) - 2
            if key != "mean_cosine":
                panels.axis(place, "y", range=[0, 1.02])
            panels.axis(place, "x", rangemode="tozero", **({"title": step_title(benchmark.kind)} if last_row else {}))
        return panels.figure()

    def numbers() -> pd.DataFrame:
        found = {
            (network, key, label): own.iloc[thin_steps(len(own), _POINTS)]
            for network, scalars in shown.items()
            for key, _, _ in scalars
            for label, own in of_run(benchmark, prefixes[network] + key).items()
        }
        return pd.concat(found, names=["network", "measure", "method", "step"]).rename("value").reset_index()

    caption = "How task gradients conflict while each method trains: means over seeds, pairs of tasks and looks."
    figures = {network: partial(figure, network) for network in shown}
    return Part("conflict_curves", "Conflict over training", caption, figures, numbers)


def conflict_maps(benchmark: Benchmark) -> Part | None:
    """Task x task matrices for each method and third of training; None where no run logged maps."""
    tasks = list(map(short_task, benchmark.scoring.tasks))
    found = of_pairs(benchmark)
    thirds = {
        (network, measure): own
        for network, pairs in found.items()
        for measure in _MEASURES
        if (own := {label: _thirds(maps[measure]) for label, maps in pairs.items() if measure in maps})
    }
    if not thirds:
        return None

    def numbers() -> pd.DataFrame:
        first, second = np.triu_indices(len(tasks), 1)
        ends = {"task": np.array(benchmark.scoring.tasks)[first], "other": np.array(benchmark.scoring.tasks)[second]}
        parts = [
            pd.DataFrame({"network": key[0], "measure": key[1], "method": label, "time": time, **ends, "value": mean_Q})
            for key, own in thirds.items()
            for label, means in own.items()
            for time, mean_Q in zip(THIRDS, means, strict=True)
        ]
        return pd.concat(parts)

    caption = (
        "Which tasks' gradients point apart (red) and together (blue), and which differ in length: means over looks "
        "and seeds, early to late training from left to right."
    )
    if len(tasks) > _NAMED:
        caption += " Tasks: " + ", ".join(f"{place} {task}" for place, task in enumerate(tasks, 1)) + "."
    figures = {
        f"{network}: {_MEASURES[measure][0]}": partial(_maps_figure, own, measure, tasks)
        for (network, measure), own in thirds.items()
    }
    return Part("conflict_map", "The conflict map", caption, figures, numbers)


def _maps_figure(thirds: dict[str, list[Floats]], measure: str, tasks: Sequence[str]) -> Figure:
    """Three panels a method; of two or three tasks, two methods side by side."""
    name, low, high, diverging = _MEASURES[measure]
    count = len(tasks)
    columns = 6 if count <= 3 and len(thirds) > 1 else 3
    few, many = count <= _WRITTEN, count > _NAMED
    side = 48 * count if few else min(_WIDEST, max(130, 18 * count))
    titles = [f"{label}<br><sup>{third}</sup>" for label in thirds for third in THIRDS]
    room = 40 if many else 16 + 7 * max(map(len, tasks))
    below = 40 if many else slanted_room(tasks)
    panels = Panels(titles, columns, side, 0.03, 64, left=room, right=100, top=52, bottom=below)
    places = [0, *range(4, count, 5)]
    numbered = {"tickvals": places, "ticktext": [str(place + 1) for place in places]} if many else {}
    if diverging:  # pairs are seldom parallel or opposed, and would all be pale
        most = float(np.nanmax(np.abs([mean for own in thirds.values() for mean in own]), initial=0.0))
        high = next((end for end in (0.1, 0.2, 0.5) if most <= end), 1.0)
        low = -high
    panel = 0
    for label, means in thirds.items():
        for third, mean_Q in zip(THIRDS, means, strict=True):
            mean_KK = square(mean_Q, count)
            hover = f"%{{y}} and %{{x}}: %{{z:.3g}}<extra>{label}, {third}</extra>"
            texts = written(mean_KK, size=10) if few else {}
            panels.add(panel, heat(tasks, tasks, mean_KK, hovertemplate=hover, **texts))
            left, lowest = panel % columns == 0, panel + columns >= len(titles)
            panels.axis(panel, "y", autorange="reversed", showgrid=False, showticklabels=left, **numbered)
            panels.axis(panel, "x", showgrid=False, showticklabels=lowest, nticks=count, **numbered)
            panels.axis(panel, "x", tickangle=0 if many else -45)
            panels.square(panel)
            panel += 1
    return panels.figure(coloraxis=colours(low, high, name, panels, diverging))


def pairs_over_time(benchmark: Benchmark) -> Part | None:
    """The pairs that fight most, each a row over time; None where no run logged maps."""
    found = {
        network: own
        for network, pairs in of_pairs(benchmark).items()
        if len(benchmark.scoring.tasks) > 2  # a single pair is what the curves show
        and (own := _worst(pairs, list(map(short_task, benchmark.scoring.tasks))))
    }
    if not found:
        return None

    def figure(network: str) -> Figure:
        names = list(map(str, next(iter(found[network].values()))))
        panels = heats_over_time(found[network], names, columns=2)
        return panels.figure(coloraxis=colours(-1, 1, "cosine", panels, True))

    def numbers() -> pd.DataFrame:
        every = {(network, label): own for network, pairs in found.items() for label, own in pairs.items()}
        numbers = long(every, ["network", "method", "step"], "pair", "cosine")
        return numbers[["network", "method", "pair", "step", "cosine"]]

    caption = "The pairs of tasks with the lowest mean cosine, worst first; time runs to the right."
    figures = {network: partial(figure, network) for network in found}
    return Part("conflict_pairs", "Who fights whom", caption, figures, numbers)


def what_methods_did(benchmark: Benchmark) -> Part | None:
    """Each task's weight over time, the direction's cosine with its gradient, and the gradient's length."""
    shown = [
        (network, prefix + axis.key, axis)
        for network, prefix in networks(benchmark).items()
        for axis in _DID
        if logs(benchmark, prefix + axis.key)
    ]
    if not shown:
        return None
    figures: dict[str, Callable[[], Figure]] = {
        f"{network}: {axis.name}": partial(task_grid, benchmark, key, axis) for network, key, axis in shown
    }

    def numbers() -> pd.DataFrame:
        every = {(network, axis.name): grid_numbers(benchmark, key) for network, key, axis in shown}
        return pd.concat(every, names=["network", "measure"]).droplevel(2).reset_index()

    caption = (
        "What the method made of the conflict. Weight: how much of a task's gradient is in the direction, against the "
        "mean over tasks (1: its fair share). Direction: the cosine between the direction and the task's gradient; "
        "below 0 (red) the step raises that task's loss. Gradient length: what the weights had to make up for."
    )
    return Part("methods_did", "What the methods did about it", caption, figures, numbers)


def _thirds(values: pd.DataFrame) -> list[Floats]:
    """Means over each third of the looks; of fewer looks than three, some are the same."""
    values_TQ = values.to_numpy()
    ends = [round(third * len(values_TQ) / 3) for third in range(4)]
    return [nanmean(values_TQ[min(a, len(values_TQ) - 1) : max(b, a + 1)]) for a, b in pairwise(ends)]


def _worst(pairs: Pairs, tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The cosines over time of the pairs with the lowest mean over methods and time, lowest first, by method."""
    own = {label: maps["cosine"] for label, maps in pairs.items() if "cosine" in maps}
    if not own:
        return {}
    order = np.argsort(nanmean(np.stack([nanmean(cosines.to_numpy()) for cosines in own.values()])))[:_PAIRS]
    first, second = np.triu_indices(len(tasks), 1)
    names = [f"{tasks[first[place]]} & {tasks[second[place]]}" for place in order]
    return {
        label: cosines.iloc[thin_steps(len(cosines), 60), order].set_axis(names, axis=1)
        for label, cosines in own.items()
    }
