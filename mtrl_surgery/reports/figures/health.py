"""How the runs went: rates, lag, restarts; and the temperatures of soft actor-critic."""

from __future__ import annotations

import math
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
    Trace,
    band,
    line,
    look_of,
    numbers,
    step_title,
    thin_steps,
)
from mtrl_surgery.reports.figures.curves import BANDED
from mtrl_surgery.reports.figures.grids import GridAxis, grid_cells, task_grid
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Steps
from mtrl_surgery.reports.series import logs, of_health, of_tasks

_RL = (
    ("steps_per_s", "vector steps per second"),
    ("updates_per_s", "updates per second"),
    ("lag_updates", "policy lag, updates"),
    ("restarts", "workers replaced so far"),
)
_SUPERVISED = (("train_seconds", "seconds an epoch"), ("cpu_seconds", "processor seconds an epoch"))


_POINTS = 4_000
"""Of all lines of a panel."""


def run_health(benchmark: Benchmark) -> Part | None:
    """Every run's rates over time, in its method's colour; None where nothing was logged."""
    shown = [
        (key, name)
        for key, name in (_RL if benchmark.kind == "rl" else _SUPERVISED)
        if any(len(of_health(record, key)[0]) for record in benchmark.records)
    ]
    quiet = ""
    if not any(of_health(record, "restarts")[1].any() for record in benchmark.records):
        quiet = " No worker was replaced." if any(key == "restarts" for key, _ in shown) else ""
        shown = [(key, name) for key, name in shown if key != "restarts"]
    if not shown:
        return None
    panels = Panels([name for _, name in shown], 2, 200, gap=0.09, below=90, legend=benchmark.groups)
    rows: list[tuple[Any, ...]] = []
    seen: set[str] = set()
    most = min(120, max(12, _POINTS // max(1, len(benchmark.records))))
    for place, (key, _) in enumerate(shown):
        for group in benchmark.groups:
            lines = [(record, *_thinned(of_health(record, key), most)) for record in group.records]
            lines = [(record, steps, values) for record, steps, values in lines if len(steps)]
            if not lines:
                continue
            first = group.label not in seen
            seen.add(group.label)
            panels.add(place, _lines(lines, group, showlegend=first))
            for record, steps, values in lines:
                rows += [(record.path.name, key, s, v) for s, v in zip(steps, values, strict=True)]
        panels.axis(place, "x", rangemode="tozero")
        panels.axis(place, "y", rangemode="tozero")
    for place in range(max(0, len(shown) - 2), len(shown)):
        panels.axis(place, "x", title=step_title(benchmark.kind))
    caption = "A line a run, in its method's colour. Rates depend on the machine and on what else it did." + quiet
    return Part("health", "Run health", caption, {"": panels.figure()}, ("run", "measure", "step", "value"), rows)


def _thinned(series: tuple[Steps, Floats], most: int) -> tuple[Steps, Floats]:
    times = thin_steps(len(series[0]), most)
    return series[0][times], series[1][times]


def _lines(lines: Sequence[tuple[Record, Steps, Floats]], group: Group, showlegend: bool) -> Trace:
    """A group's runs as one trace with gaps between them: hundreds of traces would be slow to draw."""
    gap = np.full(1, np.nan)
    x = np.concatenate([part for _, steps, _ in lines for part in (steps.astype(np.float64), gap)])
    y = np.concatenate([part for _, _, values in lines for part in (values, gap)])
    drawn = line(x, y, look_of(group), group.label, showlegend=showlegend)
    hover = f"seed %{{customdata}}: %{{y:.4g}} at %{{x:,}}<extra>{group.label}</extra>"
    seeds = [record.seed for record, steps, _ in lines for _ in range(len(steps) + 1)]
    look = {**drawn["line"], "width": 1.3}
    return {**drawn, "mode": "lines", "line": look, "customdata": seeds, "hovertemplate": hover}


def temperatures(benchmark: Benchmark, every_number: bool = True) -> Part | None:
    """SAC's temperature: its mean and range over tasks for each method, and task by task; None where there is none.

    Args:
        benchmark: Its runs.
        every_number: Also those that only the CSV file shows.
    """
    if not logs(benchmark.records, "temperature"):
        return None
    makers: dict[str, Callable[[], Figure]] = {"mean over tasks": partial(_temperatures_figure, benchmark)}
    if len(benchmark.yardstick.tasks) > 1:
        by_task = GridAxis("temperature", "task by task", None, None, "log10 of the temperature", None, "log10")
        makers["task by task"] = partial(task_grid, benchmark, "temperature", by_task)
    bands = "; the bands reach from the lowest task to the highest" if len(benchmark.groups) <= BANDED else ""
    caption = (
        f"The entropy bonus that each task's policy still gets: means over seeds{bands}. A temperature that stays high "
        "belongs to a task whose policy has not made up its mind."
    )
    cells = grid_cells(benchmark, "temperature") if every_number else []
    named = ("method", "step", "task", "temperature")
    return Part("temperatures", "Temperatures", caption, Drawn(makers), named, cells)


def _temperatures_figure(benchmark: Benchmark) -> Figure:
    panels = Panels([None], height=320, top=34, legend=benchmark.groups)
    ends: list[float] = []
    for group in benchmark.groups:
        steps, values_TK = of_tasks(group, "temperature", benchmark.yardstick.tasks)
        if not len(steps):
            continue
        positive = values_TK[values_TK > 0]
        ends += [float(positive.min()), float(positive.max())] if len(positive) else []
        times = thin_steps(len(steps), 120)
        own = values_TK[times]
        look = look_of(group)
        if own.shape[1] > 1 and len(benchmark.groups) <= BANDED:
            panels.add(0, band(steps[times], own.min(1), own.max(1), look, group.label))
        panels.add(0, line(steps[times], own.mean(1), look, group.label))
    panels.axis(0, "x", title=step_title(benchmark.kind), rangemode="tozero")
    panels.axis(0, "y", title="temperature", type="log")
    if marks := _marks(min(ends), max(ends)) if ends else []:
        panels.axis(0, "y", tickvals=marks, ticktext=[f"{mark:g}" for mark in marks])
    return panels.figure()


def _marks(low: float, high: float) -> list[float]:
    """Of a logarithmic axis: powers of ten, with more between them where there are few; none where all are too far."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5), range(1, 10)):
        marks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        if sum(low <= mark <= high for mark in marks) > 2:
            return marks
    return []


def durations(benchmark: Benchmark) -> list[dict[str, Any]]:
    """A run's facts for the table of runs: status, steps, seconds, medians of rates, restarts, resumes."""
    return [
        {"method": group.label, **record.derived(("health", "manifest"), "durations", lambda own=record: _facts(own))}  # type: ignore[misc]
        for group in benchmark.groups
        for record in group.records
    ]


def _facts(record: Record) -> dict[str, Any]:
    rows = record.rows["health"]
    walls = [float(row["wall_s"]) for row in rows if "wall_s" in row]
    rate, lag, restarts = (of_health(record, key)[1] for key in ("steps_per_s", "lag_updates", "restarts"))
    return {
        "run": record.path.name,
        "seed": record.seed,
        "status": record.status,
        "steps": max((int(row["step"]) for row in rows if "step" in row), default=None),
        "seconds": _seconds(walls),
        "steps/s": numbers([np.median(rate)])[0] if len(rate) else None,
        "lag": numbers([np.mean(lag)])[0] if len(lag) else None,
        "restarts": int(restarts.max()) if len(restarts) else None,
        "resumes": len(record.manifest.get("resumed") or ()),
    }


def _seconds(walls: list[float]) -> float | None:
    """The clock starts anew with every resume: each stretch counts up to its last row."""
    if not walls:
        return None
    ends = [before for before, after in pairwise(walls) if after < before]
    return sum(ends) + walls[-1]
