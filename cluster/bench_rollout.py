"""What Ray costs for each chunk, by chunk length: `python -m cluster.bench_rollout [task ...]`.

Wall time of a round trip (weights into the object store, order, chunk back) against the time that the worker says it
spent on stepping; the difference is Ray's, and the driver's part of it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from agents.problem import Problem
from agents.streams import Stream, torch_generator
from cluster.assembly import make_collector
from cluster.collect import ChunkOrder, Collected, Collector, CollectSpec
from cluster.config import ClusterConfig, ClusterFailure
from envs.config import EnvConfig
from envs.rollout import merge_chunks
from envs.suite import TaskSuite, build_suite

EASY = ("drawer-close-v3", "reach-v3", "handle-press-v3")
LENGTHS = (1, 10, 25, 50, 100, 200)


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
        """Ray's and the driver's share of the wall time."""
        return 1 - self.worker_ms / self.wall_ms


def measure(
    suite: TaskSuite,
    config: ClusterConfig,
    agent: AgentConfig,
    lengths: Sequence[int] = LENGTHS,
    chunks: int = 20,
) -> list[RoundTrip]:
    """Time round trips of chunks with a new version of the weights each; one warm-up chunk a length is left out.

    Args:
        suite: The tasks, one environment copy each.
        config: Where to collect.
        agent: The policy's size.
        lengths: Chunk lengths in vector steps.
        chunks: Timed chunks a length.

    Raises:
        ClusterError: Ray can't be started or joined.
    """
    problem = Problem(suite.tasks, suite.observation_dim, suite.action_dim, suite.action_mask_KA)
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


def main(tasks: Sequence[str]) -> None:
    """Print a table for Meta-World tasks (default: the three easy ones) on one worker and on none."""
    suite = build_suite(EnvConfig(name="custom", tasks=list(tasks or EASY)))
    for config in (ClusterConfig(kind="local", workers=1), ClusterConfig(kind="inline")):
        print(f"{config.kind}, {len(suite.tasks)} tasks, 3x400 policy")
        print("chunk_steps  wall ms  worker ms  share")
        for row in measure(suite, config, AgentConfig()):
            print(f"{row.chunk_steps:11d}  {row.wall_ms:7.1f}  {row.worker_ms:9.1f}  {100 * row.share:4.1f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
