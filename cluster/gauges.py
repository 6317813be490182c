"""A run's health as Prometheus gauges on every Ray node's metrics port: for alarms and dashboards, not for results.

Ray exports them with the prefix `ray_` and adds labels of its own (node, component, session). Ours are the run, its
method and, for success, the task: of a bounded number, so a Prometheus that watches many runs stays small. Values reach
the port within Ray's reporting interval, 10 s. The port needs `ray[default]`; without it, setting a gauge does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "mtrl_"
EXPORTED = f"ray_{PREFIX}"
"""What the names begin with on the port."""

OF_RUN: Mapping[str, str] = {
    "step": "Vector steps inserted into the replay, of the slowest task.",
    "env_steps_per_second": "Simulator steps, of all tasks and copies together.",
    "updates_per_second": "Updates of the agent.",
    "replay_fill_ratio": "Filled part of the replay's slots, 0 to 1.",
    "weight_lag_updates": "Updates between a chunk's weights and the newest ones when it was inserted, mean.",
    "workers": "Rollout workers that the run counts on.",
    "worker_restarts": "Rollout workers replaced since the run or its resume began.",
    "driver_wait_seconds": "Time that the driver waited for chunks since the last row.",
}
"""Gauges labelled by run and method."""

OF_TASK: Mapping[str, str] = {
    "success_ratio": "Part of the last evaluation's episodes with a success at any step, 0 to 1.",
    "success_last_ratio": "Part of the last evaluation's episodes with a success at their last step, 0 to 1.",
    "mean_return": "Mean return of the last evaluation's episodes.",
}
"""Gauges labelled by run, method and task."""


@dataclass(frozen=True)
class GaugeLabels:
    """What tells a run's gauges from another's, and what turns its rows into them.

    Attributes:
        run: Name of the run folder.
        method: As in the run's name, such as "samgs".
        tasks: Names of all tasks: the only values that the label `task` can have.
        copies: Environments a task.
        replay_capacity: Transitions a task that the replay keeps.
    """

    run: str
    method: str
    tasks: Sequence[str]
    copies: int
    replay_capacity: int


class Gauges:
    """Takes the rows that the recorder writes. Make one only in a process that has joined Ray."""

    def __init__(self, labels: GaugeLabels) -> None:
        """Nothing is exported until a row comes."""
        from ray.util.metrics import Gauge  # Ray must not be imported before its session is set up

        self._labels = labels
        common = {"run": labels.run, "method": labels.method}
        keys = tuple(common)
        self._of_run = {name: Gauge(PREFIX + name, text, keys) for name, text in OF_RUN.items()}
        self._of_task = {name: Gauge(PREFIX + name, text, (*keys, "task")) for name, text in OF_TASK.items()}
        for gauge in (*self._of_run.values(), *self._of_task.values()):
            gauge.set_default_tags(common)

    def health(self, row: Mapping[str, Any]) -> None:
        """Take a row of health.jsonl; rows of events say nothing here."""
        if "event" in row:
            return
        labels, step = self._labels, row["step"]
        values = {
            "step": step,
            "env_steps_per_second": row["steps_per_s"] * len(labels.tasks) * labels.copies,
            "updates_per_second": row["updates_per_s"],
            "replay_fill_ratio": min(1.0, step * labels.copies / labels.replay_capacity),
            "weight_lag_updates": row["lag_updates"],
            "workers": row["workers"],
            "worker_restarts": row["restarts"],
            "driver_wait_seconds": row["wait_s"],
        }
        for name, value in values.items():
            self._of_run[name].set(value)

    def evaluations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of evaluations.jsonl, one a task.

        Raises:
            ValueError: a row is of a task that the run doesn't have; labels would grow without bound.
        """
        for row in rows:
            task = row["task"]
            if task not in self._labels.tasks:
                raise ValueError(f"task={task!r} is none of the run's: {', '.join(self._labels.tasks)}")
            values = {
                "success_ratio": row["successes_any"] / row["episodes"],
                "success_last_ratio": row["successes_last"] / row["episodes"],
                "mean_return": row["mean_return"],
            }
            for name, value in values.items():
                self._of_task[name].set(value, tags={"task": task})
