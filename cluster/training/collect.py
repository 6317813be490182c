"""The contract of a collector: what is ordered from it, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cluster.training.contracts import PolicyFactory, Positions
from cluster.training.ledger import Ledger
from envs.evaluation import TaskEvaluation
from envs.rollout import Chunk
from envs.streams import Position
from envs.suite import TaskSuite

PENDING_EVALUATIONS = 4
"""Evaluations ordered and not written; the driver waits before it orders one more."""


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
    """A chunk of some tasks, and where their streams stand after it.

    Attributes:
        chunk: The experience of `chunk.tasks`; the arrays may be read-only.
        positions: Of their streams.
        version: Version of the weights that acted.
        seconds: Time that each task's steps took, in the order of `chunk.tasks`.
        worker: Number of the worker that did it.
    """

    chunk: Chunk
    positions: dict[tuple[int, int], Position]
    version: int
    seconds: tuple[float, ...]
    worker: int = 0


@dataclass(frozen=True)
class Lost:
    """A chunk that will never come (async mode only); its tasks stand where they stood before the order."""

    tasks: tuple[int, ...]
    index: int
    steps: int
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The answer to an `EvaluationOrder`: one evaluation a task, by task."""

    order: EvaluationOrder
    tasks: list[TaskEvaluation]
    seconds: float


@dataclass(frozen=True)
class WorkerInfo:
    """A worker as health.jsonl tells of it.

    Attributes:
        number: Its number; a worker that replaces another one takes over its number.
        state: starting | ready | leaving (its node is drained).
        node: Address of its node, once it has started.
        pid: Its process.
        tasks: Indices of the tasks that it'll collect next.
        restarts: How often a worker of this number was replaced.
    """

    number: int
    state: str
    node: str
    pid: int
    tasks: tuple[int, ...]
    restarts: int


class Collector(Protocol):
    """Owns the environment streams of a run and shares out their tasks over workers, as many as there are."""

    @property
    def ledger(self) -> Ledger:
        """Counts of chunks; the driver counts those that it uses."""

    @property
    def replaced(self) -> Sequence[str]:
        """Why each worker that is no more was replaced, in order."""

    @property
    def notice(self) -> str | None:
        """Why this process should save and stop now (its node is drained), or None."""

    def start(self, positions: Positions | None, weights_bytes: int = 0) -> None:
        """Build the environments, at episode 0 or at these positions; the policy's weights have that many bytes.

        Raises:
            EnvironmentFailure, NotDeterministicError, ClusterError: they can't be built or put there.
        """

    def submit(self, order: ChunkOrder, tasks: Sequence[int]) -> None:
        """Order the next chunk of these tasks. At most one is in flight a task; how they're grouped changes no bit."""

    def idle(self) -> list[tuple[int, ...]]:
        """The tasks of each worker that has no chunk to do, in flight elsewhere or not; ordering them keeps it busy."""

    def receive(self, timeout: float | None = None) -> Collected | Lost | None:
        """The next chunk to arrive, whichever tasks it's of; None when none came within `timeout` seconds.

        Raises:
            EnvironmentFailure: a simulator raised, and again when it was tried on another worker (sync mode).
            ClusterError: workers kept dying.
        """

    def evaluate(self, order: EvaluationOrder) -> None:
        """Order an evaluation, done between chunks on environments of its own."""

    def evaluations(self) -> list[Evaluated]:
        """Evaluations finished since the last call, in the order of their orders; never waits for workers."""

    def tend(self) -> None:
        """Look after the workers: replace, add, move tasks. Cheap; call it often while nothing else is called."""

    def positions(self) -> dict[tuple[int, int], Position]:
        """Where every stream stands after the chunks received so far."""

    def workers(self) -> list[WorkerInfo]:
        """The workers as they stand now."""

    def events(self) -> list[dict[str, Any]]:
        """What happened to workers since the last call, as rows of health.jsonl."""

    def close(self) -> None:
        """Free the environments and end the workers; what is in flight is dropped."""
