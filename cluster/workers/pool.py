"""Rollout workers as Ray actors, and the pool that keeps as many of them alive as the cluster has room for.

A worker that dies, hangs, or whose node is drained is replaced by a new one of its number; Ray itself restarts and
retries nothing. Each has a placement group of one CPU, which tells one that waits for room from one that has it and
does not answer. The first may wait for ever: an autoscaler sees it, and a node that joins takes it. The second is given
up. Only workers that have answered once are given work, so one that waits blocks nobody.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import ClusterConfig, ClusterFailure, count_workers
from cluster.training.collect import CollectSpec
from cluster.training.ledger import DIED, HUNG
from cluster.training.taskworker import TaskWorker
from cluster.workers.pieces import Piece
from cluster.workers.session import Node, RaySession, draining_nodes, free_cpus, nodes, own_node

LOOK = 0.25  # seconds between two looks at answers about health
_SURVEY = 1.0  # seconds between two looks at the cluster's nodes
_BEATS = 4  # questions about health within the time that a worker may be silent
HANG_LEAST = 60.0  # seconds that a worker may be silent, by default
_START_FACTOR = 2.0  # of the slowest start so far
_FIRST_STARTS = 4  # that fit into cluster.start_timeout, while no start has told how long one takes


class RolloutWorker(TaskWorker):
    """The actor: a `TaskWorker` on one core (its environment variables keep every library to one thread)."""

    def hello(self) -> tuple[str, int]:
        """The node's id and the process."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    @ray.method(concurrency_group="health")
    def silent(self) -> float:
        """See `Progress.silent`; answered by a thread of its own while the worker works."""
        return self.progress.silent()


@dataclass(eq=False)
class WorkerHandle:
    """A worker of the pool, and what the collector has given it to do."""

    number: int
    place: PlacementGroup  # the CPU that it has, or waits for
    actor: Any
    greeting: Any  # ObjectRef of its first answer
    restarts: int = 0
    placed: float | None = None  # when its CPU was there: since then it must start
    node: str = ""  # id, once it has answered
    address: str = ""
    pid: int = 0
    ready: bool = False
    leaving: bool = False
    holds: set[int] = field(default_factory=set)  # tasks whose streams stand, on it, where the driver has them
    pieces: deque[Piece] = field(default_factory=deque)  # work it hasn't answered, in the order that it does it
    since: float = 0.0  # when the first of them became the first
    beat: Any = None  # ObjectRef of a question about its health
    asked: float = 0.0  # when it was, or will be, asked

    @property
    def able(self) -> bool:
        """Whether it may be given work."""
        return self.state == "ready"

    @property
    def state(self) -> str:
        """See `WorkerInfo.state`."""
        if not self.ready:
            return "starting"
        return "leaving" if self.leaving else "ready"


@dataclass(frozen=True, eq=False)
class WorkerLoss:
    """A worker that must be given up, a reason of the ledger, and what is known of it."""

    worker: WorkerHandle
    reason: str
    text: str


class WorkerPool:
    """Workers by their numbers, on however many nodes there are."""

    def __init__(self, spec: CollectSpec, config: ClusterConfig, session: RaySession) -> None:
        """No worker is started yet."""
        self.workers: dict[int, WorkerHandle] = {}
        self.most = count_workers(config, len(spec.suite.tasks))
        self.elastic = config.kind == "ray" and config.workers is None
        self.notice: str | None = None
        self._config = config
        self._known: dict[str, Node] = {}
        self._own = own_node()
        self._spec = ray.put(spec)
        # max_restarts=0: a worker that Ray restarts by itself would be back at episode 0
        remote: Any = ray.remote  # its types know no concurrency_groups
        self._class = remote(
            num_cpus=1,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"health": 1},
            runtime_env=session.worker_environment(),
        )(RolloutWorker)
        self._failures = 0  # of workers in a row, to start
        self._slowest_start: float | None = None  # seconds
        self._looked = self._surveyed = 0.0
        self._room = 0  # workers that the last look found room for

    @property
    def able(self) -> list[WorkerHandle]:
        """The workers that may be given work."""
        return [worker for worker in self.workers.values() if worker.able]

    @property
    def due(self) -> bool:
        """Whether it's time for a look."""
        return time.monotonic() - self._looked >= LOOK

    def open(self) -> None:
        """Start the first workers: all that were asked for, or as many as the cluster has room for now."""
        self._known = nodes()
        wanted = min(self.most, max(1, int(free_cpus()))) if self.elastic else self.most
        for number in range(wanted):
            self.workers[number] = self._spawn(number, 0)

    def stores(self) -> dict[str, int]:
        """Bytes of the object store of every node, by its address and id."""
        return {f"{node.address} ({key[:8]})": node.store_bytes for key, node in self._known.items()}

    def replace(self, worker: WorkerHandle) -> None:
        """End a worker and start another one of its number."""
        _end(worker)  # it may live: hung, unreachable, or with a simulator that raised
        self.workers[worker.number] = self._spawn(worker.number, worker.restarts + 1)

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            _end(worker)
        self.workers.clear()

    def look(self, hang_limit: float) -> tuple[list[WorkerHandle], list[WorkerLoss]]:
        """Workers that joined, and those that hang, or died before they had anything to do.

        Args:
            hang_limit: Seconds that a worker may be silent.

        Raises:
            ClusterFailure: workers can't start.
        """
        if not self.due:
            return [], []
        now = self._looked = time.monotonic()
        joined, losses = self._read_answers(now, hang_limit)
        if now - self._surveyed >= _SURVEY:
            self._surveyed = now
            try:
                self._survey()
            except RayError as error:
                raise ClusterFailure(f"the cluster's head node doesn't answer: {explain(error)}") from error
        return joined, losses

    def _read_answers(self, now: float, limit: float) -> tuple[list[WorkerHandle], list[WorkerLoss]]:
        joined: list[WorkerHandle] = []
        losses: list[WorkerLoss] = []
        greetings = {worker.greeting: worker for worker in self.workers.values() if not worker.ready}
        beats = {worker.beat: worker for worker in self.workers.values() if worker.beat is not None}
        asked = [*greetings, *beats]
        answered = ray.wait(asked, num_returns=len(asked), timeout=0)[0] if asked else []
        for ref in answered:
            worker = greetings.get(ref) or beats[ref]
            try:
                answer = ray.get(ref)
            except RayError as error:
                self._check_starts(worker, explain(error), error)
                losses.append(WorkerLoss(worker, DIED, explain(error)))
                continue
            if ref in greetings:
                self._welcome(worker, answer, now)
                joined.append(worker)
                continue
            worker.beat, worker.asked = None, now + limit / _BEATS
            if answer > limit:
                losses.append(WorkerLoss(worker, HUNG, f"no simulator step for {answer:.0f} s (cluster.hang_timeout)"))
        for worker in self.workers.values():
            if not worker.ready:
                losses += self._starting(worker, now)
            elif worker.beat is not None and now - worker.asked > limit:
                losses.append(
                    WorkerLoss(worker, HUNG, f"no answer for {now - worker.asked:.0f} s (cluster.hang_timeout)")
                )
            elif worker.beat is None and now >= worker.asked:
                worker.beat, worker.asked = worker.actor.silent.remote(), now
        return joined, list({one.worker.number: one for one in losses}.values())

    def _starting(self, worker: WorkerHandle, now: float) -> list[WorkerLoss]:
        """A worker that has a CPU and doesn't answer; one that has none waits."""
        if worker.placed is None:
            if placement_group_table(worker.place)["state"] == "CREATED":
                worker.placed = now
            return []
        if now - worker.placed <= self._start_limit():
            return []
        text = f"no answer within {now - worker.placed:.0f} s of its start"
        self._check_starts(worker, text)
        return [WorkerLoss(worker, HUNG, text)]

    def _welcome(self, worker: WorkerHandle, answer: tuple[str, int], now: float) -> None:
        worker.node, worker.pid = answer
        if worker.node not in self._known:
            self._known = nodes()
        known = self._known.get(worker.node)
        worker.address = known.address if known is not None else "?"
        worker.ready, worker.asked, self._failures = True, now, 0
        if worker.placed is not None:
            self._slowest_start = max(self._slowest_start or 0.0, now - worker.placed)

    def _check_starts(self, worker: WorkerHandle, text: str, error: RayError | None = None) -> None:
        if worker.ready:
            return
        self._failures += 1
        init_failed = isinstance(error, RayActorError) and error.actor_init_failed
        if init_failed or self._failures > max(self._config.max_restarts, 1):
            raise ClusterFailure(f"rollout worker {worker.number} cannot start: {text}") from error

    def _survey(self) -> None:
        """Look at the nodes: who is told to go, and is there room for more workers?"""
        draining = draining_nodes()
        for worker in self.workers.values():
            worker.leaving = worker.leaving or (worker.ready and worker.node in draining)
        # An idle node that is drained is gone at once; the driver on it lives on a little longer.
        if self.notice is None and (self._own in draining or self._own not in nodes()):
            self.notice = "the driver's node is being drained"
        if not self.elastic:
            return
        waiting = sum(worker.placed is None and not worker.ready for worker in self.workers.values())
        room = min(int(free_cpus()) - waiting, self.most - len(self.workers))
        # Twice in a row, because Ray tells what is free a moment after it gave it to a worker.
        for _ in range(min(room, self._room)):
            number = next(number for number in range(self.most) if number not in self.workers)
            self.workers[number] = self._spawn(number, 0)
            room -= 1
        self._room = room

    def _start_limit(self) -> float:
        """Seconds that a worker with a CPU may take to answer: the first ones may have much to load."""
        if self._slowest_start is None:
            usual = self._config.start_timeout / _FIRST_STARTS
        else:
            usual = _START_FACTOR * self._slowest_start
        return min(self._config.start_timeout, max(HANG_LEAST, usual, self._config.hang_timeout or 0.0))

    def _spawn(self, number: int, restarts: int) -> WorkerHandle:
        place = placement_group([{"CPU": 1.0}])
        strategy = PlacementGroupSchedulingStrategy(place, 0)
        actor = self._class.options(scheduling_strategy=strategy).remote(self._spec, number)
        return WorkerHandle(number, place, actor, actor.hello.remote(), restarts)


def _end(worker: WorkerHandle) -> None:
    ray.kill(worker.actor)
    remove_placement_group(worker.place)


def explain(error: BaseException) -> str:
    """One line of what Ray tells at length."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"{type(cause).__name__}: {cause}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
