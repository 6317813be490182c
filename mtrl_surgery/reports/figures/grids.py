"""Task x time heat maps of a training metric, a panel a method."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, short_task
from mtrl_surgery.reports.figures.base import Figure, long, thin_steps
from mtrl_surgery.reports.figures.heats import colours, heats_over_time
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
    found = _thinned(benchmark, key)
    form = partial(_formed, form=axis.form)
    panels = heats_over_time(found, list(map(short_task, benchmark.scoring.tasks)), right=110, form=form)
    every = np.concatenate([form(values.to_numpy()).ravel() for values in found.values()] or [np.zeros(0)])
    every = every[np.isfinite(every)]
    every = every if len(every) else np.zeros(1)
    least = float(every.min()) if axis.low is None else axis.low
    most = float(every.max()) if axis.high is None else axis.high
    bar = colours(least, most if most > least else least + 1, axis.title, panels)
    if axis.scale is not None:
        bar["colorscale"] = axis.scale
    if axis.marks:
        places = np.linspace(least, most, len(axis.marks)).tolist()
        bar["colorbar"] |= {"tickvals": places, "ticktext": list(axis.marks)}
    return panels.figure(coloraxis=bar)


def grid_numbers(benchmark: Benchmark, key: str, name: str = "value") -> pd.DataFrame:
    """The numbers of the figure: method, step, task, value."""
    found = _thinned(benchmark, key)
    if not found:
        return pd.DataFrame(columns=["method", "step", "task", name])
    return long(found, ["method", "step"], "task", name)


def _thinned(benchmark: Benchmark, key: str) -> dict[str, pd.DataFrame]:
    return {label: own.iloc[thin_steps(len(own), _TIMES)] for label, own in of_tasks(benchmark, key).items()}


def _formed(values_TK: np.ndarray, form: str) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        if form == "log10":
            return np.where(values_TK > 0, np.log10(values_TK), np.nan)
        if form == "log2":
            share_TK = values_TK / values_TK.mean(1, keepdims=True)
            # What has no share at all, or a negative one, is as far down as the colours go.
            return np.where(np.isfinite(share_TK), np.log2(np.maximum(share_TK, 1e-3)), np.nan)
    return values_TK
