"""Rows of a run: metrics, evaluations and health, to the run folder first and to the sinks after."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Any

from cluster.training.collect import Evaluated
from envs.evaluation import TaskEvaluation
from envs.rollout import Episode
from mtrl_surgery.runs.console import Progress, evaluation_table, say
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.sinks import Sink

_NOTHING = {"episodes": 0, "successes_any": 0, "successes_last": 0, "returns": 0.0, "steps": 0}


class Recorder:
    """Writes what happens. Rows of metrics and evaluations depend on steps alone, those of health on the clock."""

    def __init__(
        self,
        run: RunFolder,
        tasks: Sequence[str],
        sinks: Sequence[Sink] = (),
        progress: Progress | None = None,
        monitor: Sink | None = None,
    ) -> None:
        """Nothing is written yet.

        Args:
            run: Where.
            tasks: Their names.
            sinks: Readers that are shown every row.
            progress: The console's line.
            monitor: A reader that is shown the rows of health too.
        """
        self.run = run
        self._tasks = tuple(tasks)
        self._sinks = [*sinks] if monitor is None else [*sinks, monitor]
        self._progress = progress
        self._monitor = monitor
        self._episodes: list[dict[str, Any]] = [dict(_NOTHING) for _ in tasks]
        self._started = time.monotonic()

    def episodes(self, episodes: Sequence[Episode]) -> None:
        """Count training episodes that ended, until the next row of metrics."""
        for episode in episodes:
            counts = self._episodes[episode.task]
            counts["episodes"] += 1
            counts["successes_any"] += episode.success_any
            counts["successes_last"] += episode.success_last
            counts["returns"] += episode.return_
            counts["steps"] += episode.length

    def metrics(
        self,
        step: int,
        updates: int,
        learner_rows: Sequence[Mapping[str, Any]],
        conflict_maps: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write a row for the run and one a task: the learner's, and the training episodes since the last call."""
        learned = {row["task"]: row for row in learner_rows}
        total = {key: sum(counts[key] for counts in self._episodes) for key in _NOTHING}
        rows = []
        for task, counts in zip((None, *self._tasks), (total, *self._episodes), strict=True):
            row = {"step": step, "task": task, "updates": updates, **_episode_columns(counts)}
            row |= {key: value for key, value in learned.get(task, {}).items() if key not in ("task", "update")}
            rows.append(row)
        for row in rows:
            self.run.metrics.write(row)
        for one in conflict_maps:
            self.run.conflicts.write({"step": step, **one})
        self._episodes = [dict(_NOTHING) for _ in self._tasks]
        for sink in self._sinks:
            sink.write(rows)

    def evaluation(self, evaluated: Evaluated) -> None:
        """Write a row a task, in the order of the tasks."""
        order = evaluated.order
        rows = [
            {
                "step": order.step,
                "task": task.name,
                "updates": order.updates,
                "protocol": order.protocol,
                "episodes": task.episodes,
                "successes_any": task.successes_any,
                "successes_last": task.successes_last,
                "mean_return": fmean(task.returns),
                "returns": task.returns,
                "lengths": task.lengths,
                "goals": task.goals,
            }
            for task in evaluated.tasks
        ]
        for row in rows:
            self.run.evaluations.write(row)
        self.health(order.step, {"event": "evaluation", "seconds": round(evaluated.seconds, 3)})
        rates = _rates(order.step, evaluated.tasks)
        for sink in self._sinks:
            sink.write(rates)
        if self._progress is not None:
            self._progress.print(evaluation_table(rows))
            self._progress.evaluated(rates[0]["evaluation/success_any"])

    def event(self, step: int, event: Mapping[str, Any]) -> None:
        """Write what happened to a worker; people are told of those that were replaced."""
        self.health(step, event)
        if event["event"] == "worker replaced":
            self.say(f"replaced rollout worker {event['worker']}: {event['text']}")

    def say(self, text: str) -> None:
        """Print a line on stderr without tearing the console's own."""
        if self._progress is not None:
            self._progress.print(text)
        else:
            say(text)

    def health(self, step: int, row: Mapping[str, Any]) -> None:
        """Write what depends on the clock or the machine."""
        wall = round(time.monotonic() - self._started, 3)
        self.run.health.write({"step": step, "time": round(time.time(), 3), "wall_s": wall, **row})
        if self._monitor is not None:
            self._monitor.write([{"step": step, **row}])

    def progress(self, step: int, updates: int) -> None:
        """Tell the console where the run is."""
        if self._progress is not None:
            self._progress.update(step, updates)

    def paused(self) -> AbstractContextManager[None]:
        """A block whose time counts for no rate on the console."""
        return nullcontext() if self._progress is None else self._progress.paused()

    def state_dict(self) -> dict[str, Any]:
        """Episodes not yet written, and how far the files are."""
        return {"episodes": [dict(counts) for counts in self._episodes], "files": self.run.positions()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`'s value; rows after it are forgotten."""
        self._episodes = [dict(counts) for counts in state["episodes"]]
        self.run.rewind(state["files"])

    def close(self) -> None:
        """Close the sinks and end the console's line."""
        for sink in self._sinks:
            sink.close()
        if self._progress is not None:
            self._progress.close()


def _episode_columns(counts: Mapping[str, Any]) -> dict[str, Any]:
    episodes = counts["episodes"]
    return {
        "train/episodes": episodes,
        "train/successes_any": counts["successes_any"],
        "train/successes_last": counts["successes_last"],
        "train/mean_return": counts["returns"] / episodes if episodes else None,
        "train/mean_length": counts["steps"] / episodes if episodes else None,
    }


def _rates(step: int, tasks: Sequence[TaskEvaluation]) -> list[dict[str, Any]]:
    """For the sinks, which draw curves: the mean over tasks, then each task."""
    rows: list[dict[str, Any]] = [
        {
            "step": step,
            "task": task.name,
            "evaluation/success_any": task.successes_any / task.episodes,
            "evaluation/success_last": task.successes_last / task.episodes,
            "evaluation/return": fmean(task.returns),
        }
        for task in tasks
    ]
    keys = [key for key in rows[0] if key.startswith("evaluation/")]
    return [{"step": step, "task": None} | {key: fmean(row[key] for row in rows) for key in keys}, *rows]
