"""What `bench rollout` times: the same number of steps of the same tasks, by Meta-World, by this process and by Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import metaworld  # noqa: F401  registers its environments
import numpy as np
import ray
import torch

from agents.config import AgentConfig
from agents.networks import initial_mlp
from agents.policy import Policy, actor_sizes
from cluster.collect import ChunkOrder, CollectSpec
from cluster.config import ClusterConfig
from cluster.raysession import RaySession
from envs.rollout import Rollout
from envs.suite import TaskSuite
from mtrl_surgery.assembly import build_problem
from mtrl_surgery.commands.bench.common import take_turns
from mtrl_surgery.commands.bench.rollout_parts import Part, measure_parts
from mtrl_surgery.commands.bench.round_trips import collect_chunk

_SEED = 1  # Meta-World takes 0 for no seed
_RANDOM, _ACTING = "this process, random actions", "this process, policy"


class Laps(NamedTuple):
    """What one way of collecting took, round by round.

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
    """What the machine leaves of the reference where each core has one of its own."""
    actor_class: Any = ray.remote(num_cpus=1)(_Reference)
    actors = [actor_class.remote(suite, steps) for _ in range(processes)]
    pids: list[int] = ray.get([actor.run.remote() for actor in actors])

    def run() -> None:
        ray.get([actor.run.remote() for actor in actors])

    return _Turn(run, lambda: _cpu_of(pids), processes, processes, beside=name)


def _in_this_process(
    opened: ExitStack, spec: CollectSpec, policy: Policy, steps: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A rollout without Ray, random and with the policy: what the simulators cost, and what the policy adds."""
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
    from cluster.assembly import make_collector

    collector = make_collector(spec, ClusterConfig(kind="local", workers=workers))
    opened.callback(collector.close)
    collector.start(None)
    index = count()

    def run() -> None:
        number = next(index)
        collect_chunk(collector, ChunkOrder(number, steps, number, weights_P + np.float32(0)))

    return _Turn(run, lambda: _cpu_of([worker.pid for worker in collector.workers()]), workers, beside=beside)
