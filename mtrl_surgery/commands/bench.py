"""Time the pieces of training on this machine.

usage: mtrl-surgery bench update [tasks=10 batch=128 width=400 updates=20 methods=[ls,samgs,pcgrad,cagrad] ...]
       mtrl-surgery bench rollout [tasks=[reach-v3,...] steps=200 ...]

`update` times whole SAC updates (critics, actor, temperatures, targets) on random data, the methods taking turns in
one process, and says what each costs relative to the first. `rollout` times simulators, without and with the policy.
Both print a table, and write it with the machine's facts as JSON into <out>/bench/ (out=runs).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mtrl_surgery.commands.arguments import parse, usage, wants_help
from mtrl_surgery.commands.tables import table
from mtrl_surgery.settings import SettingsError, unknown


@dataclass
class UpdateArguments:
    """Options of `bench update`."""

    tasks: int = 10
    batch: int = 128  # transitions a task
    width: int = 400  # of each of three hidden layers
    updates: int = 20  # timed updates of each method
    methods: list[str] = field(default_factory=lambda: ["ls", "samgs", "pcgrad", "cagrad"])
    device: str = "auto"
    threads: int | None = None
    out: str = "runs"


@dataclass
class RolloutArguments:
    """Options of `bench rollout`."""

    tasks: list[str] = field(default_factory=lambda: ["reach-v3", "drawer-close-v3"])
    steps: int = 300  # vector steps timed
    copies: int = 1
    width: int = 400
    out: str = "runs"


class Bench(NamedTuple):
    """A benchmark: its options and what runs it."""

    arguments: type[Any]
    run: Callable[[Any], int]


def main(words: Sequence[str]) -> int:
    """Run one benchmark."""
    if not words or wants_help(words):
        print(usage(__doc__))
        return 0
    if words[0] not in BENCHES:
        raise SettingsError(unknown("bench", words[0], BENCHES))
    bench = BENCHES[words[0]]
    return bench.run(parse(words[1:], bench.arguments))


def bench_update(arguments: UpdateArguments) -> int:
    """Milliseconds of an update, method by method."""
    for key in ("tasks", "batch", "width", "updates"):
        _at_least_one(key, getattr(arguments, key))
    import torch

    from mtrl_surgery.devices import resolve_device, resolve_threads
    from mtrl_surgery.methods.registry import find_method

    entries = [find_method(name) for name in dict.fromkeys(arguments.methods)]
    if not entries:
        raise SettingsError("methods=[] names no method")
    device = resolve_device(arguments.device)
    torch.set_num_threads(resolve_threads(arguments.threads))
    learners = {entry.name: _learner(arguments, entry.name, device) for entry in entries}

    def timed(name: str) -> float:
        started = time.perf_counter()
        learners[name].update(1)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return 1e3 * (time.perf_counter() - started)

    for name in learners:
        for _ in range(3):  # the first updates allocate, and compile kernels
            timed(name)
    # Turns, not blocks: a machine that slows down in between slows every method alike.
    laps: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(arguments.updates):
        for name, lap in laps.items():
            lap.append(timed(name))
    medians = {name: statistics.median(lap) for name, lap in laps.items()}
    first = next(iter(medians.values()))
    print(
        f"SAC update, {arguments.tasks} tasks, 3x{arguments.width}, {arguments.batch} transitions a task, {device}, "
        f"{torch.get_num_threads()} threads, median of {arguments.updates}"
    )
    rows = [
        (name, f"{median:.1f}", f"{min(laps[name]):.1f}", f"{median / first:.2f}x") for name, median in medians.items()
    ]
    print(table(("method", "ms", "best ms", f"to {next(iter(medians))}"), rows, numbers=(1, 2, 3)))
    results = {"milliseconds": medians, "relative": {name: ms / first for name, ms in medians.items()}}
    _write(arguments.out, f"update-k{arguments.tasks}-{device.replace(':', '')}", vars(arguments), results)
    return 0


def bench_rollout(arguments: RolloutArguments) -> int:
    """Environment steps a second in one process, with random actions and with the policy."""
    for key in ("steps", "copies", "width"):
        _at_least_one(key, getattr(arguments, key))
    if not arguments.tasks:
        raise SettingsError("tasks=[] names no task")
    import torch

    from agents.config import AgentConfig
    from agents.networks import initial_mlp
    from agents.policy import Policy, actor_sizes
    from envs.config import EnvConfig
    from envs.rollout import Rollout
    from envs.suite import build_suite
    from mtrl_surgery.assembly import build_problem

    torch.set_num_threads(1)  # as rollout workers do
    suite = build_suite(EnvConfig(name="bench", tasks=arguments.tasks))
    problem, config = build_problem(suite), AgentConfig(hidden_sizes=[arguments.width] * 3)
    policy = Policy(problem, config)
    actor = initial_mlp(1, actor_sizes(problem, config), config.initializer, torch.Generator().manual_seed(0))
    policy.load(actor.vector_P.numpy())
    rollout = Rollout(suite, range(len(suite.tasks)), arguments.copies, seed=0)
    rollout.collect(None, 0, 5)
    rates = {}
    for index, (name, acting) in enumerate({"random": None, "policy": policy}.items()):
        started = time.perf_counter()
        rollout.collect(acting, index + 1, arguments.steps)
        rates[name] = len(suite.tasks) * arguments.copies * arguments.steps / (time.perf_counter() - started)
    rollout.close()
    print(f"rollout in one process, {len(suite.tasks)} tasks x {arguments.copies}, {arguments.steps} vector steps")
    print(table(("actions", "steps/s"), [(name, f"{rate:,.0f}") for name, rate in rates.items()], numbers=(1,)))
    _write(arguments.out, f"rollout-k{len(suite.tasks)}", vars(arguments), {"steps_per_second": rates})
    return 0


BENCHES: dict[str, Bench] = {
    "update": Bench(UpdateArguments, bench_update),
    "rollout": Bench(RolloutArguments, bench_rollout),
}


def _learner(arguments: UpdateArguments, method: str, device: str) -> Any:
    """A learner of Meta-World's shapes whose replay holds random transitions."""
    import numpy as np

    from agents.config import AgentConfig
    from agents.problem import Problem
    from agents.sac import SACLearner
    from envs.rollout import Chunk
    from mtrl_surgery.methods.registry import METHODS, make_method

    tasks, steps, observation, action = arguments.tasks, 256, 39, 4
    config = AgentConfig(
        hidden_sizes=[arguments.width] * 3, batch_size=arguments.batch, replay_capacity=steps, warmup_steps=0
    )
    names = tuple(f"task-{task}" for task in range(tasks))
    problem = Problem(names, observation, action, np.ones((tasks, action), np.float32))
    options = METHODS[method].config()
    actor_method, critic_method = (make_method(options, tasks, seed) for seed in (0, 1))
    learner = SACLearner(problem, config, actor_method, critic_method, seed=0, device=device)
    random, grid = np.random.default_rng(0), (tasks, steps, 1)
    learner.add(
        Chunk(
            index=0,
            tasks=tuple(range(tasks)),
            obs_KTNO=random.standard_normal((*grid, observation), np.float32),
            action_KTNA=random.uniform(-1, 1, (*grid, action)).astype(np.float32),
            reward_KTN=random.standard_normal(grid, np.float32),
            next_obs_KTNO=random.standard_normal((*grid, observation), np.float32),
            terminated_KTN=np.zeros(grid, bool),
            ended_KTN=np.zeros(grid, bool),
            episodes=[],
        )
    )
    return learner


def _at_least_one(key: str, value: int) -> None:
    if value < 1:
        raise SettingsError(f"{key}={value} must be at least 1")


def _write(out: str, name: str, arguments: dict[str, Any], results: dict[str, Any]) -> None:
    from mtrl_surgery.runs.manifest import session

    path = Path(out) / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {key: value for key, value in arguments.items() if key != "out"}
    path.write_text(json.dumps({"arguments": options, "results": results, "session": session()}, indent=2) + os.linesep)
    print(f"written to {path}")
