"""Which worker does each task's next piece, by measured speed; and which worker is late."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cluster.training.collect import ChunkOrder
from cluster.workers.assignment import Speeds, assign
from cluster.workers.pool import Member, WorkerPool

_EVERY = 10.0  # seconds between two looks at how evenly tasks are shared out
_LATE, _LATE_LEAST = 4.0, 5.0  # a chunk is late after so many times its expected time, and seconds


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
        return any(not self._pool.members[number].able for number in set(self._owner.values()))

    def cut(self, tasks: Iterable[int]) -> list[tuple[Member, tuple[int, ...]]]:
        """The tasks by their workers; none where no worker may be given work."""
        members = self._pool.members
        numbers = sorted({self._owner[task] for task in tasks if task in self._owner})
        return [(members[number], tuple(task for task in tasks if self._owner[task] == number)) for number in numbers]

    def balance(self, at_most_every: float = 0.0) -> list[int]:
        """Share out the tasks anew over the workers there are; the tasks that moved."""
        if time.monotonic() - self._balanced < at_most_every:
            return []
        self._balanced = time.monotonic()
        slowness = {member.number: self.speeds.slowness(member.number) for member in self._pool.able}
        before, self._owner = self._owner, {}
        if not slowness:
            return []
        self._owner = assign(self.speeds.cost_K(), slowness, before)
        moved = [task for task, number in self._owner.items() if before.get(task, number) != number]
        for number in {before[task] for task in moved}:
            member = self._pool.members[number]
            released = member.holds.intersection(task for task in moved if before[task] == number)
            if released:
                member.holds -= released
                member.actor.release.remote(tuple(released))
        return moved

    def balance_now_and_then(self) -> list[int]:
        """Share out the tasks anew if that was long ago."""
        return self.balance(_EVERY)

    def mean_chunk(self, steps: int) -> float | None:
        """Seconds that a worker should take for its chunk, on average; None before anything was measured."""
        together = self.speeds.expected(-1, range(self._tasks), steps)
        return None if together is None else together / max(1, len(self._pool.able))

    def late(self) -> tuple[Member, float, float] | None:
        """A worker that should have answered long ago, and the seconds waited and expected; None without another one.

        Never more than half of the workers: if all seem late it's the expectation that is wrong.
        """
        members, now = list(self._pool.members.values()), time.monotonic()
        if 2 * (sum(one.late for one in members) + 1) > len(members) or len(self._pool.able) < 2:
            return None
        for member in self._pool.able:
            piece = member.pieces[0] if member.pieces else None
            if piece is None or piece.moves or not isinstance(piece.work, ChunkOrder):
                continue
            expected = self.speeds.expected(member.number, piece.tasks, piece.work.steps)
            if expected is not None and now - member.since > max(_LATE * expected, _LATE_LEAST):
                return member, now - member.since, expected
        return None
