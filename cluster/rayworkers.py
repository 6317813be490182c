"""Rollout workers as Ray actors, and the collector that keeps them alive.

A worker that dies is replaced by a new one. Its streams are rebuilt from the positions that came with the last chunk it
delivered, and what it still owed is ordered again: in sync mode the same chunk with the same weights, hence the same
bits; in async mode the chunk is told to be lost and the driver orders anew. Nothing is retried by Ray itself.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from cluster.collect import (
    ChunkOrder,
    Collected,
    CollectSpec,
    Evaluated,
    EvaluationOrder,
    GroupWorker,
    Lost,
    check_idle,
    check_ordered,
)
from cluster.config import ClusterConfig, ClusterFailure, count_workers, split_tasks
from cluster.contracts import Positions
from cluster.raysession import RaySession, free_cpus
from envs.errors import EnvironmentFailure, NotDeterministicError
from envs.evaluation import TaskEvaluation
from envs.streams import Position

_PATIENCE = 10.0  # seconds of building environments before a line on stderr says so


class RolloutWorker:
    """The actor: a `GroupWorker` on one core (its environment variables keep every library to one thread)."""

    def __init__(self, spec: CollectSpec, tasks: tuple[int, ...]) -> None:
        """Cheap; `build` does the work, so that its errors are told from a death."""
        self._worker = GroupWorker(spec, tasks)

    def build(self, positions: Positions | None) -> dict[tuple[int, int], Position]:
        """See `GroupWorker.build`."""
        return self._worker.build(positions)

    def collect(
        self, group: int, index: int, steps: int, version: int, weights: np.ndarray | None, positions: Positions | None
    ) -> Collected:
        """See `GroupWorker.collect`."""
        return self._worker.collect(group, index, steps, version, weights, positions)

    def evaluate(self, weights: np.ndarray, episodes: int, protocol: str) -> tuple[list[TaskEvaluation], float]:
        """See `GroupWorker.evaluate`."""
        return self._worker.evaluate(weights, episodes, protocol)


@dataclass(eq=False)
class _Evaluation:
    order: EvaluationOrder
    weights: Any  # ObjectRef
    answers: dict[int, tuple[list[TaskEvaluation], float]] = field(default_factory=dict)


@dataclass(eq=False)
class _Slot:
    """One group of tasks: its current actor and what that actor still owes."""

    group: int
    tasks: tuple[int, ...]
    actor: Any = None
    moved: bool = False  # a new actor: its next chunk starts with a move to the saved positions
    order: ChunkOrder | None = None
    order_weights: Any = None  # ObjectRef or None
    chunk: Any = None  # ObjectRef of the chunk in flight
    evaluations: dict[Any, _Evaluation] = field(default_factory=dict)  # ObjectRef -> what it answers, oldest first


class RayCollector:
    """Collects on Ray actors, one a group of neighbouring tasks. See `cluster.collect.Collector`."""

    def __init__(self, spec: CollectSpec, config: ClusterConfig, session: RaySession) -> None:
        """No worker is started yet; `close` closes the session too. Use `cluster.collectors.make_collector`."""
        workers = count_workers(config, len(spec.suite.tasks))
        self.groups = split_tasks(len(spec.suite.tasks), workers)
        self.replaced: list[str] = []
        self._config = config
        self._resubmits = config.mode == "sync"
        self._slots = [_Slot(group, tasks) for group, tasks in enumerate(self.groups)]
        self._positions: dict[tuple[int, int], Position] = {}
        self._evaluations: list[_Evaluation] = []
        self._lost: deque[Lost] = deque()
        self._newest: tuple[int, Any] | None = None  # version and ObjectRef of the weights last put
        self._session = session
        environment = session.worker_environment()
        # max_restarts=0: a worker that Ray restarts by itself would be back at episode 0
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, runtime_env=environment)(RolloutWorker)
        self._spawn = partial(actor.remote, ray.put(spec))

    def start(self, positions: Positions | None) -> None:
        """See `Collector`; all workers build at once, which takes a while for many Meta-World tasks."""
        for slot in self._slots:
            slot.actor = self._spawn(slot.tasks)
        building = {slot.actor.build.remote(self._of(slot, positions)): slot for slot in self._slots}
        started, warned = time.monotonic(), False
        while building:
            ready, _ = ray.wait(list(building), timeout=1.0)
            elapsed = time.monotonic() - started
            if not ready and elapsed > self._config.start_timeout:
                raise ClusterFailure(
                    f"{len(building)} of {len(self._slots)} rollout workers were not ready after {elapsed:.0f} s "
                    f"({free_cpus()}, each worker needs one): lower cluster.workers or raise cluster.start_timeout"
                )
            if not ready and not warned and elapsed > _PATIENCE:
                warned = True
                tasks = sum(len(group) for group in self.groups)
                print(f"building {tasks} tasks on {len(self._slots)} workers ...", file=sys.stderr)
            for ref in ready:
                slot = building.pop(ref)
                try:
                    self._positions.update(ray.get(ref))
                except RayError as error:
                    self._replace(slot, error)
                    slot.moved = False
                    building[slot.actor.build.remote(self._of(slot, positions))] = slot

    def submit(self, group: int, order: ChunkOrder) -> None:
        """See `Collector`."""
        slot = self._slots[group]
        check_idle(group, order, slot.order)
        slot.order, slot.order_weights = order, self._put(order)
        self._send_chunk(slot)

    def receive(self, timeout: float | None = None) -> Collected | Lost | None:
        """See `Collector`; a dead worker is replaced on the way."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._lost:
            in_flight = {slot.chunk: slot for slot in self._slots if slot.order is not None}
            if not in_flight:
                check_ordered(None)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _ = ray.wait(list(in_flight), timeout=left)
            if not ready:
                return None
            slot = in_flight[ready[0]]
            try:
                collected: Collected = ray.get(ready[0])
            except RayError as error:
                self._replace(slot, error)
                continue
            slot.order = slot.order_weights = slot.chunk = None
            self._positions.update(collected.positions)
            return collected
        return self._lost.popleft()

    def evaluate(self, order: EvaluationOrder) -> None:
        """See `Collector`; each worker evaluates its own tasks when its chunk is done."""
        evaluation = _Evaluation(order, ray.put(order.weights))
        self._evaluations.append(evaluation)
        for slot in self._slots:
            self._send_evaluation(slot, evaluation)

    def evaluations(self) -> list[Evaluated]:
        """See `Collector`; dead workers are replaced on the way."""
        while True:
            pending = {ref: slot for slot in self._slots for ref in slot.evaluations}
            if not pending:
                break
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=0)
            if not ready:
                break
            slot = pending[ready[0]]
            try:
                answer = ray.get(ready[0])
            except RayError as error:
                self._replace(slot, error)
            else:
                slot.evaluations.pop(ready[0]).answers[slot.group] = answer
        done = []
        while self._evaluations and len(self._evaluations[0].answers) == len(self._slots):
            evaluation = self._evaluations.pop(0)
            answers = evaluation.answers.values()
            tasks = sorted((row for rows, _ in answers for row in rows), key=lambda row: row.task)
            done.append(Evaluated(evaluation.order, tasks, max(seconds for _, seconds in answers)))
        return done

    def positions(self) -> dict[tuple[int, int], Position]:
        """See `Collector`."""
        return dict(self._positions)

    def close(self) -> None:
        """See `Collector`."""
        for slot in self._slots:
            if slot.actor is not None:
                ray.kill(slot.actor)
                slot.actor = None
        self._session.close()

    def _put(self, order: ChunkOrder) -> Any:
        """One copy of a version's weights in the object store serves all workers of the machine."""
        if order.weights is None:
            return None
        if self._newest is None or self._newest[0] != order.version:
            self._newest = order.version, ray.put(order.weights)
        return self._newest[1]

    def _send_chunk(self, slot: _Slot) -> None:
        order = check_ordered(slot.order)
        positions = self._of(slot, self._positions) if slot.moved else None
        slot.moved = False
        slot.chunk = slot.actor.collect.remote(
            slot.group, order.index, order.steps, order.version, slot.order_weights, positions
        )

    def _send_evaluation(self, slot: _Slot, evaluation: _Evaluation) -> None:
        order = evaluation.order
        ref = slot.actor.evaluate.remote(evaluation.weights, order.episodes, order.protocol)
        slot.evaluations[ref] = evaluation

    def _of(self, slot: _Slot, positions: Positions | None) -> Positions | None:
        return None if positions is None else {key: at for key, at in positions.items() if key[0] in slot.tasks}

    def _replace(self, slot: _Slot, error: RayError) -> None:
        """Put a new actor into the slot and order again what the old one owed; in async mode its chunk is lost.

        Raises:
            EnvironmentFailure, NotDeterministicError: the worker lives and said so; again would end alike.
            ClusterFailure: any other error of our own code, or too many deaths.
        """
        reason = _explain(error)
        if isinstance(error, RayTaskError):
            cause = error.cause
            if isinstance(cause, NotDeterministicError) or (self._resubmits and isinstance(cause, EnvironmentFailure)):
                raise cause from None
            if not isinstance(cause, EnvironmentFailure):
                raise ClusterFailure(f"{self._name(slot)} failed: {reason}") from error
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise ClusterFailure(f"{self._name(slot)} cannot start: {error}") from error
        if len(self.replaced) >= self._config.max_restarts:
            raise ClusterFailure(
                f"{self._name(slot)} died, and cluster.max_restarts={self._config.max_restarts} workers were replaced "
                f"already: {reason}"
            ) from error
        self.replaced.append(f"{self._name(slot)}: {reason}")
        ray.kill(slot.actor)  # it may live: unreachable, or with a simulator that raised
        slot.actor, slot.moved = self._spawn(slot.tasks), True
        owed, slot.evaluations = list(slot.evaluations.values()), {}
        if slot.order is not None and self._resubmits:
            self._send_chunk(slot)
        elif slot.order is not None:
            self._lost.append(Lost(slot.group, slot.order.index, slot.order.steps, reason))
            slot.order = slot.order_weights = slot.chunk = None
        for evaluation in owed:
            self._send_evaluation(slot, evaluation)

    def _name(self, slot: _Slot) -> str:
        return f"rollout worker {slot.group} (tasks {slot.tasks[0]} to {slot.tasks[-1]})"


def _explain(error: RayError) -> str:
    """One line of what Ray tells at length."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
