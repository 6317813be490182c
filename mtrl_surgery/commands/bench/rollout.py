"""`bench rollout`: Ray workers, policy included, against Meta-World's own vector environment with random actions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.commands.bench.common import at_least_one, write_results

if TYPE_CHECKING:
    from mtrl_surgery.commands.bench.rollout_turns import Laps

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


@dataclass(frozen=True)
class Row:
    """A way to collect.

    Attributes:
        by: Its name.
        steps_per_second: Environment steps.
        ratio: Of each of its workers to the reference.
        cpu_ratio: The same by CPU time.
        met: Whether the ratio reaches the target; None where there is none.
    """

    by: str
    steps_per_second: float
    ratio: float
    cpu_ratio: float | None
    met: bool | None


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
    rows = _rows(laps, len(suite.tasks) * arguments.steps)
    print(
        f"{len(suite.tasks)} tasks, chunks of {arguments.steps} vector steps, 3x{arguments.width} policy; medians of "
        f"{arguments.rounds} chunks, taking turns. CPU: the same ratio in steps a second of CPU time, which holds on a "
        "machine that does other things too"
    )
    cells = [
        (
            row.by,
            f"{row.steps_per_second:,.0f}",
            f"{row.ratio:.2f}",
            "-" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}",
            *(("-", "-") if row.met is None else (f"{TARGET}", "yes" if row.met else "no")),
        )
        for row in rows
    ]
    print(table(("collected by", "steps/s", "ratio each", "CPU", "target", "met"), cells, numbers=(1, 2, 3)))
    path = Path(arguments.out) / "bench" / f"rollout-k{len(suite.tasks)}.json"
    write_results(path, vars(arguments), {"target": TARGET, "rows": [asdict(row) for row in rows]})
    return 0


def _rows(laps: Mapping[str, Laps], steps: int) -> list[Row]:
    """Rates and ratios; the ratio is taken round by round, so that a machine that slows down slows both its sides."""
    base, rows = laps[REFERENCE], []
    for name, lap in laps.items():
        each = lap.chunks / lap.processes
        ratio = statistics.median(
            each * reference / wall for reference, wall in zip(base.wall_ms, lap.wall_ms, strict=True)
        )
        cpu_ratio = lap.chunks * sum(base.cpu_ms) / sum(lap.cpu_ms) if lap.cpu_ms else None
        met = ratio >= TARGET if "Ray worker" in name else None
        rows.append(Row(name, 1e3 * lap.chunks * steps / statistics.median(lap.wall_ms), ratio, cpu_ratio, met))
    return rows
