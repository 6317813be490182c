"""Time what Ray costs for each chunk, by the chunk's length.

usage: python -m benchmarks chunks [KEY=VALUE ...]

{keys}

A round trip: weights into the object store, order, chunk back. The same without Ray stands beside it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from agents.streams import Stream, torch_generator
from benchmarks.timing import at_least_one, write_results
from cluster.assembly import make_collector
from cluster.config import ClusterConfig, ClusterFailure
from cluster.training.collect import ChunkOrder, Collected, Collector, CollectSpec
from envs.build import build_suite
from envs.config import EnvConfig
from envs.rollout import merge_chunks
from envs.suite import TaskSuite
from mtrl_surgery.assembly import build_problem
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.runs.console import table


@dataclass
class Arguments:
    """Options of `chunks`."""

    tasks: Annotated[list[str], "Meta-World tasks to play"] = field(
        default_factory=lambda: ["drawer-close-v3", "reach-v3", "handle-press-v3"]
    )
    steps: Annotated[list[int], "vector steps of a chunk"] = field(default_factory=lambda: [1, 10, 25, 50, 100, 200])
    workers: Annotated[int, "of Ray"] = 1
    rounds: Annotated[int, "timed chunks of each length, after one that isn't"] = 20
    width: Annotated[int, "of each of the policy's three hidden layers"] = 400
    out: Annotated[str, PATH, "the JSON goes to <out>/bench/"] = "runs"


def main(words: Sequence[str]) -> int:
    """Round trips (weights into the object store, order, chunk back) of Ray workers, and of this process alone."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("workers", "rounds", "width"):
        at_least_one(key, getattr(arguments, key))
    for key in ("tasks", "steps"):
        if not getattr(arguments, key):
            raise SettingsError(f"{key}=[]: give at least one")
    for steps in arguments.steps:
        at_least_one("steps", steps)
    tasks, workers = len(arguments.tasks), arguments.workers
    if workers > tasks:
        raise SettingsError(f"workers={workers}: {tasks} tasks can't be shared out over more workers than tasks")

    suite = build_suite(EnvConfig(name="custom", tasks=arguments.tasks))
    agent, lengths = AgentConfig(hidden_sizes=[arguments.width] * 3), list(dict.fromkeys(arguments.steps))
    places = {
        f"Ray, {workers} worker{'s' * (workers > 1)}": ClusterConfig(kind="local", workers=workers),
        "this process": ClusterConfig(kind="inline"),
    }
    trips = {}
    for name, config in places.items():
        say = partial(_say, name)
        trips[name] = measure_round_trips(suite, config, agent, lengths, arguments.rounds, say)
    print(
        f"{tasks} tasks, one copy each, 3x{arguments.width} policy; medians of {arguments.rounds} chunks. "
        "Rest: the part of a round trip that the slowest worker did not spend on stepping"
    )
    cells = [
        (name, str(trip.chunk_steps), f"{trip.wall_ms:.1f}", f"{trip.worker_ms:.1f}", f"{100 * trip.share:.1f} %")
        for name, rows in trips.items()
        for trip in rows
    ]
    headings = ("collected by", "vector steps", "round trip, ms", "stepping, ms", "rest")
    print(table(headings, cells, numbers=(1, 2, 3, 4)))
    rows = [asdict(trip) | {"by": name, "share": trip.share} for name, found in trips.items() for trip in found]
    write_results(Path(arguments.out) / "bench" / f"chunks-k{tasks}.json", vars(arguments), {"rows": rows})
    return 0


def _say(name: str, what: str) -> None:
    print(f"{name}: {what}", file=sys.stderr, flush=True)


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
        """The part that is no stepping: Ray's and the driver's."""
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
