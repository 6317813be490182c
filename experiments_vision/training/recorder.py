"""Rows of a supervised run: to its folder first, and to the sinks after."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from experiments_vision.contract import Modes, Objective, Split
from experiments_vision.training.update import Update
from mtrl_surgery.runs.console import Progress, table
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.signals import finish
from mtrl_surgery.runs.sinks import Sink


class Recorder:
    """Writes what happens; without a folder (in a process that does not lead) nothing.

    Rows of metrics and evaluations depend on updates alone, those of health on the clock.
    """

    def __init__(
        self, run: RunFolder | None, objective: Objective, sinks: Sequence[Sink] = (), progress: Progress | None = None
    ) -> None:
        self._run, self._objective, self._sinks, self._progress = run, objective, list(sinks), progress
        self._started = time.monotonic()

    def metrics(self, step: int, epoch: int, update: Update) -> None:
        """A row for the run and one a task: mean losses since the last row, weights, and the last look's conflicts.

        And a row of maps, of the pairs of tasks, where there were looks since the last one.
        """
        losses_K, maps = update.take_losses(), update.maps.rows(step)
        if self._run is None:
            return
        values: dict[str, Tensor] = {**update.looked, **update.surgery.diagnostics(), "loss_K": losses_K}
        lists: dict[str, Any] = {name: value.tolist() for name, value in values.items() if value.dim() < 2}
        head: dict[str, Any] = {"step": step, "epoch": epoch}
        rows = [{**head, "task": None, "loss": sum(lists["loss_K"]) / len(lists["loss_K"])}]
        rows[0] |= {name: value for name, value in lists.items() if isinstance(value, float | int)}
        for place, task in enumerate(self._objective.tasks):
            by_task = {name.removesuffix("_K"): value[place] for name, value in lists.items() if name.endswith("_K")}
            rows.append({**head, "task": task, **by_task})
        for row in rows:
            self._run.metrics.write(row)
        for one in maps:
            self._run.conflicts.write({"step": step, **one})
        self._show(rows)

    def evaluation(
        self, step: int, epoch: int, found: Mapping[Split, Modes], splits: Mapping[Split, Any], seconds: float
    ) -> None:
        """A row for each split and task."""
        if self._run is None:
            return
        shown: list[dict[str, Any]] = []
        for split, modes in found.items():
            for task in self._objective.tasks:
                names = [spec.name for spec in self._objective.metrics if spec.task == task]
                values = {f"{mode}/{name}": modes[mode][name] for mode in modes for name in names}
                head = {"step": step, "epoch": epoch, "split": split, "task": task, "examples": len(splits[split])}
                self._run.evaluations.write({**head, **values})
                shown.append({"step": step, "task": task, **{f"{split}/{key}": value for key, value in values.items()}})
        self._show(shown)
        self._health(step, {"event": "evaluation", "epoch": epoch, "seconds": round(seconds, 3)})
        if self._progress is not None:
            self._progress.print(f"epoch {epoch}\n{_table(self._objective, found)}")
            last = list(found)[-1]
            self._progress.evaluated(self._objective.score(found[last]["pooled"]))

    def epoch(self, step: int, epoch: int, times: Mapping[str, float]) -> None:
        """A row of the seconds that an epoch's updates took; see `trainer.Timer`."""
        row: dict[str, Any] = {"event": "epoch", "epoch": epoch, "updates": times["updates"]}
        row |= {"train_seconds": round(times["wall"], 4), "cpu_seconds": round(times["cpu"], 4)}
        self._health(step, row)

    def progress(self, step: int) -> None:
        """Tell the console where the run is."""
        if self._progress is not None:
            self._progress.update(step)

    def paused(self) -> AbstractContextManager[None]:
        """A block whose time counts for no rate on the console."""
        return nullcontext() if self._progress is None else self._progress.paused()

    def state_dict(self) -> dict[str, Any]:
        """The positions in the files."""
        return {"files": self._run.positions() if self._run is not None else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget the rows after `state_dict` was taken."""
        if self._run is not None:
            self._run.rewind(state["files"])

    def close(self, error: BaseException | None, steps: Sequence[Callable[[], object]] = ()) -> None:
        """Do these steps, close the sinks, and note in the manifest how the run ended. See `finish`."""
        shown = [] if self._progress is None else [self._progress.close]
        finish(self._run, error, [*steps, *(sink.close for sink in self._sinks), *shown])

    def _show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for sink in self._sinks:
            sink.write(rows)

    def _health(self, step: int, row: Mapping[str, Any]) -> None:
        if self._run is not None:
            wall = round(time.monotonic() - self._started, 3)
            self._run.health.write({"step": step, "time": round(time.time(), 3), "wall_s": wall, **row})


def _table(objective: Objective, found: Mapping[Split, Modes], most: int = 15) -> str:
    """The pooled metrics of every split, a line a metric; of very many (CelebA's 40) the mean, worst and best."""
    specs, rows = objective.metrics, list[tuple[str, ...]]()
    if len(specs) > most:
        for split, modes in found.items():
            values = [modes["pooled"][spec.name] * spec.scale for spec in specs]
            mean = math.fsum(values) / len(values)
            rows.append((split, f"{mean:.2f}", f"{min(values):.2f}", f"{max(values):.2f}"))
        return table(["split", f"mean {specs[0].label}", "least", "greatest"], rows, numbers=(1, 2, 3))
    for spec in specs:
        values = [modes["pooled"][spec.name] * spec.scale for modes in found.values()]
        rows.append((spec.task, spec.label, *(f"{value:.{spec.digits}f}" for value in values)))
    return table(["task", "metric", *found], rows, numbers=range(2, 2 + len(found)))
