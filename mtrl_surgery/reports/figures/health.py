"""How the runs went: rates, lag, restarts; and the temperatures of soft actor-critic."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import Figure, Panels, Part, Trace, band, line, step_title, thin_steps
from mtrl_surgery.reports.figures.curves import BANDED
from mtrl_surgery.reports.figures.grids import GridAxis, grid_numbers, task_grid
from mtrl_surgery.reports.series import logs, of_tasks

_RL = (
    ("steps_per_s", "vector steps per second"),
    ("updates_per_s", "updates per second"),
    ("lag_updates", "policy lag, updates"),
    ("restarts", "workers replaced so far"),
)
_SUPERVISED = (("train_seconds", "seconds an epoch"), ("cpu_seconds", "processor seconds an epoch"))
_FACTS = ["step", "wall_s", "steps_per_s", "lag_updates", "restarts"]
_POINTS = 4_000
"""Of all lines of a panel."""


def run_health(benchmark: Benchmark) -> Part | None:
    """Every run's rates over time, in its method's colour; None where nothing was logged."""
    frame = benchmark.frame("health")
    shown = [
        (key, name)
        for key, name in (_RL if benchmark.kind == "rl" else _SUPERVISED)
        if key in frame and frame[key].notna().any()
    ]
    quiet = ""
    if "restarts" in frame and not frame["restarts"].any():
        quiet = " No worker was replaced."
        shown = [(key, name) for key, name in shown if key != "restarts"]
    if not shown:
        return None
    most = min(120, max(12, _POINTS // max(1, len(benchmark.records))))

    def numbers() -> pd.DataFrame:
        long = frame.melt(["group", "run", "seed", "step"], [key for key, _ in shown], "measure").dropna()
        places = long.groupby(["measure", "run"]).cumcount(ascending=False)
        counts = long.groupby(["measure", "run"])["step"].transform("size")
        return long[places % np.maximum(1, -(-counts // most)) == 0]

    def figure() -> Figure:
        panels = Panels([name for _, name in shown], 2, 200, gap=0.09, below=90, legend=benchmark.groups)
        seen: set[str] = set()
        found = numbers()
        # A group's runs are one trace with gaps between them: hundreds of traces would be slow to draw.
        gaps = found.drop_duplicates(["measure", "run"]).assign(step=np.nan, value=np.nan)
        parted = pd.concat([found, gaps]).sort_values("run", kind="stable")
        by_group = dict(iter(parted.groupby(["measure", "group"], observed=True)))
        for place, (key, _) in enumerate(shown):
            for group in benchmark.groups:
                if (key, group.label) in by_group:
                    own = by_group[key, group.label]
                    panels.add(place, _lines(own, group, showlegend=group.label not in seen))
                    seen.add(group.label)
            panels.axis(place, "x", rangemode="tozero", **_titled(benchmark, place >= len(shown) - 2))
            panels.axis(place, "y", rangemode="tozero")
        return panels.figure()

    def table() -> pd.DataFrame:
        names = {place: record.path.name for place, record in enumerate(benchmark.records)}
        return numbers().assign(run=lambda own: own["run"].map(names))[["run", "measure", "step", "value"]]

    caption = "A line a run, in its method's colour. Rates depend on the machine and on what else it did." + quiet
    return Part("health", "Run health", caption, {"": figure}, table)


def _titled(benchmark: Benchmark, titled: bool) -> dict[str, str]:
    return {"title": step_title(benchmark.kind)} if titled else {}


def _lines(own: pd.DataFrame, group: Group, showlegend: bool) -> Trace:
    drawn = line(own["step"], own["value"], group.style, group.label, showlegend=showlegend)
    hover = f"seed %{{customdata}}: %{{y:.4g}} at %{{x:,}}<extra>{group.label}</extra>"
    look = {**drawn["line"], "width": 1.3}
    return {**drawn, "mode": "lines", "line": look, "customdata": own["seed"].tolist(), "hovertemplate": hover}


def temperatures(benchmark: Benchmark) -> Part | None:
    """SAC's temperature: its mean and range over tasks for each method, and task by task; None where there is none."""
    if not logs(benchmark, "temperature"):
        return None
    figures: dict[str, Callable[[], Figure]] = {"mean over tasks": partial(_temperatures_figure, benchmark)}
    if len(benchmark.scoring.tasks) > 1:
        by_task = GridAxis("temperature", "task by task", None, None, "log10 of the temperature", None, "log10")
        figures["task by task"] = partial(task_grid, benchmark, "temperature", by_task)
    bands = "; the bands reach from the lowest task to the highest" if len(benchmark.groups) <= BANDED else ""
    caption = (
        f"The entropy bonus that each task's policy still gets: means over seeds{bands}. A temperature that stays high "
        "belongs to a task whose policy has not made up its mind."
    )
    numbers = partial(grid_numbers, benchmark, "temperature", "temperature")
    return Part("temperatures", "Temperatures", caption, figures, numbers)


def _temperatures_figure(benchmark: Benchmark) -> Figure:
    panels = Panels([None], height=320, top=34, legend=benchmark.groups)
    found = of_tasks(benchmark, "temperature")
    for group in benchmark.groups:
        if group.label in found:
            own = found[group.label].iloc[thin_steps(len(found[group.label]), 120)]
            if own.shape[1] > 1 and len(benchmark.groups) <= BANDED:
                ends = own.min(axis=1, skipna=False), own.max(axis=1, skipna=False)
                panels.add(0, band(own.index, *ends, group.style, group.label))
            panels.add(0, line(own.index, own.mean(axis=1, skipna=False), group.style, group.label))
    panels.axis(0, "x", rangemode="tozero", **_titled(benchmark, True))
    panels.axis(0, "y", title="temperature", type="log")
    every = np.concatenate([own.to_numpy().ravel() for own in found.values()])
    every = every[every > 0]
    if marks := _marks(float(every.min()), float(every.max())) if len(every) else []:
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


def durations(benchmark: Benchmark) -> pd.DataFrame:
    """A row a run for the table of runs: status, steps, seconds, medians of rates, restarts, resumes."""
    health = benchmark.frame("health").reindex(columns=["run", *_FACTS]).astype(np.float64)
    # The clock starts anew with every resume: each stretch counts up to its last row.
    walls = health.dropna(subset="wall_s")
    after = walls.groupby("run")["wall_s"].shift(-1)
    ends = walls[after.isna() | (after < walls["wall_s"])]
    by_run = health.groupby("run")
    facts = {
        "steps": by_run["step"].max().astype("Int64"),
        "seconds": ends.groupby("run")["wall_s"].sum(),
        "steps/s": by_run["steps_per_s"].median(),
        "lag": by_run["lag_updates"].mean(),
        "restarts": by_run["restarts"].max().astype("Int64"),
    }
    records = benchmark.records
    runs = pd.DataFrame(
        {
            "run": [record.path.name for record in records],
            "method": [group.label for group in benchmark.groups for _ in group.records],
            "seed": [record.seed for record in records],
            "status": [record.status for record in records],
            "resumes": [len(record.manifest.get("resumed") or ()) for record in records],
        }
    )
    return runs.join(pd.DataFrame(facts))
