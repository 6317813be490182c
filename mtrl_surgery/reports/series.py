"""Training metrics of a group as arrays over time: of the run, of its tasks, and of its pairs of tasks.

Values are means over the group's seeds; where a seed has no row, over the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.benchmarks import Group
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.tail import Row

Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Maps:
    """What one network's looks at pairs of tasks saw over time.

    Attributes:
        tasks: K names.
        steps_T: Of the looks' intervals.
        values_TKK: By measure (`cosine`, `similarity`, `conflict`), symmetric.
    """

    tasks: tuple[str, ...]
    steps_T: Steps
    values_TKK: dict[str, Floats]


def networks(records: Iterable[Record]) -> dict[str, str]:
    """The networks whose gradients are logged, and what their keys begin with."""
    keys = {key for record in records for row in record.rows["metrics"] for key in row}
    found = {name: f"{name}/" for name in ("critic", "actor") if f"{name}/weights" in keys}
    return found or ({"shared parameters": ""} if "weights" in keys else {})


def of_run(group: Group, key: str) -> tuple[Steps, Floats]:
    """A metric of the whole run, [time]."""
    return _mean([_collect(_rows(record, None), lambda row: row.get(key)) for record in group.records], ())


def of_tasks(group: Group, key: str, tasks: Sequence[str]) -> tuple[Steps, Floats]:
    """A metric of each task, [time, task]."""
    place = {task: index for index, task in enumerate(tasks)}
    runs = []
    for record in group.records:
        found: dict[int, Floats] = {}
        for row in record.rows["metrics"]:
            value = row.get(key)
            if row.get("task") in place and value is not None:
                found.setdefault(int(row["step"]), np.full(len(tasks), np.nan))[place[row["task"]]] = value
        runs.append(found)
    return _mean(runs, (len(tasks),))


def of_health(record: Record, key: str) -> tuple[Steps, Floats]:
    """A number of the health log of one run, [time]."""
    return _mean([_collect(record.rows["health"], lambda row: row.get(key))], ())


def of_maps(group: Group) -> dict[str, Maps]:
    """Each network's maps; none where no run logged any."""
    by_network: dict[str, list[Row]] = {}
    for record in group.records:
        for row in record.rows["conflicts"]:
            by_network.setdefault(str(row["network"]), []).append(row)
    return {network: _maps(rows) for network, rows in by_network.items()}


def _maps(rows: Sequence[Row]) -> Maps:
    tasks = tuple(rows[0]["tasks"])
    steps_T = np.array(sorted({int(row["step"]) for row in rows}), np.int64)
    place = {int(step): index for index, step in enumerate(steps_T)}
    above = np.triu_indices(len(tasks), 1)
    names = [key for key, value in rows[0].items() if isinstance(value, list) and key != "tasks"]
    values: dict[str, Floats] = {}
    for name in names:
        sum_TQ, count_TQ = np.zeros((2, len(steps_T), len(above[0])))
        for row in rows:
            own_Q = np.array(row[name], np.float64)  # null becomes NaN
            there_Q = np.isfinite(own_Q)
            sum_TQ[place[int(row["step"])]] += np.where(there_Q, own_Q, 0.0)
            count_TQ[place[int(row["step"])]] += there_Q
        whole_TKK = np.full((len(steps_T), len(tasks), len(tasks)), np.nan)
        with np.errstate(invalid="ignore"):
            whole_TKK[:, above[0], above[1]] = whole_TKK[:, above[1], above[0]] = sum_TQ / count_TQ
        values[name] = whole_TKK
    return Maps(tasks, steps_T, values)


def _rows(record: Record, task: str | None) -> Iterable[Row]:
    return (row for row in record.rows["metrics"] if row.get("task") == task)


def _collect(rows: Iterable[Row], of: Callable[[Row], float | None]) -> dict[int, Floats]:
    return {
        int(row["step"]): np.array(value, np.float64)
        for row in rows
        if "step" in row and isinstance(value := of(row), int | float)
    }


def _mean(runs: Sequence[dict[int, Floats]], shape: tuple[int, ...]) -> tuple[Steps, Floats]:
    steps_T = np.array(sorted({step for run in runs for step in run}), np.int64)
    place = {int(step): index for index, step in enumerate(steps_T)}
    sums, counts = np.zeros((2, len(steps_T), *shape))
    for run in runs:
        for step, value in run.items():
            there = np.isfinite(value)
            sums[place[step]] += np.where(there, value, 0.0)
            counts[place[step]] += there
    with np.errstate(invalid="ignore"):
        return steps_T, sums / counts
