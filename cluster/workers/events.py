"""What happens to workers, as rows of health.jsonl, and how long it takes to get over it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from cluster.workers.pool import WorkerHandle


class WorkerEvents:
    """Rows that wait to be written, and workers whose tasks haven't delivered since they were lost."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._rows: list[dict[str, Any]] = []
        self._open: list[tuple[int, float, set[int]]] = []  # worker, when it was lost, tasks to come

    def take(self) -> list[dict[str, Any]]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def note(self, event: str, worker: WorkerHandle, tasks: Sequence[int], **more: Any) -> None:
        """Something happened to a worker that has these tasks."""
        facts = {"worker": worker.number, "node": worker.address, "pid": worker.pid, "tasks": list(tasks)}
        self._rows.append({"event": event, **facts, **more})

    def moved(self, tasks: Sequence[int]) -> None:
        """Tasks have another worker now."""
        if tasks:
            self._rows.append({"event": "tasks moved", "tasks": list(tasks)})

    def lost(self, worker: int, tasks: Iterable[int]) -> None:
        """A worker no longer does these tasks, unasked."""
        if missing := set(tasks):
            self._open.append((worker, time.monotonic(), missing))

    def delivered(self, tasks: Iterable[int]) -> None:
        """A chunk of these tasks has come; the last one that a lost worker's tasks owed is a recovery."""
        now, still_open = time.monotonic(), []
        for worker, since, missing in self._open:
            missing.difference_update(tasks)
            if missing:
                still_open.append((worker, since, missing))
            else:
                self._rows.append({"event": "recovered", "worker": worker, "seconds": round(now - since, 3)})
        self._open = still_open
