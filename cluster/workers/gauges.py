"""A run's health as Prometheus gauges on every Ray node's metrics port: for alarms and dashboards, not for results.

Ray exports them with the prefix `ray_` and adds labels of its own (node, component, session). Ours are the run, its
method and, for success, the task: of a bounded number, so a Prometheus that watches many runs stays small. Values reach
the port within Ray's reporting interval, 10 s. The port needs `ray[default]`; without it, setting a gauge does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

_COLUMNS = {
    "success_ratio": "evaluation/success_any",
    "success_last_ratio": "evaluation/success_last",
    "mean_return": "evaluation/return",
}


class Gauges:
    """A sink that takes rows of health and of evaluations. Make one only in a process that has joined Ray."""

    def __init__(self, run: str, method: str, tasks: int, copies: int, replay_capacity: int) -> None:
        """Nothing is exported until a row comes.

        Args:
            run: Name of the run folder.
            method: As in the run's name, such as "samgs".
            tasks: How many.
            copies: Environments a task.
            replay_capacity: Transitions a task that the replay keeps.
        """
        from ray.util.metrics import Gauge  # Ray must not be imported before its session is set up

        self._streams, self._copies, self._capacity = tasks * copies, copies, replay_capacity
        common = {"run": run, "method": method}
        keys = tuple(common)
        self._of_run = {name: Gauge(PREFIX + name, text, keys) for name, text in OF_RUN.items()}
        self._of_task = {name: Gauge(PREFIX + name, text, (*keys, "task")) for name, text in OF_TASK.items()}
        for gauge in (*self._of_run.values(), *self._of_task.values()):
            gauge.set_default_tags(common)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows as the recorder gives them; most say nothing here."""
        for row in rows:
            if "updates_per_s" in row:
                for name, value in self._health(row).items():
                    self._of_run[name].set(value)
            elif "evaluation/return" in row and row["task"] is not None:
                for name in OF_TASK:
                    self._of_task[name].set(row[_COLUMNS[name]], tags={"task": row["task"]})

    def close(self) -> None:
        """Ray drops the gauges with the process."""

    def _health(self, row: Mapping[str, Any]) -> dict[str, float]:
        step = row["step"]
        return {
            "step": step,
            "env_steps_per_second": row["steps_per_s"] * self._streams,
            "updates_per_second": row["updates_per_s"],
            "replay_fill_ratio": min(1.0, step * self._copies / self._capacity),
            "weight_lag_updates": row["lag_updates"],
            "workers": row["workers"],
            "worker_restarts": row["restarts"],
            "driver_wait_seconds": row["wait_s"],
        }
