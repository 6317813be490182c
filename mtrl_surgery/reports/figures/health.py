"""How the runs went: rates, lag, restarts; and the temperatures of soft actor-critic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import (
    Figure,
    Panels,
    Part,
    Trace,
    band,
    legend,
    legend_room,
    line,
    look_of,
    numbers,
    step_title,
    thin_steps,
)
from mtrl_surgery.reports.figures.grids import GridAxis, task_grid
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Steps
from mtrl_surgery.reports.series import of_health, of_tasks

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
    if not shown:
        return None
    panels = Panels([name for _, name in shown], 2, 200, gap=0.09, below=90, right=legend_room(benchmark.groups))
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
    figure = panels.figure(showlegend=True, legend=legend(len(benchmark.groups)))
    caption = "A line a run, in its method's colour. Rates depend on the machine and on what else it did."
    return Part("health", "Run health", caption, {"": figure}, ("run", "measure", "step", "value"), rows)


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


def temperatures(benchmark: Benchmark) -> Part | None:
    """SAC's temperature: its mean and range over tasks for each method, and task by task; None where there is none."""
    tasks = benchmark.yardstick.tasks
    panels = Panels([None], height=320, right=legend_room(benchmark.groups), top=34)
    ends: list[float] = []
    for group in benchmark.groups:
        steps, values_TK = of_tasks(group, "temperature", tasks)
        if not len(steps):
            continue
        positive = values_TK[values_TK > 0]
        ends += [float(positive.min()), float(positive.max())] if len(positive) else [1.0]
        times = thin_steps(len(steps), 120)
        own = values_TK[times]
        look = look_of(group)
        if own.shape[1] > 1:
            panels.add(0, band(steps[times], own.min(1), own.max(1), look, group.label))
        panels.add(0, line(steps[times], own.mean(1), look, group.label))
    if not ends:
        return None
    panels.axis(0, "x", title=step_title(benchmark.kind), rangemode="tozero")
    # Where there is hardly a decade, 2 and 5 have marks too.
    marks = 1 if max(ends, default=1.0) > 30 * min(ends, default=1.0) else "D2"
    panels.axis(0, "y", title="temperature", type="log", exponentformat="power", dtick=marks)
    figures: dict[str, Figure] = {
        "mean over tasks": panels.figure(showlegend=True, legend=legend(len(benchmark.groups)))
    }
    by_task = GridAxis("temperature", "task by task", None, None, "log10 of the temperature", None, "log10")
    figure, cells = task_grid(benchmark, "temperature", by_task)
    if figure is not None and len(tasks) > 1:
        figures["task by task"] = figure
    caption = (
        "The entropy bonus that each task's policy still gets: means over seeds; the bands reach from the lowest task "
        "to the highest. A temperature that stays high belongs to a task whose policy has not made up its mind."
    )
    return Part("temperatures", "Temperatures", caption, figures, ("method", "step", "task", "temperature"), cells)


def durations(benchmark: Benchmark) -> list[dict[str, Any]]:
    """A run's facts for the table of runs: status, steps, hours, medians of rates, restarts, resumes."""
    found = []
    for group in benchmark.groups:
        for record in group.records:
            rows = record.rows["health"]
            steps = max((int(row["step"]) for row in rows if "step" in row), default=None)
            walls = [float(row["wall_s"]) for row in rows if "wall_s" in row]
            rate, lag = (of_health(record, key)[1] for key in ("steps_per_s", "lag_updates"))
            restarts = of_health(record, "restarts")[1]
            found.append(
                {
                    "run": record.path.name,
                    "method": group.label,
                    "seed": record.seed,
                    "status": record.status,
                    "steps": steps,
                    "hours": _hours(walls),
                    "steps/s": numbers([np.median(rate)])[0] if len(rate) else None,
                    "lag": numbers([np.mean(lag)])[0] if len(lag) else None,
                    "restarts": int(restarts.max()) if len(restarts) else None,
                    "resumes": len(record.manifest.get("resumed") or ()),
                }
            )
    return found


def _hours(walls: list[float]) -> float | None:
    """The clock starts anew with every resume: each stretch counts up to its last row."""
    if not walls:
        return None
    ends = [before for before, after in pairwise(walls) if after < before]
    return (sum(ends) + walls[-1]) / 3600
