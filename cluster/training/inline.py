"""The collector that does it all in this process, for debugging and tests."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from cluster.training.collect import (
    ChunkOrder,
    Collected,
    CollectSpec,
    Evaluated,
    EvaluationOrder,
    WorkerInfo,
)
from cluster.training.contracts import Positions
from cluster.training.ledger import Ledger
from cluster.training.taskworker import TaskWorker
from envs.streams import Position


class InlineCollector:
    """A `Collector` in this process: an order is carried out when its answer is asked for.

    Nothing is tried again: an environment that raises ends the run, with its traceback.
    """

    notice: str | None = None

    def __init__(self, spec: CollectSpec) -> None:
        """One worker has all tasks."""
        self.ledger = Ledger()
        self.replaced: list[str] = []
        self._tasks = tuple(range(len(spec.suite.tasks)))
        self._worker = TaskWorker(spec)
        self._orders: deque[tuple[ChunkOrder, tuple[int, ...]]] = deque()
        self._in_flight: set[int] = set()
        self._to_evaluate: deque[EvaluationOrder] = deque()
        self._positions: dict[tuple[int, int], Position] = {}

    def start(self, positions: Positions | None, weights_bytes: int = 0) -> None:
        """See `Collector`."""
        self._positions = self._worker.build(self._tasks, positions or {})

    def submit(self, order: ChunkOrder, tasks: Sequence[int]) -> None:
        """See `Collector`."""
        assert self._in_flight.isdisjoint(tasks), "one chunk of a task at a time"
        self._in_flight.update(tasks)
        self.ledger.ordered += len(tasks)
        self._orders.append((order, tuple(tasks)))

    def idle(self) -> list[tuple[int, ...]]:
        """See `Collector`."""
        return [] if self._orders else [self._tasks]

    def receive(self, timeout: float | None = None) -> Collected:
        """See `Collector`; the chunk is collected now, however long that takes."""
        assert self._in_flight, "no chunk is in flight"
        order, tasks = self._orders.popleft()
        self._in_flight.difference_update(tasks)
        collected = self._worker.collect(tasks, order.index, order.steps, order.version, order.weights, {})
        self.ledger.collected += len(tasks)
        self._positions |= collected.positions
        return collected

    def evaluate(self, order: EvaluationOrder) -> None:
        """See `Collector`."""
        self._to_evaluate.append(order)

    def evaluations(self) -> list[Evaluated]:
        """See `Collector`; they're carried out now."""
        done = []
        while self._to_evaluate:
            order = self._to_evaluate[0]
            rows, seconds = self._worker.evaluate(self._tasks, order.weights, order.episodes, order.protocol)
            done.append(Evaluated(self._to_evaluate.popleft(), rows, seconds))
        return done

    def tend(self) -> None:
        """See `Collector`; there is nobody to look after."""

    def positions(self) -> dict[tuple[int, int], Position]:
        """See `Collector`."""
        return dict(self._positions)

    def workers(self) -> list[WorkerInfo]:
        """See `Collector`."""
        return [WorkerInfo(0, "ready", "this process", os.getpid(), self._tasks, 0)]

    def events(self) -> list[dict[str, Any]]:
        """See `Collector`."""
        return []

    def close(self) -> None:
        """See `Collector`."""
        self.ledger.close()
        self._worker.close()
