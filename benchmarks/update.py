"""Time whole SAC updates (critics, actor, temperatures, targets) on random data; the methods take turns in one process.

usage: python -m benchmarks update [KEY=VALUE ...]

{keys}

The table says what an update costs with each method, relative to the first one. The JSON has the machine's facts too.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from agents.config import AgentConfig
from agents.problem import Problem
from agents.sac import SACLearner
from benchmarks.timing import at_least_one, take_turns, write_results
from envs.rollout import Chunk
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.devices import resolve_device, resolve_threads
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from mtrl_surgery.runs.console import table


@dataclass
class Arguments:
    """Options of `update`."""

    tasks: Annotated[int, "how many"] = 10
    batch: Annotated[int, "transitions a task"] = 128
    width: Annotated[int, "of each of three hidden layers"] = 400
    updates: Annotated[int, "timed updates of each method"] = 20
    methods: Annotated[list[str], "which to time; the first is what the others are compared with"] = field(
        default_factory=lambda: ["ls", "samgs", "pcgrad", "cagrad"]
    )
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[int | None, "CPU threads; null: all cores"] = None
    out: Annotated[str, PATH, "the JSON goes to <out>/bench/"] = "runs"


def main(words: Sequence[str]) -> int:
    """Milliseconds of an update, method by method."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("tasks", "batch", "width", "updates"):
        at_least_one(key, getattr(arguments, key))

    entries = [find_method(name) for name in dict.fromkeys(arguments.methods)]
    if not entries:
        raise SettingsError("methods=[] names no method")
    device = resolve_device(arguments.device)
    torch.set_num_threads(resolve_threads(arguments.threads))
    learners = {entry.name: _learner(arguments, entry.name, device) for entry in entries}

    steps = {name: partial(learner.update, 1) for name, learner in learners.items()}
    laps = take_turns(steps, arguments.updates, 3, device)
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
    path = Path(arguments.out) / "bench" / f"update-k{arguments.tasks}-{device.replace(':', '')}.json"
    write_results(path, vars(arguments), results)
    return 0


def _learner(arguments: Arguments, method: str, device: str) -> Any:
    """A learner of Meta-World's shapes whose replay holds random transitions."""
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
