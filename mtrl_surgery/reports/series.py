"""Training metrics of a group as arrays over time: of the run, of its tasks, and of its pairs of tasks.

Values are means over the group's seeds; where a seed has no row, over the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtrl_surgery.reports.benchmarks import Group
from mtrl_surgery.reports.intervals import Floats
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Steps
from mtrl_surgery.reports.tail import Row

Places = NDArray[np.intp]


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
    keys = {key for record in records for key in _known(record)}
    found = {name: f"{name}/" for name in ("critic", "actor") if f"{name}/weights" in keys}
    return found or ({"shared parameters": ""} if "weights" in keys else {})


def of_run(group: Group, key: str) -> tuple[Steps, Floats]:
    """A metric of the whole run, [time]."""
    return _mean([_of_run(record, "metrics", key) for record in group.records], ())


def of_tasks(group: Group, key: str, tasks: Sequence[str]) -> tuple[Steps, Floats]:
    """A metric of each task, [time, task]."""
    return _mean([_of_tasks(record, key, tuple(tasks)) for record in group.records], (len(tasks),))


def of_health(record: Record, key: str) -> tuple[Steps, Floats]:
    """A number of the health log of one run, [time]."""
    return _of_run(record, "health", key)


def logs(records: Iterable[Record], key: str) -> bool:
    """Whether any of the runs has logged a metric."""
    return any(key in _known(record) for record in records)


def of_maps(group: Group) -> dict[str, Maps]:
    """Each network's maps; none where no run logged any."""
    by_network: dict[str, list[Maps]] = {}
    for record in group.records:
        own = record.derived(("conflicts",), "maps", lambda own=record: _of_maps(own))  # type: ignore[misc]
        for network, maps in own.items():
            by_network.setdefault(network, []).append(maps)
    return {network: _joined(found) for network, found in by_network.items()}


def _of_maps(record: Record) -> dict[str, Maps]:
    """One run's maps, by network."""
    by_network: dict[str, list[Row]] = {}
    for row in record.rows["conflicts"]:
        by_network.setdefault(str(row["network"]), []).append(row)
    return {network: _maps(rows) for network, rows in by_network.items()}


def _maps(rows: Sequence[Row]) -> Maps:
    tasks = tuple(rows[0]["tasks"])
    steps_T = np.array([int(row["step"]) for row in rows], np.int64)
    first, second = np.triu_indices(len(tasks), 1)
    names = [key for key, value in rows[0].items() if isinstance(value, list | np.ndarray) and key != "tasks"]
    values: dict[str, Floats] = {}
    for name in names:
        whole_TKK = np.full((len(steps_T), len(tasks), len(tasks)), np.nan)
        pairs_TQ = np.array([row[name] for row in rows], np.float64)  # null becomes NaN
        whole_TKK[:, first, second] = whole_TKK[:, second, first] = pairs_TQ
        values[name] = whole_TKK
    return Maps(tasks, steps_T, values)


def _joined(found: Sequence[Maps]) -> Maps:
    """Means over runs."""
    tasks, names = found[0].tasks, found[0].values_TKK
    shape = (len(tasks), len(tasks))
    means = {name: _mean([(own.steps_T, own.values_TKK[name]) for own in found], shape) for name in names}
    steps_T = next(steps for steps, _ in means.values()) if means else np.zeros(0, np.int64)
    return Maps(tasks, steps_T, {name: values for name, (_, values) in means.items()})


def _known(record: Record) -> set[str]:
    return record.derived(("metrics",), "keys", lambda: _keys(record))


def _keys(record: Record) -> set[str]:
    return {key for row in record.rows["metrics"] for key, value in row.items() if value is not None}


def _of_run(record: Record, file: str, key: str) -> tuple[Steps, Floats]:
    """One file's numbers of a run, over its steps, ascending."""

    def read() -> tuple[Steps, Floats]:
        rows, steps_T, at_N, _ = record.derived((file,), ("rows", file), lambda: _placed(record.rows[file], None))
        return _scattered(rows, key, steps_T, (at_N,), (len(steps_T),))

    return record.derived((file,), ("run", file, key), read)


def _of_tasks(record: Record, key: str, tasks: tuple[str, ...]) -> tuple[Steps, Floats]:
    """The same of each task, [time, task]."""

    def read() -> tuple[Steps, Floats]:
        rows, steps_T, at_N, task_N = record.derived(
            ("metrics",), ("rows", tasks), lambda: _placed(record.rows["metrics"], tasks)
        )
        return _scattered(rows, key, steps_T, (at_N, task_N), (len(steps_T), len(tasks)))

    return record.derived(("metrics",), ("tasks", key, tasks), read)


def _placed(rows: Sequence[Row], tasks: Sequence[str] | None) -> tuple[list[Row], Steps, Places, Places]:
    """The rows of these tasks (None: of the whole run), all their steps, and each row's place among both."""
    place: dict[str | None, int] = {None: 0} if tasks is None else {task: index for index, task in enumerate(tasks)}
    own = [row for row in rows if row.get("task") in place and "step" in row]
    steps_T, at_N = np.unique(np.array([row["step"] for row in own], np.int64), return_inverse=True)
    return own, steps_T, at_N, np.array([place[row.get("task")] for row in own], np.intp)


def _scattered(
    rows: Sequence[Row], key: str, steps_T: Steps, at: tuple[Places, ...], shape: tuple[int, ...]
) -> tuple[Steps, Floats]:
    """A key's numbers at their places; steps without any are left out."""
    values_N = np.array([v if isinstance(v := row.get(key), int | float) else math.nan for row in rows], np.float64)
    there_N = np.isfinite(values_N)
    values = np.full(shape, np.nan)
    values[tuple(index[there_N] for index in at)] = values_N[there_N]
    kept_T = np.zeros(len(steps_T), bool)
    kept_T[at[0][there_N]] = True
    return steps_T[kept_T], values[kept_T]


def _mean(runs: Sequence[tuple[Steps, Floats]], shape: tuple[int, ...]) -> tuple[Steps, Floats]:
    steps_T = np.unique(np.concatenate([steps for steps, _ in runs])) if runs else np.zeros(0, np.int64)
    sums, counts = np.zeros((2, len(steps_T), *shape))
    for steps, values in runs:
        at, there = np.searchsorted(steps_T, steps), np.isfinite(values)
        sums[at] += np.where(there, values, 0.0)
        counts[at] += there
    with np.errstate(invalid="ignore"):
        return steps_T, sums / counts
