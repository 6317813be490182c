"""`bench rollout`: rollout workers, policy included, against Meta-World's own vector environment with random actions."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.commands.bench.common import at_least_one, write_results

REFERENCE = "Meta-World's sync vector env, random actions"
TARGET = 0.9
"""Steps a second of each worker, as a part of the reference's on one core."""


@dataclass
class RolloutArguments:
    """Options of `bench rollout`."""

    tasks: list[str] = field(default_factory=list)  # empty: MT10
    workers: list[int] = field(default_factory=lambda: [1, 2])
    steps: int = 100  # vector steps of a chunk
    rounds: int = 10  # timed chunks of each, after one that isn't
    width: int = 400  # of each of the policy's three hidden layers
    out: str = "runs"


def bench_rollout(arguments: RolloutArguments) -> int:
    """Environment steps a second of the reference, of this process without and with the policy, and of Ray workers."""
    for key in ("steps", "rounds", "width"):
        at_least_one(key, getattr(arguments, key))
    for workers in arguments.workers:
        at_least_one("workers", workers)
    from envs.config import EnvConfig
    from envs.suite import build_suite

    suite = build_suite(EnvConfig(name="custom" if arguments.tasks else "mt10", tasks=arguments.tasks))
    counts = list(dict.fromkeys(arguments.workers))
    if any(workers > len(suite.tasks) for workers in counts):
        raise SettingsError(
            f"workers={counts}: {len(suite.tasks)} tasks can't be shared out over more workers than tasks"
        )
    from mtrl_surgery.commands.bench.rollout_turns import take_rollout_turns

    laps = take_rollout_turns(suite, counts, arguments.steps, arguments.rounds, arguments.width, REFERENCE)
    steps = len(suite.tasks) * arguments.steps
    rates = {name: [1e3 * steps / lap for lap in lap_ms] for name, lap_ms in laps.items()}
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    workers_of = {name: int(name.split()[0]) for name in rates if name.endswith(("worker", "workers"))}
    # Round by round, so that a machine that slows down in between slows both sides of a ratio.
    ratios = {
        name: statistics.median(
            rate / base / workers_of.get(name, 1) for rate, base in zip(rates[name], rates[REFERENCE])
        )
        for name in rates
    }
    print(
        f"{len(suite.tasks)} tasks, chunks of {arguments.steps} vector steps, 3x{arguments.width} policy; medians of "
        f"{arguments.rounds} chunks, taking turns"
    )
    rows = [
        (
            name,
            f"{medians[name]:,.0f}",
            f"{ratios[name]:.2f}",
            *((f"{TARGET}", "yes" if ratios[name] >= TARGET else "no") if name in workers_of else ("-", "-")),
        )
        for name in rates
    ]
    print(table(("collected by", "steps/s", "ratio each", "target", "met"), rows, numbers=(1, 2)))
    results = {
        "steps_per_second": medians,
        "ratio_per_worker": ratios,
        "target": TARGET,
        "met": {name: ratios[name] >= TARGET for name in workers_of},
    }
    write_results(Path(arguments.out) / "bench" / f"rollout-k{len(suite.tasks)}.json", vars(arguments), results)
    return 0
