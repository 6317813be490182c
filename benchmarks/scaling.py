"""Time several learners, and count the bytes that they send each other.

usage: python -m benchmarks scaling [KEY=VALUE ...]

{keys}

The joined batch stays the same; each learner has one core.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from benchmarks.learners import build_agent, random_batch, share, together
from benchmarks.timing import at_least_one, write_results
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.jacobian.sharding import Whole
from mtrl_surgery.methods.registry import find_method
from mtrl_surgery.runs.console import table

BYTES = 4  # of a float32


@dataclass
class Arguments:
    """Options of `scaling`."""

    learners: Annotated[list[int], "numbers of learners to time"] = field(default_factory=lambda: [1, 2])
    methods: Annotated[list[str], "which to time"] = field(default_factory=lambda: ["ls", "cagrad", "samgs"])
    tasks: Annotated[int, "how many"] = 10
    batch: Annotated[int, "transitions a task, of all learners together"] = 128
    width: Annotated[int, "of each hidden layer"] = 400
    layers: Annotated[int, "hidden ones"] = 3
    updates: Annotated[int, "timed, after three that are not"] = 20
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


@dataclass
class Speed:
    """What N learners need for an update.

    Attributes:
        milliseconds: Median time.
        sent: Bytes that a learner sends an update, as the loopback interface counted them; None where nobody counts.
        numbers: The same in numbers, worked out: (K + 1) P for a Jacobian, 2 P for a loss weighting, less what stays.
        all_reduced: Numbers that a learner would send to add up whole Jacobians, by a ring.
        parameters: P, of actor and critics together.
    """

    milliseconds: float
    sent: float | None
    numbers: float
    all_reduced: float
    parameters: int


def main(words: Sequence[str]) -> int:
    """Times the same joined batch with 1 and with more learners, one core each."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("tasks", "batch", "width", "layers", "updates"):
        at_least_one(key, getattr(arguments, key))
    for learners in arguments.learners:
        at_least_one("learners", learners)
        if arguments.batch % learners:
            raise SettingsError(f"batch={arguments.batch} can't be shared out to learners={learners}")
    if not arguments.learners or not arguments.methods:
        raise SettingsError("learners=[] or methods=[] leaves nothing to time")
    names = [find_method(name).name for name in dict.fromkeys(arguments.methods)]
    counts = list(dict.fromkeys(arguments.learners))
    found: dict[int, dict[str, Speed]] = {}
    for learners in counts:
        print(f"{learners} learners: {', '.join(names)}", file=sys.stderr)
        found[learners] = together(_time, learners, (arguments, names))
    rows: list[list[Any]] = []
    for name in names:
        for learners in counts:
            one, base = found[learners][name], found[counts[0]][name]
            speedup = base.milliseconds / one.milliseconds
            efficiency = speedup * counts[0] / learners
            rows.append(
                [
                    name, learners, f"{one.milliseconds:.1f}", f"{speedup:.2f}", f"{efficiency:.2f}",
                    "-" if one.sent is None else f"{one.sent / 1e6:.1f}", f"{one.numbers * BYTES / 1e6:.1f}",
                    f"{one.all_reduced * BYTES / 1e6:.1f}",
                ]
            )  # fmt: skip
    parameters = next(iter(found[counts[0]].values())).parameters
    print(
        f"SAC update, {arguments.tasks} tasks, {arguments.batch} transitions a task in all, {arguments.layers}x"
        f"{arguments.width}, {parameters:,} parameters; one core a learner, joined by gloo over loopback; medians of "
        f"{arguments.updates}; MB that a learner sends an update"
    )
    header = ["method", "learners", "ms", "speed-up", "efficiency", "MB counted", "MB worked out", "MB by all-reduce"]
    print(table(header, rows, numbers=range(1, len(header))))
    if arguments.json is not None:
        results = {str(n): {name: asdict(speed) for name, speed in speeds.items()} for n, speeds in found.items()}
        write_results(Path(arguments.json), vars(arguments), results)
    return 0


def _time(sharding: Whole, asked: tuple[Arguments, list[str]]) -> dict[str, Speed]:
    """In every process."""
    arguments, names = asked
    found = {}
    for name in names:
        agent = build_agent(arguments, name, sharding)
        batch, noise_2KBA = share(*random_batch(arguments, torch.Generator().manual_seed(0)), sharding)
        for _ in range(3):
            agent.step(batch, noise_2KBA)
        laps = []
        before = _loopback_bytes()
        for _ in range(arguments.updates):
            started = time.perf_counter()
            agent.step(batch, noise_2KBA)
            laps.append(1e3 * (time.perf_counter() - started))
        after = _loopback_bytes()
        sent = None if before is None or after is None else (after - before) / arguments.updates / sharding.size
        parameters = agent.actor.parameters.num_parameters + agent.critic.parameters.num_parameters
        rows = 1 if find_method(name).needs == "losses" else arguments.tasks
        leaves = (sharding.size - 1) / sharding.size
        found[name] = Speed(
            milliseconds=statistics.median(laps),
            sent=sent,
            numbers=leaves * (rows + 1) * parameters,
            all_reduced=leaves * 2 * arguments.tasks * parameters,
            parameters=parameters,
        )
    return found


def _loopback_bytes() -> int | None:
    """Bytes that the loopback interface has sent since the machine started."""
    path = Path("/proc/net/dev")
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return None
