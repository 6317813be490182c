"""Chunk rollout: steps the environments of some tasks, and is rebuilt bit for bit from a few kilobytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from envs.chunk import Chunk, Episode, by_end, merge_chunks
from envs.errors import EnvironmentFailure, NotDeterministicError
from envs.streams import ACTIONS, GOALS, Position, seed_sequence, stream
from envs.suite import Step, TaskEnvironment, TaskSuite, check_actions, checked_step

__all__ = ["Chunk", "Episode", "Policy", "Rollout", "merge_chunks"]


class Policy(Protocol):
    """A stochastic policy, asked one task at a time: so the bits do not depend on how tasks are grouped."""

    def __call__(self, task: int, obs_NO: np.ndarray, noise_NA: np.ndarray) -> np.ndarray:
        """Actions in [-1, 1], [copy, action], for [copy, observation] and standard normal [copy, action]."""
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
            policy: Asked with observations [copy, observation] of one task at a time.
            index: Number of the chunk in its run; names the action noise.
            steps: Vector steps, T.

        Raises:
            EnvironmentFailure: A simulator raised, or gave an observation or reward that is not finite. The
                streams then stand in the middle of the chunk: `restore` before going on.
            ValueError: The policy's actions have another shape, or a value that is NaN or outside [-1, 1].
        """
        self._start()
        shape, suite = (len(self.tasks), steps, self.copies), self.suite
        chunk = Chunk(
            index=index,
            tasks=tuple(self.tasks),
            obs_KTNO=np.empty((*shape, suite.observation_dim), np.float32),
            action_KTNA=np.empty((*shape, suite.action_dim), np.float32),
            reward_KTN=np.empty(shape, np.float32),
            next_obs_KTNO=np.empty((*shape, suite.observation_dim), np.float32),
            terminated_KTN=np.zeros(shape, np.bool_),
            ended_KTN=np.zeros(shape, np.bool_),
            episodes=[],
        )
        for k in range(len(self.tasks)):
            self._collect_task(policy, chunk, k)
        chunk.episodes.sort(key=by_end)
        return chunk

    def positions(self) -> dict[tuple[int, int], Position]:
        """Where every stream stands now, by (task, copy); what `restore` needs to stand there again."""
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
        """Frees the simulators; a later `collect` starts again at episode 0."""
        for at in self._streams.values():
            if at.environment is not None:
                at.environment.close()
        self._streams.clear()

    def _collect_task(self, policy: Policy | None, chunk: Chunk, k: int) -> None:
        task, suite = chunk.tasks[k], self.suite
        streams = [self._streams[task, copy] for copy in range(self.copies)]
        steps = chunk.reward_KTN.shape[1]
        noise_TNA = self._noise(task, chunk.index, steps, uniform=policy is None)
        obs_TNO, action_TNA, reward_TN = chunk.obs_KTNO[k], chunk.action_KTNA[k], chunk.reward_KTN[k]
        next_obs_TNO = chunk.next_obs_KTNO[k]
        mask_A = suite.action_mask_KA[task]
        padded = not mask_A.all()
        for t in range(steps):
            obs_NO, action_NA = obs_TNO[t], action_TNA[t]
            for n, at in enumerate(streams):
                obs_NO[n] = at.obs_O
            if policy is None:
                action_NA[:] = noise_TNA[t]
            else:
                answer_NA = policy(task, obs_NO, noise_TNA[t])
                check_actions(answer_NA, action_NA.shape, suite.tasks[task])
                action_NA[:] = answer_NA
            if padded:
                action_NA *= mask_A
            for n, at in enumerate(streams):
                action_A = at.actions_TA[at.length]
                action_A[:] = action_NA[n]
                step = self._step(at, action_A)
                next_obs_TNO[t, n] = at.obs_O = step.obs_O
                reward_TN[t, n] = step.reward
                at.count(step)
                if step.terminated or step.truncated:
                    chunk.terminated_KTN[k, t, n] = step.terminated
                    chunk.ended_KTN[k, t, n] = True
                    chunk.episodes.append(_finished(at, t + 1))
                    at.episode += 1
                    self._reset(at)

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
            at.obs_O = at.environment.reset(seed_sequence(self.seed, GOALS, *key), goal)
        except Exception as error:
            raise self._failure(at, error) from error

    def _step(self, at: _Stream, action_A: np.ndarray) -> Step:
        assert at.environment is not None
        try:
            return checked_step(at.environment, action_A)
        except Exception as error:
            raise self._failure(at, error) from error

    def _failure(self, at: _Stream, error: Exception) -> EnvironmentFailure:
        cause = f"{type(error).__name__}: {error}"
        return EnvironmentFailure(self.suite.tasks[at.task], at.copy, at.episode, at.length, cause)


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
