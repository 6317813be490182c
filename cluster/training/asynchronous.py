"""Async mode: every worker has a chunk in flight with the newest weights; counts are exact, bits are not promised.

Every task has steps of its own, and chunks are inserted as they come. The limiter counts the vector steps of the
slowest task, so updates never outrun the data of any task; a task's next chunk is ordered only while it's at most
`max_lead` chunks ahead of the slowest one and of the steps that the updates done have paid for. A chunk that a worker
took with it is told in health.jsonl and collected again from where its streams stood: nothing of it had been counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cluster.training.checkpointing import check_same, pack_positions, unpack_positions
from cluster.training.collect import ChunkOrder, Collected, Lost
from cluster.training.driver import LOOK, POLL, Trainer, TrainerParts

_SLICES = 4  # the learner looks for new chunks this often within a chunk's worth of updates


class AsyncTrainer(Trainer):
    """Collects and learns as fast as each can, within the limiter; see the file's first lines."""

    mode = "async"

    def __init__(self, parts: TrainerParts, max_lead: int) -> None:
        """See `Trainer`; a task may be `max_lead` chunks ahead, at least 1."""
        super().__init__(parts)
        self._lead = max_lead * parts.schedule.chunk_steps
        self._steps_K: list[int] = []  # vector steps inserted
        self._index_K: list[int] = []  # number of the next chunk
        self._flying: dict[int, ChunkOrder] = {}  # by task
        slice_updates = math.ceil(parts.limiter.ratio * parts.schedule.chunk_steps / _SLICES)
        self._slice = max(1, min(slice_updates, LOOK))

    def _stamp(self) -> tuple[int, ...]:
        return (*super()._stamp(), *self._steps_K)

    def _start(self, state: Mapping[str, Any] | None) -> None:
        weights_bytes = self.learner.policy_weights().nbytes
        if state is None:
            self.collector.start(None, weights_bytes)
            self._steps_K = [0] * len({task for task, _ in self.collector.positions()})
            self._index_K = list(self._steps_K)
            return
        positions = unpack_positions(state["positions"])
        check_same("async state for", len(state["steps"]), len({task for task, _ in positions}))
        self._steps_K, self._index_K = list(state["steps"]), list(state["index"])
        self.collector.start(positions, weights_bytes)

    def _state(self) -> dict[str, Any]:
        return {
            "steps": list(self._steps_K),
            "index": list(self._index_K),
            "positions": pack_positions(self.collector.positions()),
        }

    def _loop(self) -> None:
        if self.step < self.schedule.total_steps:
            self._report()
        while self.step < self.schedule.total_steps or self.limiter.due(self.step):
            self._order_idle()
            due = self.limiter.due(self.step)
            advanced = self._insert(self._receive(0.0 if due else POLL)) if self._flying else False
            if due:
                self._learn(min(due, self._slice), self.step)
            if advanced and self.step < self.schedule.total_steps:
                self._boundary()
            self._heed_signal()
        self._boundary()  # of the last chunk, now that all of its updates are done

    def _order_idle(self) -> None:
        """Order a chunk from every idle worker: of those of its tasks that are furthest behind.

        A task that came from another worker may be ahead or behind; it waits, or is waited for, until its neighbours
        stand where it stands, and they go on together.
        """
        covered = self.limiter.steps_covered()
        bound = self._lead + (self.step if covered is None else min(self.step, covered))
        weights = None
        for tasks in self.collector.idle():
            here = [task for task in tasks if task not in self._flying]
            behind = min(((self._steps_K[task], self._index_K[task]) for task in here), default=None)
            if behind is None:
                continue
            start, index = behind
            steps = self.schedule.chunk_length(start)
            if steps == 0 or start + steps > bound:
                continue
            if self.step < self.limiter.warmup_steps <= start:
                continue  # the policy may act on what the agent measures on the warm-up, of all tasks
            if weights is None and start >= self.limiter.warmup_steps:
                weights = self.learner.policy_weights()
            acting = None if start < self.limiter.warmup_steps else weights
            order = ChunkOrder(index, steps, self.limiter.updates, acting)
            together = [task for task in here if (self._steps_K[task], self._index_K[task]) == behind]
            self._flying |= dict.fromkeys(together, order)
            self.collector.submit(order, together)

    def _insert(self, received: Collected | Lost | None) -> bool:
        """Insert a chunk, or note its loss; whether the slowest task got further."""
        if received is None:
            return False
        if isinstance(received, Lost):
            for task in received.tasks:
                del self._flying[task]
            row = {"event": "chunk lost", "tasks": list(received.tasks), "chunk": received.index}
            self.recorder.health(self.step, row | {"steps_lost": received.steps, "reason": received.reason})
            return False
        self._whole = False
        for task in received.chunk.tasks:
            order = self._flying.pop(task)
            assert received.chunk.index == order.index == self._index_K[task], "each chunk once, and in order"
            self._steps_K[task] += order.steps
            self._index_K[task] += 1
        self._clock.lag.append(self.limiter.updates - received.version)
        self._count(received, self.limiter.updates)
        self.learner.add(received.chunk)
        self.recorder.episodes(received.chunk.episodes)
        self._whole = True
        slowest = min(self._steps_K)
        if slowest == self.step:
            return False
        self._advance(slowest)
        return True
