"""Chunks collected one at a time, and how much of a chunk's time isn't spent on stepping."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from agents.streams import Stream, torch_generator
from cluster.assembly import make_collector
from cluster.collect import ChunkOrder, Collected, Collector, CollectSpec
from cluster.config import ClusterConfig, ClusterFailure
from envs.rollout import merge_chunks
from envs.suite import TaskSuite
from mtrl_surgery.assembly import build_problem


@dataclass(frozen=True)
class RoundTrip:
    """Medians over the chunks of one length.

    Attributes:
        chunk_steps: Vector steps of a chunk.
        wall_ms: Order to merged chunk, on the driver.
        worker_ms: Of which the slowest worker stepped simulators and asked the policy.
    """

    chunk_steps: int
    wall_ms: float
    worker_ms: float

    @property
    def share(self) -> float:
        """What isn't stepping: Ray's part of the wall time, and the driver's."""
        return 1 - self.worker_ms / self.wall_ms


def measure_round_trips(
    suite: TaskSuite,
    config: ClusterConfig,
    agent: AgentConfig,
    lengths: Sequence[int],
    chunks: int,
    say: Callable[[str], None],
) -> list[RoundTrip]:
    """Time round trips of chunks with a new version of the weights each; one warm-up chunk a length is left out.

    Args:
        suite: The tasks, one environment copy each.
        config: Where to collect.
        agent: The policy's size.
        lengths: Chunk lengths in vector steps.
        chunks: Timed chunks a length.
        say: Told of each length that is done.

    Raises:
        ClusterError: Ray can't be started or joined.
    """
    problem = build_problem(suite)
    generator = torch_generator(0, Stream.INITIAL_WEIGHTS, 0)
    actor = initial_mlp(1, actor_sizes(problem, agent), agent.initializer, generator)
    weights = actor.vector_P.numpy()
    collector = make_collector(CollectSpec(suite, 1, 0, partial(Policy, problem, agent)), config)
    try:
        collector.start(None)
        index, results = 0, []
        for length in lengths:
            walls, workers = [], []
            for _ in range(chunks + 1):
                started = time.perf_counter()
                worker = collect_chunk(collector, ChunkOrder(index, length, index, weights + np.float32(0)))
                walls.append(1e3 * (time.perf_counter() - started))
                workers.append(1e3 * worker)
                index += 1
            results.append(RoundTrip(length, statistics.median(walls[1:]), statistics.median(workers[1:])))
            say(f"chunks of {length} vector steps: timed {chunks}, {len(results)} of {len(lengths)} lengths")
    finally:
        collector.close()
    return results


def collect_chunk(collector: Collector, order: ChunkOrder) -> float:
    """Have a chunk of all tasks collected and merged; the seconds that the slowest worker stepped for it."""
    tasks = sorted({task for task, _ in collector.positions()})
    collector.submit(order, tasks)
    pieces: list[Collected] = []
    seconds: dict[int, float] = {}
    while sum(len(piece.chunk.tasks) for piece in pieces) < len(tasks):
        piece = collector.receive()
        if not isinstance(piece, Collected):
            raise ClusterFailure(f"chunk {order.index} was lost: {piece}")
        pieces.append(piece)
        seconds[piece.worker] = seconds.get(piece.worker, 0.0) + sum(piece.seconds)
    merge_chunks([piece.chunk for piece in pieces])
    return max(seconds.values())
