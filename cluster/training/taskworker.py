"""The work of one worker, wherever it lives: what a Ray actor and the inline collector run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.training.collect import Collected, CollectSpec
from cluster.training.contracts import PolicyLike, Positions
from envs.errors import exits_raise
from envs.evaluation import TaskEvaluation, evaluate_task
from envs.rollout import Rollout, collect_together
from envs.streams import Position
from envs.suite import Step, TaskEnvironment, TaskSuite


class Progress:
    """Tells a worker that is slow from one that hangs: every simulator step counts as a sign of life."""

    def __init__(self) -> None:
        """The worker has nothing to do."""
        self._working = False
        self._last = time.monotonic()

    def note(self) -> None:
        """Something was done."""
        self._last = time.monotonic()

    def __enter__(self) -> None:
        """A call begins."""
        self._working = True
        self.note()

    def __exit__(self, *raised: object) -> None:
        """A call ends."""
        self._working = False

    def silent(self) -> float:
        """Seconds since the last sign of life; 0 for a worker that has nothing to do."""
        return time.monotonic() - self._last if self._working else 0.0


class TaskWorker:
    """The environments of some tasks, each in a rollout of its own, so that tasks come and go one by one."""

    def __init__(self, spec: CollectSpec, number: int = 0) -> None:
        """Nothing is built yet, so that no failure of an environment can hide as one of the worker."""
        self.progress = Progress()
        self._spec, self._number = spec, number
        self._factory = _WatchedFactory(spec.suite.factory, self.progress.note)
        self._suites: dict[int, TaskSuite] = {}  # one a task: evaluation keeps its simulators as long as their suite
        self._rollouts: dict[int, Rollout] = {}
        self._policy: PolicyLike | None = None

    @exits_raise()
    def build(self, tasks: Sequence[int], positions: Positions) -> dict[tuple[int, int], Position]:
        """Build the simulators of tasks at their positions, or at episode 0, and return where they stand."""
        with self.progress:
            self._move(tasks, positions)
            return self._positions(tasks)

    @exits_raise()
    def collect(
        self,
        tasks: Sequence[int],
        index: int,
        steps: int,
        version: int,
        weights: np.ndarray | None,
        positions: Positions,
    ) -> Collected:
        """Collect one chunk of these tasks, first moving those that have `positions` there."""
        with self.progress:
            tasks = sorted(tasks)
            self._move(tasks, positions)
            policy = None if weights is None else self._load(weights)
            chunk, seconds = collect_together([self._rollouts[task] for task in tasks], policy, index, steps)
            return Collected(chunk, self._positions(tasks), version, seconds, self._number)

    def evaluate(
        self, tasks: Sequence[int], weights: np.ndarray, episodes: int, protocol: str
    ) -> tuple[list[TaskEvaluation], float]:
        """Evaluate each of these tasks; also the seconds it took."""
        with self.progress:
            started, spec = time.perf_counter(), self._spec
            mode = self._load(weights).mode
            rows = [evaluate_task(self._suite(task), task, mode, episodes, protocol, spec.seed) for task in tasks]
            return rows, time.perf_counter() - started

    @exits_raise()
    def release(self, tasks: Iterable[int]) -> None:
        """Free the simulators of tasks that another worker has now."""
        with self.progress:
            for task in tasks:
                self._suites.pop(task, None)
                rollout = self._rollouts.pop(task, None)
                if rollout is not None:
                    rollout.close()

    def close(self) -> None:
        """Free the simulators."""
        self.release(list(self._rollouts))

    def _move(self, tasks: Sequence[int], positions: Positions) -> None:
        spec = self._spec
        for task in tasks:
            if task not in self._rollouts:
                self._rollouts[task] = Rollout(self._suite(task), (task,), spec.copies, spec.seed)
            own = {key: position for key, position in positions.items() if key[0] == task}
            if own:
                self._rollouts[task].restore(own)

    def _suite(self, task: int) -> TaskSuite:
        return self._suites.setdefault(task, replace(self._spec.suite, factory=self._factory))

    def _positions(self, tasks: Sequence[int]) -> dict[tuple[int, int], Position]:
        return {key: position for task in tasks for key, position in self._rollouts[task].positions().items()}

    def _load(self, weights: np.ndarray) -> PolicyLike:
        if self._policy is None:
            self._policy = self._spec.policy_factory()
        self._policy.load(weights)
        return self._policy


@dataclass(frozen=True)
class _WatchedFactory:
    """A suite's factory whose environments give signs of life."""

    factory: Callable[[int, int | None], TaskEnvironment]
    note: Callable[[], None]

    def __call__(self, task: int, horizon: int | None) -> TaskEnvironment:
        environment = self.factory(task, horizon)
        self.note()
        return _WatchedEnvironment(environment, self.note)


@dataclass(frozen=True)
class _WatchedEnvironment:
    environment: TaskEnvironment
    note: Callable[[], None]

    def reset(self, seed: np.random.SeedSequence, goal: int | None) -> np.ndarray:
        self.note()
        return self.environment.reset(seed, goal)

    def step(self, action_A: np.ndarray) -> Step:
        self.note()
        return self.environment.step(action_A)

    def close(self) -> None:
        self.environment.close()
