"""`bench rollout`: simulators, without and with the policy."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.commands.bench.common import at_least_one, write_results


@dataclass
class RolloutArguments:
    """Options of `bench rollout`."""

    tasks: list[str] = field(default_factory=lambda: ["reach-v3", "drawer-close-v3"])
    steps: int = 300  # vector steps timed
    copies: int = 1
    width: int = 400
    out: str = "runs"


def bench_rollout(arguments: RolloutArguments) -> int:
    """Environment steps a second in one process, with random actions and with the policy."""
    for key in ("steps", "copies", "width"):
        at_least_one(key, getattr(arguments, key))
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
    path = Path(arguments.out) / "bench" / f"rollout-k{len(suite.tasks)}.json"
    write_results(path, vars(arguments), {"steps_per_second": rates})
    return 0
