"""Real parts that the cluster tests share: a small numpy policy, a cheap suite, comparisons to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from cluster.training.collect import ChunkOrder, Collected, Collector, CollectSpec
from envs.build import build_suite
from envs.config import EnvConfig
from envs.rollout import Chunk, merge_chunks
from envs.suite import TaskSuite

CLASSIC = ["Pendulum-v1", "MountainCarContinuous-v0"]


@dataclass
class LinearPolicy:
    """tanh of a linear map of the observation, shifted by the task, plus noise."""

    observation_dim: int
    action_dim: int

    def load(self, weights: np.ndarray) -> None:
        self.weights_OA = np.array(weights).reshape(self.observation_dim, self.action_dim)

    def __call__(self, tasks: Sequence[int], obs_KNO: np.ndarray, noise_KNA: np.ndarray) -> np.ndarray:
        task_K11 = np.array(tasks, np.float32)[:, None, None]
        return np.tanh(obs_KNO @ self.weights_OA + np.float32(0.1) * task_K11 + np.float32(0.3) * noise_KNA)

    def mode(self, task: int, obs_NO: np.ndarray) -> np.ndarray:
        return np.tanh(obs_NO @ self.weights_OA + 0.1 * task)


@dataclass
class LinearPolicyFactory:
    suite: TaskSuite

    def __call__(self) -> LinearPolicy:
        return LinearPolicy(self.suite.observation_dim, self.suite.action_dim)


def classic_suite(tasks: list[str] | None = None, horizon: int = 40) -> TaskSuite:
    return build_suite(EnvConfig(kind="gymnasium", name="classic", tasks=tasks or CLASSIC, horizon=horizon))


def factory_suite(factory: str, tasks: list[str], horizon: int = 40) -> TaskSuite:
    return build_suite(EnvConfig(kind="factory", name="own", tasks=tasks, horizon=horizon, factory=factory))


def make_spec(suite: TaskSuite, seed: int = 3, copies: int = 2) -> CollectSpec:
    return CollectSpec(suite, copies, seed, LinearPolicyFactory(suite))


def weights_of(suite: TaskSuite, version: int) -> np.ndarray:
    rng = np.random.default_rng(version)
    return rng.normal(size=suite.observation_dim * suite.action_dim).astype(np.float32)


def order_of(suite: TaskSuite, index: int, steps: int = 30) -> ChunkOrder:
    """Random actions first, then the weights of the version that the schedule asks for."""
    version = max(0, index - 1)
    return ChunkOrder(index, steps, version, None if index == 0 else weights_of(suite, version))


def collect_chunk(collector: Collector, order: ChunkOrder) -> Chunk:
    tasks = sorted({task for task, _ in collector.positions()})
    collector.submit(order, tasks)
    return receive_chunk(collector, len(tasks))


def receive_chunk(collector: Collector, tasks: int) -> Chunk:
    chunks: list[Chunk] = []
    while sum(len(chunk.tasks) for chunk in chunks) < tasks:
        collected = collector.receive()
        assert isinstance(collected, Collected), collected
        chunks.append(collected.chunk)
    return merge_chunks(chunks)


def assert_same_chunk(left: Chunk, right: Chunk) -> None:
    for field in fields(Chunk):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.shape == b.shape and a.dtype == b.dtype, field.name
            assert a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b, field.name
