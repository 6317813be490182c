"""`bench rollout`: Ray workers, policy included, against Meta-World's own vector environment with random actions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.bench.common import at_least_one, write_results

if TYPE_CHECKING:
    from mtrl_surgery.commands.bench.rollout_turns import Laps

REFERENCE = "Meta-World's sync vector env, random actions"
TARGET = 0.9
"""Steps a second of each worker, as a part of the reference's on one core."""


@dataclass
class RolloutArguments:
    """Options of `bench rollout`."""

    tasks: Annotated[list[str], "empty: MT10"] = field(default_factory=list)
    workers: Annotated[list[int], "numbers of Ray workers to try"] = field(default_factory=lambda: [1, 2])
    steps: Annotated[int, "vector steps of a chunk"] = 100
    rounds: Annotated[int, "timed chunks of each, after one that isn't"] = 10
    width: Annotated[int, "of each of the policy's three hidden layers"] = 400
    out: Annotated[str, PATH, "the JSON goes to <out>/bench/"] = "runs"


@dataclass(frozen=True)
class Row:
    """A way to collect.

    Attributes:
        by: Its name.
        steps_per_second: Environment steps.
        ratio: Of each of its workers to the reference.
        cpu_ratio: The same by CPU time.
        at_once: Of all its workers to as many references at once, which share caches and power as they do.
        met: Whether the ratio reaches the target; None where there is none.
    """

    by: str
    steps_per_second: float
    ratio: float
    cpu_ratio: float | None
    at_once: float
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

    laps, parts = take_rollout_turns(suite, counts, arguments.steps, arguments.rounds, arguments.width, REFERENCE)
    rows = _rows(laps, len(suite.tasks) * arguments.steps)
    print(
        f"{len(suite.tasks)} tasks, chunks of {arguments.steps} vector steps, 3x{arguments.width} policy; medians of "
        f"{arguments.rounds} chunks, taking turns. CPU: the same ratio in steps a second of CPU time, which holds on a "
        "machine that does other things too. At once: the ratio to as many references at once"
    )
    cells = [
        (
            row.by,
            f"{row.steps_per_second:,.0f}",
            f"{row.ratio:.2f}",
            "-" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}",
            f"{row.at_once:.2f}",
            *(("-", "-") if row.met is None else (f"{TARGET}", "yes" if row.met else "no")),
        )
        for row in rows
    ]
    headings = ("collected by", "steps/s", "ratio each", "CPU", "at once", "target", "met")
    print(table(headings, cells, numbers=(1, 2, 3, 4)))
    print("\nparts of a vector step, medians of three chunks")
    shares = [
        (part.part, part.of, f"{part.microseconds:,.0f}", "-" if part.share is None else f"{100 * part.share:.0f} %")
        for part in parts
    ]
    print(table(("part", "of", "us", "share"), shares, numbers=(2, 3)))
    path = Path(arguments.out) / "bench" / f"rollout-k{len(suite.tasks)}.json"
    results = {"target": TARGET, "rows": [asdict(row) for row in rows], "parts": [asdict(part) for part in parts]}
    write_results(path, vars(arguments), results)
    return 0


def _rows(laps: Mapping[str, Laps], steps: int) -> list[Row]:
    """Rates and ratios; the ratio is taken round by round, so that a machine that slows down slows both its sides."""
    base, rows = laps[REFERENCE], []
    for name, lap in laps.items():
        beside = laps[lap.beside]
        cpu_ratio = lap.chunks * sum(base.cpu_ms) / sum(lap.cpu_ms) if lap.cpu_ms else None
        ratio = _ratio(lap, base) / lap.processes
        met = ratio >= TARGET if "Ray worker" in name else None
        rate = 1e3 * lap.chunks * steps / statistics.median(lap.wall_ms)
        rows.append(Row(name, rate, ratio, cpu_ratio, _ratio(lap, beside), met))
    return rows


def _ratio(lap: Laps, base: Laps) -> float:
    """Of the steps a second."""
    pairs = zip(base.wall_ms, lap.wall_ms, strict=True)
    return lap.chunks / base.chunks * statistics.median(reference / wall for reference, wall in pairs)
