"""`bench model`: what would limit a cluster, from the measured cost of each stage. Arithmetic, nothing is timed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.commands.bench.common import at_least_one

OBSERVATION, ACTION, BYTES = 39, 4, 4
TRANSITION_BYTES = BYTES * (2 * OBSERVATION + ACTION + 1) + 2
"""A transition on its way: two observations, action, reward, two flags."""


@dataclass
class ModelArguments:
    """Options of `bench model`: what is asked about, then what a stage costs. docs/scaling.md says where from."""

    gpus: Annotated[int, "learners"] = 8
    cores: Annotated[int, "rollout cores"] = 500
    nodes: Annotated[int, "machines that the rollout cores are on"] = 16
    tasks: Annotated[int, "how many"] = 50
    copies: Annotated[int, "environments a task"] = 1
    ratio: Annotated[float, "updates a vector step: agent.updates_per_step"] = 1.0
    batch: Annotated[int, "transitions a task and update"] = 128
    width: Annotated[int, "of three hidden layers"] = 400
    chunk: Annotated[int, "vector steps of a chunk"] = 100
    env_rate: Annotated[float, "environment steps a second of one core, policy included"] = 3000.0
    slowest: Annotated[float, "the same for the slowest task"] = 1800.0
    driver_us: Annotated[float, "the driver's CPU time a transition: merge and insert"] = 2.3
    update_gflops: Annotated[float, "what the learner's device does of an update's matrix products"] = 15_000.0
    memory_gb_s: Annotated[float, "bandwidth of its memory"] = 2_000.0
    passes: Annotated[float, "times that the Jacobian is written or read"] = 4.0
    fixed_ms: Annotated[float, "of an update: launches, K x K solving"] = 1.5
    link_gb_s: Annotated[float, "between learners, each way"] = 200.0
    latency_us: Annotated[float, "of one collective"] = 30.0
    network_gb_s: Annotated[float, "into and out of the driver's machine"] = 3.0


@dataclass(frozen=True)
class Stage:
    """One thing that all vector steps go through.

    Attributes:
        name: What it is.
        rate: Vector steps a second that it permits.
        how: The arithmetic, in words.
        today: Whether the code is bound by it; otherwise it's what a change would leave.
    """

    name: str
    rate: float
    how: str
    today: bool = True


@dataclass(frozen=True)
class Update:
    """Milliseconds of one update of actor and critics on G learners.

    Attributes:
        products_ms: Matrix products of a learner's share.
        jacobian_ms: Passes over its Jacobian in memory.
        fixed_ms: What no learner more makes shorter.
        exchange_ms: Column slices, Gramians and parameters.
        all_reduce_ms: What adding up whole Jacobians would take instead.
    """

    products_ms: float
    jacobian_ms: float
    fixed_ms: float
    exchange_ms: float
    all_reduce_ms: float

    @property
    def total_ms(self) -> float:
        """The update as it is built."""
        return self.products_ms + self.jacobian_ms + self.fixed_ms + self.exchange_ms


def parameters(tasks: int, width: int) -> tuple[int, int]:
    """P of the actor and of the twin critics, with one-hot task codes."""

    def count(first: int, last: int) -> int:
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise([first, width, width, width, last]))

    return count(OBSERVATION + tasks, 2 * ACTION), 2 * count(OBSERVATION + tasks + ACTION, 1)


def update(asked: ModelArguments, gpus: int) -> Update:
    """The cost of one update on that many learners; the batch is the joined one."""
    actor, critics = parameters(asked.tasks, asked.width)
    numbers, tasks = actor + critics, asked.tasks
    # A forward is 1, a backward 2. The actor acts and learns, 1 + 3; critics give targets, learn and lead, 1 + 3 + 2.
    gflop = 2 * (4 * actor + 6 * critics) * tasks * asked.batch / 1e9
    jacobian_gb = BYTES * tasks * numbers / 1e9
    kept = (gpus - 1) / gpus
    collectives = 0 if gpus == 1 else 2 * 3  # actor and critics: slices, Gramian, parameters
    return Update(
        products_ms=1e3 * gflop / asked.update_gflops / gpus,
        # Written whole by each learner; read and combined as a slice.
        jacobian_ms=1e3 * jacobian_gb / asked.memory_gb_s * (1 + (asked.passes - 1) / gpus),
        fixed_ms=asked.fixed_ms,
        exchange_ms=1e3 * kept * BYTES * (tasks + 1) * numbers / 1e9 / asked.link_gb_s
        + 1e-3 * collectives * asked.latency_us,
        all_reduce_ms=1e3 * kept * 2 * jacobian_gb / asked.link_gb_s + 1e-3 * collectives * asked.latency_us,
    )


def stages(asked: ModelArguments) -> list[Stage]:
    """What each stage permits, in vector steps a second."""
    streams = asked.tasks * asked.copies
    used = min(asked.cores, asked.tasks)
    step_gb = TRANSITION_BYTES * streams / 1e9
    weights_gb = BYTES * parameters(asked.tasks, asked.width)[0] / 1e9 * asked.nodes / asked.chunk
    updates = 1e3 / update(asked, asked.gpus).total_ms
    return [
        Stage("slowest task", asked.slowest / asked.copies, "all its copies are on one core"),
        Stage("rollout cores", used * asked.env_rate / streams, f"{used} of {asked.cores} cores: one a task at most"),
        Stage(
            "all rollout cores",
            asked.cores * asked.env_rate / streams,
            "if copies had workers of their own",
            today=False,
        ),
        Stage("network, chunks in", asked.network_gb_s / step_gb, f"{1e6 * step_gb:.1f} kB a vector step"),
        Stage("network, weights out", asked.network_gb_s / weights_gb, f"{1e6 * weights_gb:.1f} kB a vector step"),
        Stage("driver, merge and insert", 1e6 / (asked.driver_us * streams), "one process"),
        Stage("updates", updates / asked.ratio if asked.ratio else float("inf"), f"{updates:,.0f} updates/s"),
    ]


def bench_model(arguments: ModelArguments) -> int:
    """Print what each stage permits, which one is the limit, and an update's parts by number of learners."""
    for key in ("gpus", "cores", "nodes", "tasks", "copies", "batch", "width", "chunk"):
        at_least_one(key, getattr(arguments, key))
    for key, value in vars(arguments).items():
        if isinstance(value, float) and (value < 0 or (value == 0 and key not in ("ratio", "fixed_ms", "latency_us"))):
            raise SettingsError(f"{key}={value:g} must be positive")
    asked, found = arguments, stages(arguments)
    limit = min((stage for stage in found if stage.today), key=lambda stage: stage.rate)
    print(f"{asked.tasks} tasks x {asked.copies}, {asked.gpus} learners, {asked.cores} rollout cores; vector steps/s:")
    rows = [
        (stage.name, f"{stage.rate:,.0f}", "limit" if stage is limit else "" if stage.today else "not built", stage.how)
        for stage in found
    ]
    print(table(("stage", "permits", "", "because"), rows, numbers=(1,)))
    hours = 1e6 / limit.rate / 3600
    print(f"limit: {limit.name}; a million vector steps take {hours:.2f} h, {asked.tasks * asked.copies}e6 transitions")
    print("\nan update, ms:")
    counts = sorted({1, 2, 4, 8, asked.gpus})
    parts = {gpus: update(asked, gpus) for gpus in counts}
    print(
        table(
            ("learners", "products", "Jacobian", "fixed", "exchange", "total", "speed-up", "if all-reduced"),
            [
                (
                    gpus,
                    f"{one.products_ms:.2f}",
                    f"{one.jacobian_ms:.2f}",
                    f"{one.fixed_ms:.2f}",
                    f"{one.exchange_ms:.2f}",
                    f"{one.total_ms:.2f}",
                    f"{parts[1].total_ms / one.total_ms:.2f}",
                    f"{one.total_ms - one.exchange_ms + one.all_reduce_ms:.2f}",
                )
                for gpus, one in parts.items()
            ],
            numbers=range(8),
        )
    )
    return 0
