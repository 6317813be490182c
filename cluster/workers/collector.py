"""The collector that shares out tasks over Ray workers, which come, go, hang and die while a run goes on.

An order is cut into pieces, one a worker. A piece whose worker is lost is ordered again from the positions of the last
chunk received: in sync mode by the collector, the same chunk with the same weights, hence the same bits; in
async mode the driver is told and orders anew. Which worker does which task is `cluster.workers.assignment`'s matter.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.config import ClusterConfig, ClusterFailure
from cluster.training.collect import (
    ChunkOrder,
    Collected,
    CollectSpec,
    Evaluated,
    EvaluationOrder,
    Lost,
    WorkerInfo,
)
from cluster.training.contracts import Positions
from cluster.training.ledger import DIED, FAILED, Ledger
from cluster.workers.events import WorkerEvents
from cluster.workers.object_store import check_store, most_bytes
from cluster.workers.pieces import Evaluation, Piece
from cluster.workers.placement import Placement
from cluster.workers.pool import LOOK, WorkerHandle, WorkerLoss, WorkerPool, explain
from cluster.workers.session import RaySession, describe_cpus
from envs.errors import EnvironmentFailure, NotDeterministicError
from envs.streams import Position

_PATIENCE = 10.0  # seconds of starting before a line on stderr says so
_BALANCE = 10.0  # seconds between two looks at how evenly tasks are shared out
_ENOUGH = 20.0  # seconds after which an elastic run begins with the workers that there are


class RayCollector:
    """Collects on Ray actors. See `cluster.training.collect.Collector`."""

    def __init__(self, spec: CollectSpec, config: ClusterConfig, session: RaySession) -> None:
        """No worker is started yet; `close` closes the session too. Use `cluster.assembly.make_collector`."""
        self.ledger = Ledger()
        self.replaced: list[str] = []
        self.pool = WorkerPool(spec, config, session)
        self._spec, self._config, self._session = spec, config, session
        self._sync = config.mode == "sync"
        self._tasks = tuple(range(len(spec.suite.tasks)))
        self._placement = Placement(len(self._tasks), self.pool)
        self._positions: dict[tuple[int, int], Position] = {}
        self._built: set[int] = set()
        self._in_flight: set[int] = set()  # tasks whose chunk was ordered and not received
        self._answers: dict[Any, tuple[WorkerHandle, Piece]] = {}  # by ObjectRef
        self._waiting: list[Piece] = []  # for a worker that may be given work
        self._arrived: deque[Collected | Lost] = deque()
        self._evaluations: list[Evaluation] = []
        self._losses: Counter[tuple[str, int]] = Counter()  # in a row, of pieces of a kind of a task
        self._raised: set[tuple[str, str]] = set()  # kind and task whose environment raised, and is tried again
        self._worker_events = WorkerEvents()
        self._newest: tuple[int, Any] | None = None  # version and ObjectRef of the weights last put
        self._acts = False  # the policy does: its chunks take longer than random ones

    @property
    def notice(self) -> str | None:
        """See `Collector`."""
        return self.pool.notice

    def start(self, positions: Positions | None, weights_bytes: int = 0) -> None:
        """See `Collector`; all workers build at once, which takes a while for many Meta-World tasks."""
        self.pool.open()
        spec, config = self._spec, self._config
        needed = most_bytes(spec.suite, spec.copies, config.chunk_steps, self.pool.most, weights_bytes)
        check_store(needed, self.pool.stores(), config)
        self._positions = dict(positions or {})
        started, warned = time.monotonic(), False
        while len(self._built) < len(self._tasks):
            ready, wanted = len(self.pool.able), len(self.pool.workers)
            elapsed = time.monotonic() - started
            enough = ready == wanted or (self.pool.elastic and ready and elapsed > _ENOUGH)
            if enough and not self._answers and not self._waiting:
                self._place(Piece(tuple(task for task in self._tasks if task not in self._built), None))
            if elapsed > config.start_timeout:
                missing = f"{wanted - ready} of {wanted}" if ready < wanted else f"{wanted}"
                raise ClusterFailure(
                    f"{missing} rollout workers were not ready after {elapsed:.0f} s "
                    f"({describe_cpus()}, each worker needs one): lower cluster.workers or raise cluster.start_timeout"
                )
            if not warned and elapsed > _PATIENCE:
                warned = True
                print(f"building {len(self._tasks)} tasks on {wanted} workers ...", file=sys.stderr)
            self._pump(LOOK)

    def submit(self, order: ChunkOrder, tasks: Sequence[int]) -> None:
        """See `Collector`."""
        assert self._in_flight.isdisjoint(tasks), "one chunk of a task at a time"
        self._in_flight.update(tasks)
        if order.weights is not None and not self._acts:
            self._acts = True
            self._placement.speeds.restart()
        self._balance(_BALANCE)
        self._place(Piece(tuple(tasks), order, self._put(order)))

    def idle(self) -> list[tuple[int, ...]]:
        """See `Collector`."""
        self._balance(_BALANCE)
        free = [worker.number for worker in self.pool.able if not any(p.kind == "chunk" for p in worker.pieces)]
        return [tasks for number in free if (tasks := self._placement.tasks_of(number))]

    def receive(self, timeout: float | None = None) -> Collected | Lost | None:
        """See `Collector`; workers are looked after on the way."""
        assert self._in_flight, "no chunk is in flight"
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._arrived:
            left = LOOK if deadline is None else deadline - time.monotonic()
            self._pump(max(0.0, min(left, LOOK)))
            if left <= 0 and not self._arrived:
                return None
        received = self._arrived.popleft()
        if isinstance(received, Collected):
            self._positions.update(received.positions)
            self._in_flight.difference_update(received.chunk.tasks)
        else:
            self._in_flight.difference_update(received.tasks)
        return received

    def evaluate(self, order: EvaluationOrder) -> None:
        """See `Collector`; each worker evaluates its tasks when its chunk is done."""
        evaluation = Evaluation(order, ray.put(order.weights))
        self._evaluations.append(evaluation)
        self._place(Piece(self._tasks, evaluation))

    def evaluations(self) -> list[Evaluated]:
        """See `Collector`; workers are looked after on the way."""
        self._pump(0.0)
        done = []
        while self._evaluations and len(self._evaluations[0].rows) == len(self._tasks):
            one = self._evaluations.pop(0)
            done.append(Evaluated(one.order, [one.rows[task] for task in self._tasks], one.seconds))
        return done

    def tend(self) -> None:
        """See `Collector`."""
        if self.pool.due:
            self._pump(0.0)

    def positions(self) -> dict[tuple[int, int], Position]:
        """See `Collector`."""
        return dict(self._positions)

    def workers(self) -> list[WorkerInfo]:
        """See `Collector`."""
        return [
            WorkerInfo(number, one.state, one.address, one.pid, self._placement.tasks_of(number), one.restarts)
            for number, one in sorted(self.pool.workers.items())
        ]

    def events(self) -> list[dict[str, Any]]:
        """See `Collector`."""
        return self._worker_events.take()

    def close(self) -> None:
        """See `Collector`."""
        self.ledger.close()
        if not self._session.lost:
            self.pool.close()
        self._session.close()

    def _place(self, piece: Piece) -> None:
        """Cut a piece by the workers of its tasks and send it; without any worker it waits for one."""
        shares = [] if self._placement.broken else self._placement.cut(piece.tasks)
        if not shares:
            self._balance()
            shares = self._placement.cut(piece.tasks)
        for worker, tasks in shares:
            self._send(worker, replace(piece, tasks=tasks))
        if not shares:
            self._waiting.append(piece)

    def _send(self, worker: WorkerHandle, piece: Piece) -> None:
        missing = set(piece.tasks) - worker.holds
        positions = {key: at for key, at in self._positions.items() if key[0] in missing}
        match piece.work:
            case None:
                ref = worker.actor.build.remote(piece.tasks, positions)
            case ChunkOrder() as order:
                self.ledger.ordered += len(piece.tasks)
                ref = worker.actor.collect.remote(
                    piece.tasks, order.index, order.steps, order.version, piece.weights, positions
                )
            case Evaluation(order=order, weights=weights):
                ref = worker.actor.evaluate.remote(piece.tasks, weights, order.episodes, order.protocol)
        if piece.kind != "evaluation":
            piece.moves = bool(missing)
            worker.holds |= missing
        if not worker.pieces:
            worker.since = time.monotonic()
        worker.pieces.append(piece)
        self._answers[ref] = worker, piece

    def _pump(self, timeout: float) -> None:
        """Take in answers, at most `timeout` seconds after now, and look after the workers.

        Raises:
            ClusterFailure: Ray itself died; what its client complains of then says less.
        """
        self._session.check()
        try:
            self._answer(timeout)
        except Exception:
            self._session.check()
            raise

    def _answer(self, timeout: float) -> None:
        refs = list(self._answers)
        if refs:
            ready, _ = ray.wait(refs, timeout=timeout)
            # Ray's client ends this process if it asks a dead raylet for an object.
            self._session.check()
            if ready:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            for ref in ready:
                if ref in self._answers:  # or its worker was lost a moment ago
                    self._take(ref)
        elif timeout:
            time.sleep(timeout)
        self._look_after()

    def _take(self, ref: Any) -> None:
        worker, piece = self._answers.pop(ref)
        try:
            answer = ray.get(ref)
        except RayError as error:
            self._lose(WorkerLoss(worker, *self._explain(piece, error)))
            return
        worker.pieces.remove(piece)
        worker.since = time.monotonic()
        if isinstance(piece.work, ChunkOrder):
            self._placement.speeds.observe(
                worker.number, dict(zip(piece.tasks, answer.seconds, strict=True)), piece.work.steps
            )
        for task in piece.tasks:
            self._losses.pop((piece.kind, task), None)
            self._raised.discard((piece.kind, self._spec.suite.tasks[task]))
        match piece.work:
            case None:
                self._positions.update(answer)
                self._built.update(piece.tasks)
            case ChunkOrder():
                self.ledger.collected += len(piece.tasks)
                self._arrived.append(answer)
                self._worker_events.delivered(piece.tasks)
            case Evaluation() as evaluation:
                rows, seconds = answer
                evaluation.rows |= {row.task: row for row in rows}
                evaluation.seconds = max(evaluation.seconds, seconds)

    def _explain(self, piece: Piece, error: RayError) -> tuple[str, str]:
        """Why a worker is lost: reason and text.

        Raises:
            EnvironmentFailure, NotDeterministicError: the worker lives and said so; again would end alike.
            ClusterFailure: any other error of our own code.
        """
        text = explain(error)
        if not isinstance(error, RayTaskError):
            return DIED, text
        cause = error.cause
        if isinstance(cause, NotDeterministicError):
            raise cause from None
        if not isinstance(cause, EnvironmentFailure):
            raise ClusterFailure(f"a rollout worker failed: {text}") from error
        key = piece.kind, cause.task
        if self._sync and (key in self._raised or self._config.max_restarts == 0):
            raise cause from None  # it was tried on another worker: it would raise again
        self._raised.add(key)
        return FAILED, text

    def _lose(self, loss: WorkerLoss) -> None:
        """Replace a worker and give what it owed to others.

        Raises:
            ClusterFailure: a task lost its worker too often.
        """
        worker, reason, text = loss.worker, loss.reason, loss.text
        self._session.check()  # it may have died with its node, which may be the driver's
        owed = list(worker.pieces)
        self._answers = {ref: pair for ref, pair in self._answers.items() if pair[0] is not worker}
        tasks = self._placement.tasks_of(worker.number)
        name = f"rollout worker {worker.number} ({self._name(tasks)})"
        self.replaced.append(f"{name}: {text}")
        self._worker_events.note("worker replaced", worker, tasks, reason=reason, text=text)
        for key in {(piece.kind, task) for piece in owed for task in piece.tasks}:
            self._losses[key] += 1
            if self._losses[key] > self._config.max_restarts:
                self.ledger.dropped[reason] += sum(len(piece.tasks) for piece in owed if piece.kind == "chunk")
                raise ClusterFailure(
                    f"{name} was lost, and a {key[0]} of its tasks has been lost {self._losses[key]} times in a row "
                    f"(cluster.max_restarts={self._config.max_restarts}): {text}"
                )
        self._placement.speeds.forget(worker.number)
        self.pool.replace(worker)
        self._worker_events.lost(worker.number, tasks)
        self._balance()
        for piece in owed:
            if isinstance(piece.work, ChunkOrder):
                self.ledger.dropped[reason] += len(piece.tasks)
                if not self._sync:
                    self._arrived.append(Lost(piece.tasks, piece.work.index, piece.work.steps, f"{reason}: {text}"))
                    continue
            self._place(piece)

    def _look_after(self) -> None:
        limit = self._config.hang_timeout or self._placement.hang_limit(self._config.chunk_steps)
        joined, losses = self.pool.look(limit)
        for loss in losses:
            self._lose(loss)
        for worker in list(self.pool.workers.values()):
            if worker.leaving and not worker.pieces:
                self._worker_events.note("worker left", worker, (), text="its node is being drained")
                self.pool.replace(worker)
        for worker in joined:
            self._worker_events.note("worker joined", worker, self._placement.tasks_of(worker.number))
        overdue = self._placement.overdue(limit)
        if overdue is not None:
            self._lose(overdue)
        if self._built and (joined or self._placement.broken):
            self._balance()
        if self._waiting and self.pool.able:
            waiting, self._waiting = self._waiting, []
            for piece in waiting:
                self._place(piece)

    def _balance(self, at_most_every: float = 0.0) -> None:
        self._worker_events.moved(self._placement.balance(at_most_every))

    def _put(self, order: ChunkOrder) -> Any:
        """One copy of a version's weights in the object store serves all workers of the machine."""
        if order.weights is None:
            return None
        if self._newest is None or self._newest[0] != order.version:
            self._newest = order.version, ray.put(order.weights)
        return self._newest[1]

    def _name(self, tasks: Sequence[int]) -> str:
        names = [self._spec.suite.tasks[task] for task in tasks]
        return f"tasks {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "no task"
