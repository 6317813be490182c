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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import ClusterConfig, ClusterFailure, count_workers
from cluster.training.collect import Collected, CollectSpec
from cluster.training.contracts import Positions
from cluster.training.ledger import DIED, HUNG
from cluster.training.taskworker import TaskWorker
from cluster.workers.session import Node, RaySession, draining_nodes, free_cpus, nodes, own_node
from envs.evaluation import TaskEvaluation
from envs.streams import Position

LOOK = 0.25  # seconds between two looks at answers about health
_SURVEY = 1.0  # seconds between two looks at the cluster's nodes
_BEATS = 4  # questions about health within the time that a worker may be silent
_HANG_FACTOR, _HANG_LEAST = 20.0, 60.0
_START_FACTOR = 2.0  # of the slowest start so far
_FIRST_STARTS = 4  # that fit into cluster.start_timeout, while no start has told how long one takes


class RolloutWorker:
    """The actor: a `TaskWorker` on one core (its environment variables keep every library to one thread)."""

    def __init__(self, spec: CollectSpec, number: int) -> None:
        """Cheap; `build` does the work, so that its errors are told from a death."""
        self._worker = TaskWorker(spec, number)

    def hello(self) -> tuple[str, int]:
        """The node's id and the process."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def build(self, tasks: tuple[int, ...], positions: Positions) -> dict[tuple[int, int], Position]:
        """See `TaskWorker.build`."""
        return self._worker.build(tasks, positions)

    def collect(
        self,
        tasks: tuple[int, ...],
        index: int,
        steps: int,
        version: int,
        weights: np.ndarray | None,
        positions: Positions,
    ) -> Collected:
        """See `TaskWorker.collect`."""
        return self._worker.collect(tasks, index, steps, version, weights, positions)

    def evaluate(
        self, tasks: tuple[int, ...], weights: np.ndarray, episodes: int, protocol: str
    ) -> tuple[list[TaskEvaluation], float]:
        """See `TaskWorker.evaluate`."""
        return self._worker.evaluate(tasks, weights, episodes, protocol)

    def release(self, tasks: tuple[int, ...]) -> None:
        """See `TaskWorker.release`."""
        self._worker.release(tasks)

    @ray.method(concurrency_group="health")
    def silent(self) -> float:
        """See `Progress.silent`; answered by a thread of its own while the worker works."""
        return self._worker.progress.silent()


@dataclass(eq=False)
class Member:
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
    pieces: deque[Any] = field(default_factory=deque)  # work it hasn't answered, in the order that it does it
    since: float = 0.0  # when the first of them became the first
    beat: Any = None  # ObjectRef of a question about its health
    asked: float = 0.0  # when it was, or will be, asked

    @property
    def able(self) -> bool:
        """Whether it may be given work."""
        return self.ready and not self.leaving

    @property
    def state(self) -> str:
        """See `WorkerInfo.state`."""
        if not self.ready:
            return "starting"
        return "leaving" if self.leaving else "ready"


@dataclass(frozen=True, eq=False)
class Gone:
    """A worker that must be given up: it died, or hangs (it is killed already)."""

    member: Member
    reason: str
    text: str


class WorkerPool:
    """Workers by their numbers, on however many nodes there are."""

    def __init__(self, spec: CollectSpec, config: ClusterConfig, session: RaySession) -> None:
        """No worker is started yet."""
        self.members: dict[int, Member] = {}
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
        self.mean_chunk: Callable[[], float | None] = lambda: None

    @property
    def able(self) -> list[Member]:
        """The workers that may be given work."""
        return [member for member in self.members.values() if member.able]

    @property
    def due(self) -> bool:
        """Whether it's time for a look."""
        return time.monotonic() - self._looked >= LOOK

    def open(self) -> None:
        """Start the first workers: all that were asked for, or as many as the cluster has room for now."""
        self._known = nodes()
        wanted = min(self.most, max(1, int(free_cpus()))) if self.elastic else self.most
        for number in range(wanted):
            self.members[number] = self._spawn(number, 0)

    def stores(self) -> dict[str, int]:
        """Bytes of the object store of every node, by its address and id."""
        return {f"{node.address} ({key[:8]})": node.store_bytes for key, node in self._known.items()}

    def replace(self, member: Member) -> None:
        """End a worker and start another one of its number."""
        _end(member)  # it may live: hung, unreachable, or with a simulator that raised
        self.members[member.number] = self._spawn(member.number, member.restarts + 1)

    def close(self) -> None:
        """End all workers."""
        for member in self.members.values():
            _end(member)
        self.members.clear()

    def look(self) -> tuple[list[Member], list[Gone]]:
        """Workers that joined, and those that hang, or died before they had anything to do.

        Raises:
            ClusterFailure: workers can't start.
        """
        if not self.due:
            return [], []
        now = self._looked = time.monotonic()
        joined, gone = self._read_answers(now)
        if now - self._surveyed >= _SURVEY:
            self._surveyed = now
            try:
                self._survey()
            except RayError as error:
                raise ClusterFailure(f"the cluster's head node doesn't answer: {explain(error)}") from error
        return joined, gone

    def _read_answers(self, now: float) -> tuple[list[Member], list[Gone]]:
        limit, joined, gone = self.hang_limit(), [], []
        greetings = {member.greeting: member for member in self.members.values() if not member.ready}
        beats = {member.beat: member for member in self.members.values() if member.beat is not None}
        asked = [*greetings, *beats]
        answered = ray.wait(asked, num_returns=len(asked), timeout=0)[0] if asked else []
        for ref in answered:
            member = greetings.get(ref) or beats[ref]
            try:
                answer = ray.get(ref)
            except RayError as error:
                self._check_starts(member, explain(error), error)
                gone.append(Gone(member, DIED, explain(error)))
                continue
            if ref in greetings:
                self._welcome(member, answer, now)
                joined.append(member)
                continue
            member.beat, member.asked = None, now + limit / _BEATS
            if answer > limit:
                gone.append(Gone(member, HUNG, f"no simulator step for {answer:.0f} s (cluster.hang_timeout)"))
        for member in self.members.values():
            if not member.ready:
                gone += self._starting(member, now)
            elif member.beat is not None and now - member.asked > limit:
                gone.append(Gone(member, HUNG, f"no answer for {now - member.asked:.0f} s (cluster.hang_timeout)"))
            elif member.beat is None and now >= member.asked:
                member.beat, member.asked = member.actor.silent.remote(), now
        return joined, list({one.member.number: one for one in gone}.values())

    def _starting(self, member: Member, now: float) -> list[Gone]:
        """A worker that has a CPU and doesn't answer; one that has none waits."""
        if member.placed is None:
            if placement_group_table(member.place)["state"] == "CREATED":
                member.placed = now
            return []
        if now - member.placed <= self._start_limit():
            return []
        text = f"no answer within {now - member.placed:.0f} s of its start"
        self._check_starts(member, text)
        return [Gone(member, HUNG, text)]

    def _welcome(self, member: Member, answer: tuple[str, int], now: float) -> None:
        member.node, member.pid = answer
        if member.node not in self._known:
            self._known = nodes()
        known = self._known.get(member.node)
        member.address = known.address if known is not None else "?"
        member.ready, member.asked, self._failures = True, now, 0
        if member.placed is not None:
            self._slowest_start = max(self._slowest_start or 0.0, now - member.placed)

    def _check_starts(self, member: Member, text: str, error: RayError | None = None) -> None:
        if member.ready:
            return
        self._failures += 1
        init_failed = isinstance(error, RayActorError) and error.actor_init_failed
        if init_failed or self._failures > max(self._config.max_restarts, 1):
            raise ClusterFailure(f"rollout worker {member.number} cannot start: {text}") from error

    def _survey(self) -> None:
        """Look at the nodes: who is told to go, and is there room for more workers?"""
        draining = draining_nodes()
        for member in self.members.values():
            member.leaving = member.leaving or (member.ready and member.node in draining)
        # An idle node that is drained is gone at once; the driver on it lives on a little longer.
        if self.notice is None and (self._own in draining or self._own not in nodes()):
            self.notice = "the driver's node is being drained"
        if not self.elastic:
            return
        waiting = sum(member.placed is None and not member.ready for member in self.members.values())
        room = min(int(free_cpus()) - waiting, self.most - len(self.members))
        # Twice in a row, because Ray tells what is free a moment after it gave it to a worker.
        for _ in range(min(room, self._room)):
            number = next(number for number in range(self.most) if number not in self.members)
            self.members[number] = self._spawn(number, 0)
            room -= 1
        self._room = room

    def hang_limit(self) -> float:
        """Seconds that a worker may be silent, and that a chunk may take that should take much less."""
        if self._config.hang_timeout is not None:
            return self._config.hang_timeout
        mean = self.mean_chunk()
        return _HANG_LEAST if mean is None else max(_HANG_LEAST, _HANG_FACTOR * mean)

    def _start_limit(self) -> float:
        """Seconds that a worker with a CPU may take to answer: the first ones may have much to load."""
        if self._slowest_start is None:
            usual = self._config.start_timeout / _FIRST_STARTS
        else:
            usual = _START_FACTOR * self._slowest_start
        return min(self._config.start_timeout, max(_HANG_LEAST, usual, self._config.hang_timeout or 0.0))

    def _spawn(self, number: int, restarts: int) -> Member:
        place = placement_group([{"CPU": 1.0}])
        strategy = PlacementGroupSchedulingStrategy(place, 0)
        actor = self._class.options(scheduling_strategy=strategy).remote(self._spec, number)
        return Member(number, place, actor, actor.hello.remote(), restarts)


def _end(member: Member) -> None:
    ray.kill(member.actor)
    remove_placement_group(member.place)


def explain(error: BaseException) -> str:
    """One line of what Ray tells at length."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"{type(cause).__name__}: {cause}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
