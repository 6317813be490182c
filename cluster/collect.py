"""The contract of a collector, the work of one worker, and the collector that does it all in this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.contracts import PolicyFactory, PolicyLike, Positions
from envs.evaluation import TaskEvaluation, evaluate_task
from envs.rollout import Chunk, Rollout
from envs.streams import Position
from envs.suite import TaskSuite


@dataclass(frozen=True)
class CollectSpec:
    """What every worker must know.

    Attributes:
        suite: The tasks.
        copies: Environments a task.
        seed: Seed of the run.
        policy_factory: Builds the policy that orders bring the weights of.
    """

    suite: TaskSuite
    copies: int
    seed: int
    policy_factory: PolicyFactory


@dataclass(frozen=True, eq=False)
class ChunkOrder:
    """Collect chunk `index`, `steps` vector steps long, with these weights; None: uniform random actions."""

    index: int
    steps: int
    version: int
    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class EvaluationOrder:
    """Evaluate these weights, as they stood after `updates` updates and `step` vector steps, on every task."""

    step: int
    updates: int
    weights: np.ndarray
    episodes: int
    protocol: str


@dataclass(frozen=True, eq=False)
class Collected:
    """A chunk of one group of tasks, and where the group's streams stand after it.

    Attributes:
        group: Index into `Collector.groups`.
        chunk: The experience; the arrays may be read-only.
        positions: Of the group's streams.
        version: Version of the weights that acted.
        seconds: Time that the worker spent on it.
    """

    group: int
    chunk: Chunk
    positions: dict[tuple[int, int], Position]
    version: int
    seconds: float


@dataclass(frozen=True)
class Lost:
    """A chunk that will never come (async mode only); its group stands where it stood before the order."""

    group: int
    index: int
    steps: int
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The answer to an `EvaluationOrder`: one evaluation a task, by task."""

    order: EvaluationOrder
    tasks: list[TaskEvaluation]
    seconds: float


class Collector(Protocol):
    """Owns the environment streams of a run, split into groups of tasks that are collected independently."""

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Task indices of each group; together every task once."""
        ...

    @property
    def replaced(self) -> Sequence[str]:
        """Why each worker that is no more was replaced, in order."""
        ...

    def start(self, positions: Positions | None) -> None:
        """Build the environments, at episode 0 or at these positions.

        Raises:
            EnvironmentFailure, NotDeterministicError, ClusterError: they can't be built or put there.
        """
        ...

    def submit(self, group: int, order: ChunkOrder) -> None:
        """Order the group's next chunk. At most one is in flight a group."""
        ...

    def receive(self, timeout: float | None = None) -> Collected | Lost | None:
        """The next chunk to arrive, whichever it is; None when none came within `timeout` seconds.

        Raises:
            EnvironmentFailure: a simulator raised (sync mode).
            ClusterError: too many workers died, or nothing is in flight.
        """
        ...

    def evaluate(self, order: EvaluationOrder) -> None:
        """Order an evaluation, done between chunks on environments of its own."""
        ...

    def evaluations(self) -> list[Evaluated]:
        """Evaluations finished since the last call, in the order of their orders; never waits for workers."""
        ...

    def positions(self) -> dict[tuple[int, int], Position]:
        """Where every stream stands after the chunks received so far."""
        ...

    def close(self) -> None:
        """Free the environments and end the workers."""
        ...


class GroupWorker:
    """The environments of one group of tasks, wherever they live: what a Ray actor and the inline collector run."""

    def __init__(self, spec: CollectSpec, tasks: Sequence[int]) -> None:
        """Nothing is built yet, so that no failure of an environment can hide as one of the worker."""
        self._spec = spec
        self._tasks = tuple(tasks)
        self._rollout = Rollout(spec.suite, self._tasks, spec.copies, spec.seed)
        self._policy: PolicyLike | None = None

    def build(self, positions: Positions | None) -> dict[tuple[int, int], Position]:
        """Build the simulators, put them at `positions` (None: episode 0), and return where they stand."""
        if positions is not None:
            self._rollout.restore(positions)
        return self._rollout.positions()

    def collect(
        self, group: int, index: int, steps: int, version: int, weights: np.ndarray | None, positions: Positions | None
    ) -> Collected:
        """Collect one chunk, first moving the streams to `positions` unless None."""
        started = time.perf_counter()
        if positions is not None:
            self._rollout.restore(positions)
        policy = None if weights is None else self._load(weights)
        chunk = self._rollout.collect(policy, index, steps)
        seconds = time.perf_counter() - started
        return Collected(group, chunk, self._rollout.positions(), version, seconds)

    def evaluate(self, weights: np.ndarray, episodes: int, protocol: str) -> tuple[list[TaskEvaluation], float]:
        """Evaluate each of the group's tasks; also the seconds it took."""
        started = time.perf_counter()
        mode = self._load(weights).mode
        spec = self._spec
        rows = [evaluate_task(spec.suite, task, mode, episodes, protocol, spec.seed) for task in self._tasks]
        return rows, time.perf_counter() - started

    def close(self) -> None:
        """Free the simulators."""
        self._rollout.close()

    def _load(self, weights: np.ndarray) -> PolicyLike:
        if self._policy is None:
            self._policy = self._spec.policy_factory()
        self._policy.load(weights)
        return self._policy


class InlineCollector:
    """Collects in this process: an order is carried out when its answer is asked for."""

    def __init__(self, spec: CollectSpec) -> None:
        """One group holds all tasks."""
        self.groups = (tuple(range(len(spec.suite.tasks))),)
        self.replaced: list[str] = []
        self._worker = GroupWorker(spec, self.groups[0])
        self._ordered: ChunkOrder | None = None
        self._to_evaluate: deque[EvaluationOrder] = deque()
        self._positions: dict[tuple[int, int], Position] = {}

    def start(self, positions: Positions | None) -> None:
        """See `Collector`."""
        self._positions = self._worker.build(positions)

    def submit(self, group: int, order: ChunkOrder) -> None:
        """See `Collector`."""
        check_idle(group, order, self._ordered)
        self._ordered = order

    def receive(self, timeout: float | None = None) -> Collected:
        """See `Collector`; the chunk is collected now, however long that takes."""
        order, self._ordered = check_ordered(self._ordered), None
        collected = self._worker.collect(0, order.index, order.steps, order.version, order.weights, None)
        self._positions = collected.positions
        return collected

    def evaluate(self, order: EvaluationOrder) -> None:
        """See `Collector`."""
        self._to_evaluate.append(order)

    def evaluations(self) -> list[Evaluated]:
        """See `Collector`; they're carried out now."""
        done = []
        while self._to_evaluate:
            order = self._to_evaluate[0]
            rows, seconds = self._worker.evaluate(order.weights, order.episodes, order.protocol)
            done.append(Evaluated(self._to_evaluate.popleft(), rows, seconds))
        return done

    def positions(self) -> dict[tuple[int, int], Position]:
        """See `Collector`."""
        return dict(self._positions)

    def close(self) -> None:
        """See `Collector`."""
        self._worker.close()


def check_idle(group: int, order: ChunkOrder, in_flight: ChunkOrder | None) -> None:
    """Refuse a second order of a group.

    Raises:
        RuntimeError: the caller did not wait for the first.
    """
    if in_flight is not None:
        raise RuntimeError(f"chunk {order.index} of group {group} ordered while chunk {in_flight.index} is in flight")


def check_ordered(order: ChunkOrder | None) -> ChunkOrder:
    """Refuse to wait for nothing.

    Raises:
        RuntimeError: no chunk was ordered.
    """
    if order is None:
        raise RuntimeError("no chunk is in flight")
    return order
