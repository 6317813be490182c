"""Async mode: every worker has a chunk in flight with the newest weights; counts are exact, bits are not promised.

Chunks are inserted as they come, group by group. The limiter counts the vector steps of the slowest task, so updates
never outrun the data of any task; a group may order its next chunk only while it is at most `max_lead` chunks ahead of
the slowest one and of the steps that the updates done have paid for. A chunk that a worker took with it is told in
health.jsonl and collected again from where its streams stood: nothing of it had been counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cluster.checkpointing import check_same, pack_positions, unpack_positions
from cluster.collect import ChunkOrder, Collected, Lost
from cluster.config import ClusterError
from cluster.driver import LOOK, POLL, Parts, Trainer
from mtrl_surgery.runs.checkpoint import Checkpoint

_SLICES = 4  # the learner looks for new chunks this often within a chunk's worth of updates


class AsyncTrainer(Trainer):
    """Collects and learns as fast as each can, within the limiter; see the file's first lines."""

    mode = "async"

    def __init__(self, parts: Parts, max_lead: int) -> None:
        """See `Trainer`.

        Args:
            parts: Learner, collector and so on.
            max_lead: Chunks that a group may be ahead, at least 1.

        Raises:
            ClusterError: a lead below 1 would stop the run.
        """
        super().__init__(parts)
        if max_lead < 1:
            raise ClusterError(f"max_lead={max_lead} must be at least 1")
        self._lead = max_lead * parts.schedule.chunk_steps
        groups = len(parts.collector.groups)
        self._steps = [0] * groups  # vector steps inserted
        self._index = [0] * groups  # number of the next chunk
        self._flying: dict[int, ChunkOrder] = {}
        slice_updates = math.ceil(parts.limiter.ratio * parts.schedule.chunk_steps / _SLICES)
        self._slice = max(1, min(slice_updates, LOOK))

    def _begin(self, resume: Checkpoint | None) -> None:
        if resume is not None:
            groups = [list(group) for group in self.collector.groups]
            check_same("task groups (one a worker)", resume.state.get("groups", groups), groups)
        super()._begin(resume)

    def _stamp(self) -> tuple[int, ...]:
        return (*super()._stamp(), *self._steps)

    def _start(self, state: Mapping[str, Any] | None) -> None:
        if state is None:
            self.collector.start(None)
            return
        self._steps, self._index = list(state["steps"]), list(state["index"])
        self.collector.start(unpack_positions(state["positions"]))

    def _state(self) -> dict[str, Any]:
        return {
            "groups": [list(group) for group in self.collector.groups],
            "steps": list(self._steps),
            "index": list(self._index),
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
        """Order a chunk of every group that has none in flight and isn't too far ahead."""
        covered = self.limiter.steps_covered()
        bound = self.step if covered is None else min(self.step, covered)
        for group, start in enumerate(self._steps):
            steps = self.schedule.chunk_length(start)
            if group in self._flying or steps == 0 or start + steps > bound + self._lead:
                continue
            weights = None if start < self.limiter.warmup_steps else self.learner.policy_weights()
            order = ChunkOrder(self._index[group], steps, self.limiter.updates, weights)
            self._flying[group] = order
            self.collector.submit(group, order)

    def _insert(self, received: Collected | Lost | None) -> bool:
        """Insert a chunk, or note its loss; whether the slowest task got further."""
        if received is None:
            return False
        order = self._flying.pop(received.group)
        if isinstance(received, Lost):
            tasks = len(self.collector.groups[received.group])
            row = {"event": "chunk lost", "group": received.group, "tasks": tasks, "chunk": received.index}
            self.recorder.health(self.step, row | {"steps_lost": received.steps, "reason": received.reason})
            return False
        self._clock.lag.append(self.limiter.updates - order.version)
        self.learner.add(received.chunk)
        self.recorder.episodes(received.chunk.episodes)
        self._steps[received.group] += order.steps
        self._index[received.group] += 1
        slowest = min(self._steps)
        if slowest == self.step:
            return False
        self._advance(slowest)
        return True
