"""Time Ray's rollout workers, policy included, against Meta-World's own vector environment with random actions.

usage: python -m benchmarks rollout [KEY=VALUE ...]

{keys}

The reference takes one core. The ratio of each worker is held to a target.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial, wraps
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gymnasium
import metaworld  # noqa: F401  registers its environments
import mujoco
import numpy as np
import ray
import torch

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from benchmarks.chunks import collect_chunk
from benchmarks.timing import at_least_one, take_turns, write_results
from cluster.assembly import make_collector
from cluster.config import ClusterConfig
from cluster.training.collect import ChunkOrder, CollectSpec
from cluster.workers.session import RaySession
from envs.build import build_suite
from envs.config import EnvConfig
from envs.rollout import Rollout
from envs.suite import TaskSuite
from mtrl_surgery.assembly import build_problem
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.runs.console import table

REFERENCE = "Meta-World's sync vector env, random actions"
TARGET = 0.9
"""Steps a second of each worker, as a part of the reference's on one core."""


@dataclass
class Arguments:
    """Options of `rollout`."""

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


def main(words: Sequence[str]) -> int:
    """Environment steps a second of the reference, of this process without and with the policy, and of Ray workers."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("steps", "rounds", "width"):
        at_least_one(key, getattr(arguments, key))
    for workers in arguments.workers:
        at_least_one("workers", workers)

    suite = build_suite(EnvConfig(name="custom" if arguments.tasks else "mt10", tasks=arguments.tasks))
    counts = list(dict.fromkeys(arguments.workers))
    if any(workers > len(suite.tasks) for workers in counts):
        raise SettingsError(
            f"workers={counts}: {len(suite.tasks)} tasks can't be shared out over more workers than tasks"
        )

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


_SEED = 1  # Meta-World takes 0 for no seed
_RANDOM, _ACTING = "this process, random actions", "this process, policy"


class Laps(NamedTuple):
    """The time that one way of collecting took, round by round.

    Attributes:
        wall_ms: Until all its processes were done.
        cpu_ms: Of the processes that stepped; empty where the system doesn't tell.
        processes: How many stepped at the same time.
        chunks: How many each round collected.
        beside: Name of as many references at once as it has processes.
    """

    wall_ms: list[float]
    cpu_ms: list[float]
    processes: int = 1
    chunks: int = 1
    beside: str = ""


def take_rollout_turns(
    suite: TaskSuite, workers: Sequence[int], steps: int, rounds: int, width: int, reference: str
) -> tuple[dict[str, Laps], list[Part]]:
    """Time `steps` vector steps of every way to collect them, round by round; and, in this process, parts of them.

    Args:
        suite: Meta-World tasks, one copy each.
        workers: Numbers of Ray workers to time.
        steps: Vector steps of a chunk.
        rounds: Chunks that are timed; one more before them is not, and simulators are built in it.
        width: Of the policy's hidden layers.
        reference: What Meta-World's own vector environment is called in the result.

    Raises:
        ClusterError: Ray can't be started.
    """
    torch.set_num_threads(1)  # as rollout workers do
    problem, agent = build_problem(suite), AgentConfig(hidden_sizes=[width] * 3)
    actor = initial_mlp(1, actor_sizes(problem, agent), agent.initializer, torch.Generator().manual_seed(0))
    weights_P = actor.vector_P.numpy()
    spec = CollectSpec(suite, 1, _SEED, partial(Policy, problem, agent))
    with ExitStack() as opened:
        own = _reference(opened, suite, steps)
        policy = Policy(problem, agent)
        policy.load(weights_P)
        random, acting = _in_this_process(opened, spec, policy, steps)
        turns = {
            name: _Turn(run, _own_cpu, beside=reference)
            for name, run in ((reference, own), (_RANDOM, random), (_ACTING, acting))
        }
        if workers:
            session = RaySession(ClusterConfig(kind="local"), sum(workers) + sum(n for n in workers if n > 1))
            opened.callback(session.close)
        for number in workers:
            beside = reference
            if number > 1:
                beside = f"{number} of them at once"
                turns[beside] = _references_at_once(suite, number, steps, beside)
            name = f"{number} Ray worker{'s' * (number > 1)}"
            turns[name] = _ray_workers(opened, spec, weights_P, number, steps, beside)
        laps = take_turns(turns, rounds, 1, "cpu")
        parts = measure_parts({reference: own, _RANDOM: random}, (_ACTING, acting), policy, suite, steps)
        return {
            name: Laps(laps[name], turn.cpu_ms[1:], turn.processes, turn.chunks, turn.beside)
            for name, turn in turns.items()
        }, parts


class _Turn:
    """Something to time, by the CPU time of the processes that do it as well."""

    def __init__(
        self,
        run: Callable[[], object],
        cpu: Callable[[], float | None],
        processes: int = 1,
        chunks: int = 1,
        *,
        beside: str,
    ) -> None:
        self._run, self._cpu, self.processes, self.chunks, self.beside = run, cpu, processes, chunks, beside
        self.cpu_ms: list[float] = []

    def __call__(self) -> None:
        before = self._cpu()
        self._run()
        after = self._cpu()
        if before is not None and after is not None:
            self.cpu_ms.append(1e3 * (after - before))


def _own_cpu() -> float | None:
    return time.process_time()


def _cpu_of(processes: Sequence[int]) -> float | None:
    """CPU seconds that the processes have used; None where there is no /proc."""
    seconds = 0.0
    for process in processes:
        stat = Path(f"/proc/{process}/stat")
        if not stat.exists():
            return None
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        seconds += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def _reference(opened: ExitStack, suite: TaskSuite, steps: int) -> Callable[[], object]:
    """Meta-World as it comes; the actions are drawn beforehand."""
    envs = gymnasium.make_vec(
        "Meta-World/custom-mt-envs", vector_strategy="sync", envs_list=list(suite.tasks), seed=_SEED
    )
    opened.callback(envs.close)
    envs.reset(seed=_SEED)
    shape = (steps, len(suite.tasks), suite.action_dim)
    actions_TKA = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def run() -> None:
        for action_KA in actions_TKA:
            envs.step(action_KA)

    return run


class _Reference:
    """Meta-World's own environment in a process of Ray's."""

    def __init__(self, suite: TaskSuite, steps: int) -> None:
        self._run = _reference(ExitStack(), suite, steps)

    def run(self) -> int:
        """Takes the steps; answers with the process."""
        self._run()
        return os.getpid()


def _references_at_once(suite: TaskSuite, processes: int, steps: int, name: str) -> _Turn:
    """The reference's rate where each core runs one of its own."""
    actor_class: Any = ray.remote(num_cpus=1)(_Reference)
    actors = [actor_class.remote(suite, steps) for _ in range(processes)]
    pids: list[int] = ray.get([actor.run.remote() for actor in actors])

    def run() -> None:
        ray.get([actor.run.remote() for actor in actors])

    return _Turn(run, lambda: _cpu_of(pids), processes, processes, beside=name)


def _in_this_process(
    opened: ExitStack, spec: CollectSpec, policy: Policy, steps: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A rollout without Ray, random and with the policy: the simulators' cost, and the policy's."""
    rollout = Rollout(spec.suite, range(len(spec.suite.tasks)), spec.copies, spec.seed)
    opened.callback(rollout.close)
    index = count()
    return (
        lambda: rollout.collect(None, next(index), steps),
        lambda: rollout.collect(policy, next(index), steps),
    )


def _ray_workers(
    opened: ExitStack, spec: CollectSpec, weights_P: np.ndarray, workers: int, steps: int, beside: str
) -> _Turn:
    """Chunks by real workers: weights of a new version out, transitions back and merged."""
    collector = make_collector(spec, ClusterConfig(kind="local", workers=workers))
    opened.callback(collector.close)
    collector.start(None)
    index = count()

    def run() -> None:
        number = next(index)
        collect_chunk(collector, ChunkOrder(number, steps, number, weights_P + np.float32(0)))

    return _Turn(run, lambda: _cpu_of([worker.pid for worker in collector.workers()]), workers, beside=beside)


_ROUNDS = 3
_ASKED = 300  # times in a row
_PHYSICS = ("mj_step", "mj_forward", "mj_rnePostConstraint")


@dataclass(frozen=True)
class Part:
    """A part of a vector step.

    Attributes:
        part: It takes the time.
        of: It is a part of this.
        microseconds: A vector step.
        share: Of that vector step; None for what is timed alone.
    """

    part: str
    of: str
    microseconds: float
    share: float | None


def measure_parts(
    random: Mapping[str, Callable[[], object]],
    acting: tuple[str, Callable[[], object]],
    policy: Policy,
    suite: TaskSuite,
    steps: int,
) -> list[Part]:
    """Time physics and the policy inside of what collects, and the policy alone; medians of three chunks.

    Args:
        random: They collect a chunk with random actions, by name.
        acting: Name of what collects a chunk with the policy, and what does it.
        policy: The one that acts there.
        suite: Its tasks, one copy each.
        steps: Vector steps of a chunk.
    """
    parts = [_inside("physics", name, run, mujoco, _PHYSICS, steps) for name, run in random.items()]
    parts.append(_inside("policy", *acting, Policy, ("__call__",), steps))
    tasks = range(len(suite.tasks))
    obs_KNO = np.zeros((len(tasks), 1, suite.observation_dim), np.float32)
    noise_KNA = np.zeros((len(tasks), 1, suite.action_dim), np.float32)
    seconds = []
    for _ in range(_ASKED):
        started = time.perf_counter()
        policy(tasks, obs_KNO, noise_KNA)
        seconds.append(time.perf_counter() - started)
    return [*parts, Part("policy", "nothing else: asked again and again", 1e6 * statistics.median(seconds), None)]


def _inside(part: str, of: str, run: Callable[[], object], owner: Any, names: tuple[str, ...], steps: int) -> Part:
    spent, whole = [], []
    for _ in range(_ROUNDS):
        with _watched(owner, names) as laps:
            started = time.perf_counter()
            run()
            whole.append(time.perf_counter() - started)
        spent.append(sum(laps))
    share = statistics.median(own / total for own, total in zip(spent, whole, strict=True))
    return Part(part, of, 1e6 * statistics.median(spent) / steps, share)


@contextmanager
def _watched(owner: Any, names: tuple[str, ...]) -> Iterator[list[float]]:
    """The seconds of every call of these functions, which are themselves again afterwards."""
    laps: list[float] = []
    originals = {name: getattr(owner, name) for name in names}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*words: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*words, **options)
            finally:
                laps.append(time.perf_counter() - started)

        return call

    try:
        for name, function in originals.items():
            setattr(owner, name, timed(function))
        yield laps
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
