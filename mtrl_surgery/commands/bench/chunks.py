"""`bench chunks`: what Ray costs for each chunk, by the chunk's length."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.bench.common import at_least_one, write_results


@dataclass
class ChunksArguments:
    """Options of `bench chunks`."""

    tasks: Annotated[list[str], "Meta-World tasks to play"] = field(
        default_factory=lambda: ["drawer-close-v3", "reach-v3", "handle-press-v3"]
    )
    steps: Annotated[list[int], "vector steps of a chunk"] = field(default_factory=lambda: [1, 10, 25, 50, 100, 200])
    workers: Annotated[int, "of Ray"] = 1
    rounds: Annotated[int, "timed chunks of each length, after one that isn't"] = 20
    width: Annotated[int, "of each of the policy's three hidden layers"] = 400
    out: Annotated[str, PATH, "the JSON goes to <out>/bench/"] = "runs"


def bench_chunks(arguments: ChunksArguments) -> int:
    """Round trips (weights into the object store, order, chunk back) of Ray workers, and of this process alone."""
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
    from agents.config import AgentConfig
    from cluster.config import ClusterConfig
    from envs.config import EnvConfig
    from envs.suite import build_suite
    from mtrl_surgery.commands.bench.round_trips import measure_round_trips

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
        "Rest: what of a round trip the slowest worker did not spend on stepping"
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
