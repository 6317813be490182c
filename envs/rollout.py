"""Chunk rollout: steps the environments of some tasks, and is rebuilt bit for bit from a few kilobytes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from envs.chunk import Chunk, Episode, by_end, merge_chunks
from envs.errors import EnvironmentFailure, NotDeterministicError, reraise_a_signals
from envs.streams import ACTIONS, GOALS, Position, seed_sequence, stream
from envs.suite import Step, TaskEnvironment, TaskSuite, check_actions, checked_reset, checked_step

__all__ = ["Chunk", "Episode", "Policy", "Rollout", "collect_together", "merge_chunks"]


class Policy(Protocol):
    """A stochastic policy; a task's bits must not depend on which tasks it's asked with."""

    def __call__(self, tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [task, copy, action], for observations and standard normal noise of the same shape."""
        ...


@dataclass(eq=False)
class _Stream:
    """One environment copy and where it stands in its stream of episodes."""

    task: int
    copy: int
    environment: TaskEnvironment | None
    actions_TA: np.ndarray
    obs_O: np.ndarray
    episode: int = 0
    length: int = 0
    return_: float = 0.0
    success_any: bool = False
    success_last: bool = False

    def count(self, step: Step) -> None:
        self.length += 1
        self.return_ += step.reward
        self.success_any |= step.success
        self.success_last = step.success


@dataclass
class Rollout:
    """The environments of some tasks of a suite, each in its own named stream of episodes.

    Simulators are built at the first `collect` or `restore`, which starts every stream at episode 0.

    Attributes:
        suite: Where the tasks come from.
        tasks: Task indices to run here; several Rollouts may share out a suite's tasks.
        copies: Environments a task.
        seed: Seed of the run.
    """

    suite: TaskSuite
    tasks: Sequence[int]
    copies: int
    seed: int
    _streams: dict[tuple[int, int], _Stream] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.tasks = tuple(self.tasks)
        if self.copies < 1 or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"need copies >= 1 and different tasks, not {self.copies} of tasks {self.tasks}")
        wrong = [task for task in self.tasks if not 0 <= task < len(self.suite.tasks)]
        if wrong:
            raise ValueError(f"no task {wrong[0]} in a suite of {len(self.suite.tasks)} tasks")

    def collect(self, policy: Policy | None, index: int, steps: int) -> Chunk:
        """Takes `steps` vector steps with the policy, or with uniformly random actions for None.

        Args:
            policy: Asked with the observations of all these tasks, [task, copy, observation].
            index: Number of the chunk in its run; names the action noise.
            steps: Vector steps, T.

        Raises:
            EnvironmentFailure: A simulator raised, or gave an observation or reward that is not finite. The
                streams then stand in the middle of the chunk: `restore` before going on.
            ValueError: The policy's actions have another shape, or a value that is NaN or outside [-1, 1].
        """
        return collect_together([self], policy, index, steps)[0]

    def positions(self) -> dict[tuple[int, int], Position]:
        """The position of every stream now, by (task, copy); `restore` goes back to it."""
        self._start()
        return {
            key: Position(
                episode=at.episode,
                actions_TA=at.actions_TA[: at.length].copy(),
                last_obs_O=at.obs_O.copy(),
                return_=at.return_,
                success_any=at.success_any,
                success_last=at.success_last,
            )
            for key, at in self._streams.items()
        }

    def restore(self, positions: Mapping[tuple[int, int], Position]) -> None:
        """Puts every stream where `positions` say, by replaying its current episode.

        Args:
            positions: At least this rollout's (task, copy) pairs; others are ignored.

        Raises:
            KeyError: A (task, copy) of this rollout is missing.
            NotDeterministicError: A replay did not arrive, to the bit, where the position says.
            EnvironmentFailure: A simulator raised.
        """
        self._open()
        missing = [key for key in self._streams if key not in positions]
        if missing:
            raise KeyError(f"no position for (task, copy) {missing[0]}; have {sorted(positions)}")
        for key, at in self._streams.items():
            position = positions[key]
            at.episode = position.episode
            self._reset(at)
            for action_A in position.actions_TA:
                at.actions_TA[at.length] = action_A
                step = self._step(at, at.actions_TA[at.length])
                at.count(step)
                at.obs_O = step.obs_O
            same = at.obs_O.tobytes() == position.last_obs_O.tobytes() and at.return_ == position.return_
            if not same:
                raise NotDeterministicError(self.suite.tasks[at.task], at.copy, at.episode, at.length)

    def close(self) -> None:
        """Frees the simulators; a later `collect` starts again at episode 0.

        Raises:
            EnvironmentFailure: A simulator raised; the others are freed.
        """
        streams = list(self._streams.values())
        self._streams.clear()
        failures = []
        for at in streams:
            try:
                if at.environment is not None:
                    at.environment.close()
            except BaseException as error:
                failures.append(self._failure(at, error))
        if failures:
            raise failures[0]

    def _lanes(self, chunk: Chunk, first: int, policy: Policy | None) -> list[_Lane]:
        """This rollout's tasks, ready to fill the chunk's rows from `first` on."""
        self._start()
        steps = chunk.reward_KTN.shape[1]
        return [
            _Lane(
                self,
                task,
                [self._streams[task, copy] for copy in range(self.copies)],
                self._noise(task, chunk.index, steps, uniform=policy is None),
                chunk,
                first + k,
            )
            for k, task in enumerate(self.tasks)
        ]

    def _noise(self, task: int, index: int, steps: int, *, uniform: bool) -> np.ndarray:
        """The chunk's noise, [step, copy, action] float32: each copy has a stream of its own."""
        shape = (steps, self.suite.action_dim)
        copies = [stream(self.seed, ACTIONS, task, copy, index) for copy in range(self.copies)]
        if uniform:
            return np.stack([2 * own.random(shape, np.float32) - 1 for own in copies], axis=1)
        return np.stack([own.standard_normal(shape, np.float32) for own in copies], axis=1)

    def _open(self) -> None:
        """Lays out the streams; each simulator is built at its first reset."""
        if self._streams:
            return
        suite = self.suite
        for task in self.tasks:
            for copy in range(self.copies):
                actions_TA = np.zeros((suite.horizon, suite.action_dim), np.float32)
                obs_O = np.zeros(suite.observation_dim, np.float32)
                self._streams[task, copy] = _Stream(task, copy, None, actions_TA, obs_O)

    def _start(self) -> None:
        if not self._streams:
            self._open()
            for at in self._streams.values():
                self._reset(at)

    def _reset(self, at: _Stream) -> None:
        """Starts the stream's current episode from that episode's own seed."""
        at.length, at.return_, at.success_any, at.success_last = 0, 0.0, False, False
        key = (at.task, at.copy, at.episode)
        goal = int(stream(self.seed, GOALS, *key).integers(self.suite.num_goals))
        try:
            if at.environment is None:
                at.environment = self.suite.make(at.task)
            at.obs_O = checked_reset(at.environment, seed_sequence(self.seed, GOALS, *key), goal)
        except BaseException as error:
            raise self._failure(at, error) from error

    def _step(self, at: _Stream, action_A: np.ndarray) -> Step:
        assert at.environment is not None
        try:
            return checked_step(at.environment, action_A)
        except BaseException as error:
            raise self._failure(at, error) from error

    def _failure(self, at: _Stream, error: BaseException) -> EnvironmentFailure:
        reraise_a_signals(error)
        cause = f"{type(error).__name__}: {error}"
        return EnvironmentFailure(self.suite.tasks[at.task], at.copy, at.episode, at.length, cause)


@dataclass(eq=False)
class _Lane:
    """One task's row of a chunk while it is being collected.

    Attributes:
        rollout: Whose task it is.
        task: Its index.
        streams: Its copies.
        noise_TNA: The actions, or the noise of the policy's actions.
        chunk: Where everything is written.
        row: The task's index in the chunk.
        seconds: Time that the task has taken.
    """

    rollout: Rollout
    task: int
    streams: list[_Stream]
    noise_TNA: np.ndarray
    chunk: Chunk
    row: int
    seconds: float = 0.0

    def __post_init__(self) -> None:
        suite, chunk, row = self.rollout.suite, self.chunk, self.row
        self.obs_TNO, self.action_TNA = chunk.obs_KTNO[row], chunk.action_KTNA[row]
        self.next_obs_TNO, self.reward_TN = chunk.next_obs_KTNO[row], chunk.reward_KTN[row]
        self.name, self.mask_A = suite.tasks[self.task], suite.action_mask_KA[self.task]
        self.padded = not self.mask_A.all()

    def observe(self, t: int) -> None:
        """Writes the observations that step t acts on."""
        for n, at in enumerate(self.streams):
            self.obs_TNO[t, n] = at.obs_O

    def act(self, t: int, action_NA: np.ndarray) -> None:
        """Writes the actions of step t."""
        self.action_TNA[t] = action_NA
        if self.padded:
            self.action_TNA[t] *= self.mask_A

    def step(self, t: int) -> None:
        """Takes step t in every copy."""
        started = time.perf_counter()
        rollout, action_NA = self.rollout, self.action_TNA[t]
        for n, at in enumerate(self.streams):
            action_A = at.actions_TA[at.length]
            action_A[:] = action_NA[n]
            step = rollout._step(at, action_A)
            self.next_obs_TNO[t, n] = at.obs_O = step.obs_O
            self.reward_TN[t, n] = step.reward
            at.count(step)
            if step.terminated or step.truncated:
                self.chunk.terminated_KTN[self.row, t, n] = step.terminated
                self.chunk.ended_KTN[self.row, t, n] = True
                self.chunk.episodes.append(_finished(at, t + 1))
                at.episode += 1
                rollout._reset(at)
        self.seconds += time.perf_counter() - started


def collect_together(
    rollouts: Sequence[Rollout], policy: Policy | None, index: int, steps: int
) -> tuple[Chunk, tuple[float, ...]]:
    """One chunk of several rollouts of a suite: the bits of each `Rollout.collect`, in less time.

    With a policy, all tasks act at once, and its weights are fetched into the caches once a vector step. Random actions
    have no weights: there each task is stepped to the end, and its simulator stays in the caches.

    Args:
        rollouts: Of one suite, seed and number of copies, each with other tasks; the chunk has them in this order.
        policy: See `Rollout.collect`, and there for the errors too.
        index: Number of the chunk in its run.
        steps: Vector steps, T.

    Returns:
        The chunk, and the seconds that each of its tasks took.
    """
    tasks = tuple(task for rollout in rollouts for task in rollout.tasks)
    suite, shape = rollouts[0].suite, (len(tasks), steps, rollouts[0].copies)
    chunk = Chunk(
        index=index,
        tasks=tasks,
        obs_KTNO=np.empty((*shape, suite.observation_dim), np.float32),
        action_KTNA=np.empty((*shape, suite.action_dim), np.float32),
        reward_KTN=np.empty(shape, np.float32),
        next_obs_KTNO=np.empty((*shape, suite.observation_dim), np.float32),
        terminated_KTN=np.zeros(shape, np.bool_),
        ended_KTN=np.zeros(shape, np.bool_),
        episodes=[],
    )
    lanes: list[_Lane] = []
    for rollout in rollouts:
        lanes += rollout._lanes(chunk, len(lanes), policy)
    if policy is None:
        _collect_random(lanes, steps)
    else:
        _collect(lanes, policy, chunk)
    chunk.episodes.sort(key=by_end)
    return chunk, tuple(lane.seconds for lane in lanes)


def _collect(lanes: Sequence[_Lane], policy: Policy, chunk: Chunk) -> None:
    noise_TKNA = np.stack([lane.noise_TNA for lane in lanes], axis=1)
    for t, noise_KNA in enumerate(noise_TKNA):
        started = time.perf_counter()
        for lane in lanes:
            lane.observe(t)
        action_KNA = policy(chunk.tasks, chunk.obs_KTNO[:, t], noise_KNA)
        check_actions(action_KNA, noise_KNA.shape, [lane.name for lane in lanes])
        for lane, action_NA in zip(lanes, action_KNA, strict=True):
            lane.act(t, action_NA)
        share = (time.perf_counter() - started) / len(lanes)
        for lane in lanes:
            lane.seconds += share
            lane.step(t)


def _collect_random(lanes: Sequence[_Lane], steps: int) -> None:
    for lane in lanes:
        for t in range(steps):
            lane.observe(t)
            lane.act(t, lane.noise_TNA[t])
            lane.step(t)


def _finished(at: _Stream, end: int) -> Episode:
    return Episode(
        task=at.task,
        copy=at.copy,
        number=at.episode,
        end=end,
        return_=at.return_,
        length=at.length,
        success_any=at.success_any,
        success_last=at.success_last,
    )
