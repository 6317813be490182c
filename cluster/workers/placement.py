"""Which worker does each task's next piece, by measured speed; and whose chunk has passed its time limit."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cluster.training.collect import ChunkOrder
from cluster.training.ledger import HUNG
from cluster.workers.assignment import Speeds, assign
from cluster.workers.pool import HANG_LEAST, WorkerHandle, WorkerLoss, WorkerPool

_HANG = 20.0  # times the mean chunk: the time that a worker may be silent
_OVERDUE = 4.0  # times its expected time: that of a chunk that may be lost


class Placement:
    """The worker of every task; `cluster.workers.assignment` decides, this applies it to the pool's workers."""

    def __init__(self, tasks: int, pool: WorkerPool) -> None:
        """No task has a worker yet."""
        self.speeds = Speeds(tasks)
        self._tasks, self._pool = tasks, pool
        self._owner: dict[int, int] = {}
        self._balanced = 0.0

    def tasks_of(self, number: int) -> tuple[int, ...]:
        """The tasks of a worker."""
        return tuple(task for task, owner in self._owner.items() if owner == number)

    @property
    def broken(self) -> bool:
        """Whether a task's worker may not be given work."""
        return any(not self._pool.workers[number].able for number in set(self._owner.values()))

    def cut(self, tasks: Iterable[int]) -> list[tuple[WorkerHandle, tuple[int, ...]]]:
        """The tasks by their workers; none where no worker may be given work."""
        workers = self._pool.workers
        numbers = sorted({self._owner[task] for task in tasks if task in self._owner})
        return [(workers[number], tuple(task for task in tasks if self._owner[task] == number)) for number in numbers]

    def balance(self, at_most_every: float = 0.0) -> list[int]:
        """Share out the tasks anew over the workers there are, unless that was just done; the tasks that moved."""
        if time.monotonic() - self._balanced < at_most_every:
            return []
        self._balanced = time.monotonic()
        slowness = {worker.number: self.speeds.slowness(worker.number) for worker in self._pool.able}
        before, self._owner = self._owner, {}
        if not slowness:
            return []
        self._owner = assign(self.speeds.cost_K(), slowness, before)
        moved = [task for task, number in self._owner.items() if before.get(task, number) != number]
        for number in {before[task] for task in moved}:
            worker = self._pool.workers[number]
            released = worker.holds.intersection(task for task in moved if before[task] == number)
            if released:
                worker.holds -= released
                worker.actor.release.remote(tuple(released))
        return moved

    def hang_limit(self, steps: int) -> float:
        """Seconds that a worker may be silent: many times what its chunk of so many steps should take, on average."""
        together = self.speeds.expected(-1, range(self._tasks), steps) or 0.0  # None before anything was measured
        return max(HANG_LEAST, _HANG * together / max(1, len(self._pool.able)))

    def overdue(self, limit: float) -> WorkerLoss | None:
        """A worker whose chunk takes more than `limit` seconds and much more than expected.

        Never more than half of the workers: if all seem slow it's the expectation that is wrong.
        """
        able, now = self._pool.able, time.monotonic()
        if len(able) < 2 or 2 * len(able) <= len(self._pool.workers):
            return None
        for worker in able:
            piece, waited = next(iter(worker.pieces), None), now - worker.since
            if piece is None or piece.moves or not isinstance(piece.work, ChunkOrder) or waited <= limit:
                continue
            expected = self.speeds.expected(worker.number, piece.tasks, piece.work.steps)
            if expected is not None and waited > _OVERDUE * expected:
                text = f"{waited:.1f} s for a chunk that should take {expected:.1f} s (cluster.hang_timeout)"
                return WorkerLoss(worker, HUNG, text)
        return None
