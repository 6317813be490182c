"""Training metrics over time, by group: of the run, of its tasks, and of its pairs of tasks.

Values are means over the group's seeds; where a seed has no row, over the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.benchmarks import Benchmark
from mtrl_surgery.reports.statistics import Floats

Pairs = dict[str, dict[str, pd.DataFrame]]
"""By group's label and measure (`cosine`, `similarity`, ...): a row a step, a column a pair above the diagonal."""


def networks(benchmark: Benchmark) -> dict[str, str]:
    """The networks whose gradients are logged, and what their keys begin with."""
    found = {name: f"{name}/" for name in ("critic", "actor") if logs(benchmark, f"{name}/weights")}
    return found or ({"shared parameters": ""} if logs(benchmark, "weights") else {})


def logs(benchmark: Benchmark, key: str) -> bool:
    """Whether any of the runs has logged a metric."""
    frame = benchmark.frame("metrics")
    return key in frame and bool(frame[key].notna().any())


def of_run(benchmark: Benchmark, key: str) -> dict[str, pd.Series[float]]:
    """A metric of the whole run by step, of each group that has it."""
    frame = benchmark.frame("metrics")
    if key not in frame:
        return {}
    own = frame[frame["task"].isna()]
    means = _numbers(own[key]).groupby([own["group"], own["step"]], observed=True).mean().dropna()
    return {str(label): found.droplevel(0) for label, found in means.groupby(level=0, observed=True)}


def of_tasks(benchmark: Benchmark, key: str) -> dict[str, pd.DataFrame]:
    """A metric of each task, a row a step and a column a task, of each group that has it."""
    frame, tasks = benchmark.frame("metrics"), list(benchmark.scoring.tasks)
    if key not in frame:
        return {}
    own = frame[frame["task"].isin(tasks)]
    means = _numbers(own[key]).groupby([own["group"], own["step"], own["task"]], observed=True).mean().dropna()
    return {
        str(label): found.droplevel(0).unstack().reindex(columns=tasks)
        for label, found in means.groupby(level=0, observed=True)
    }


def of_pairs(benchmark: Benchmark) -> dict[str, Pairs]:
    """The maps of each network; none where no run logged any."""
    frame, found = benchmark.frame("conflicts"), dict[str, Pairs]()
    if frame.empty:
        return found
    measures = [key for key in frame if any(isinstance(value, np.ndarray) for value in frame[key])]
    for (network, label), own in frame.groupby(["network", "group"], observed=True):
        there = {key: own[own[key].notna()] for key in measures}
        found.setdefault(str(network), {})[str(label)] = {
            str(key): pd.DataFrame(np.stack(rows[key].tolist()), index=rows["step"]).groupby(level=0).mean()
            for key, rows in there.items()
            if len(rows)
        }
    return dict(sorted(found.items(), key=lambda pair: pair[0] != "critic"))


def square(values_Q: Floats, tasks: int) -> Floats:
    """Values of pairs as a symmetric matrix, [task, task]; NaN on the diagonal."""
    whole_KK = np.full((tasks, tasks), np.nan)
    first, second = np.triu_indices(tasks, 1)
    whole_KK[first, second] = whole_KK[second, first] = values_Q
    return whole_KK


def _numbers(column: pd.Series[Any]) -> pd.Series[float]:
    """What of a column is no number is NaN."""
    return pd.to_numeric(column, errors="coerce").astype(np.float64)
