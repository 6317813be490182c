"""Task x time heat maps of a training metric, a panel a method."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import Figure, Panels, rows_for, thin_steps
from mtrl_surgery.reports.figures.heats import colours, heat
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.scores import Steps
from mtrl_surgery.reports.series import of_tasks

_TIMES = 80
"""Cells of a row."""


class GridAxis(NamedTuple):
    """What such a heat map shows.

    Attributes:
        key: Of the metric.
        name: On the button.
        low: Where the colours begin; None: at the least value.
        high: Where they end; None: at the greatest.
        title: Of the colour bar.
        scale: The colours; None: the sequential ones.
        form: `log2` of the value over the mean over tasks, `log10` of the value, or the value itself.
        marks: What stands at evenly spaced places of the colour bar.
    """

    key: str
    name: str
    low: float | None
    high: float | None
    title: str
    scale: Any = None
    form: str = ""
    marks: tuple[str, ...] = ()


def task_grid(benchmark: Benchmark, key: str, axis: GridAxis) -> Figure:
    """The figure of a metric that some of the runs have logged."""
    tasks = benchmark.yardstick.tasks
    found = _found(benchmark, key)
    columns = max(1, min(3, len(found)))
    short = [task.removesuffix("-v3") for task in tasks]
    room = 16 + 7 * max(map(len, short))
    height = rows_for(len(tasks), least=120)
    panels = Panels([g.label for g, _, _ in found], columns, height, gap=0.03, below=58, left=room, right=110)
    low, high = [0.0] * (not found), [0.0] * (not found)
    for place, (group, steps, values_TK) in enumerate(found):
        times = thin_steps(len(steps), _TIMES)
        shown_TK = _formed(values_TK[times], axis.form)
        finite = shown_TK[np.isfinite(shown_TK)]
        low.append(float(finite.min()) if len(finite) else 0.0)
        high.append(float(finite.max()) if len(finite) else 0.0)
        labels = [f"{step / 1000:.4g}k" if step >= 1000 else str(step) for step in steps[times].tolist()]
        raw = [[f"{value:.3g}" for value in row] for row in values_TK[times].T]
        hover = f"%{{y}}, step %{{x}}: %{{customdata}}<extra>{group.label}</extra>"
        panels.add(place, heat(labels, short, shown_TK.T, customdata=raw, hovertemplate=hover))
        panels.axis(place, "y", autorange="reversed", showgrid=False, showticklabels=place % columns == 0, ticks="")
        panels.axis(place, "x", type="category", nticks=5, showgrid=False, tickangle=0)
    least = min(low) if axis.low is None else axis.low
    most = max(high) if axis.high is None else axis.high
    bar = colours(least, most if most > least else least + 1, axis.title, panels)
    if axis.scale is not None:
        bar["colorscale"] = axis.scale
    if axis.marks:
        bar["colorbar"] |= {
            "tickvals": np.linspace(least, most, len(axis.marks)).tolist(), "ticktext": list(axis.marks)
        }  # fmt: skip
    return panels.figure(coloraxis=bar)


def grid_cells(benchmark: Benchmark, key: str) -> list[tuple[Any, ...]]:
    """The numbers of the figure: method, step, task, value."""
    cells: list[tuple[Any, ...]] = []
    for group, steps, values_TK in _found(benchmark, key):
        times = thin_steps(len(steps), _TIMES)
        for step, values in zip(steps[times].tolist(), values_TK[times].tolist(), strict=True):
            cells += [(group.label, step, *pair) for pair in zip(benchmark.yardstick.tasks, values, strict=True)]
    return cells


def _found(benchmark: Benchmark, key: str) -> list[tuple[Group, Steps, Floats]]:
    found = [(group, *of_tasks(group, key, benchmark.yardstick.tasks)) for group in benchmark.groups]
    return [(group, steps, values) for group, steps, values in found if np.isfinite(values).any()]


def _formed(values_TK: np.ndarray, form: str) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        if form == "log10":
            return np.where(values_TK > 0, np.log10(values_TK), np.nan)
        if form == "log2":
            share_TK = values_TK / values_TK.mean(1, keepdims=True)
            # What has no share at all, or a negative one, is as far down as the colours go.
            return np.where(np.isfinite(share_TK), np.log2(np.maximum(share_TK, 1e-3)), np.nan)
    return values_TK
