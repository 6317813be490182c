"""Run folders with the rows that training writes, made by RunFolder; what they hold follows from their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtrl_surgery.jacobian.conflict import conflict_map, map_row
from mtrl_surgery.runs.folder import RunFolder

TASKS = ("reach-v3", "push-v3", "door-open-v3")


def make_run(
    out: Path,
    method: str | Mapping[str, Any] = "ls",
    seed: int = 0,
    *,
    tasks: Sequence[str] = TASKS,
    rates: Sequence[Sequence[float]] = ((0.0, 0.2, 0.4), (0.2, 0.6, 1.0)),
    episodes: int = 10,
    env: str = "three",
    maps: bool = True,
    status: str = "finished",
    **config: Any,
) -> Path:
    """A run of reinforcement learning.

    Args:
        out: The folder of run folders.
        method: Its name, or its options.
        seed: Its seed.
        tasks: Of the environment.
        rates: Success at each evaluation, task by task; at the last step always half as often.
        episodes: Of every evaluation and task.
        env: The environment's name.
        maps: Whether it logged maps of conflicts.
        status: How it ended; `running` for not at all.
        **config: More of its configuration.
    """
    options = {"name": method} if isinstance(method, str) else dict(method)
    settings = {
        "env": {"kind": "metaworld", "name": env, "tasks": list(tasks), "horizon": 500, "num_goals": 50, "copies": 2},
        "method": options,
        "actor_method": None,
        "critic_method": None,
        "agent": {"tau": 0.005},
        "evaluation": {"final_episodes": episodes},
        "total_steps": 100 * len(rates),
        "seed": seed,
        "out": str(out),
        **config,
    }
    rng = np.random.default_rng(seed)
    with RunFolder.create(out, f"{env}_{options['name']}_s{seed}", settings) as run:
        for step, at in enumerate(rates, 1):
            _train(run, 100 * step, tasks, rng, maps)
            for task, rate in zip(tasks, at, strict=True):
                hits = round(rate * episodes)
                row = {"step": 100 * step, "task": task, "updates": 90 * step, "protocol": "metaworld_plus"}
                counts = {"episodes": episodes, "successes_any": hits, "successes_last": hits // 2}
                run.evaluations.write({**row, **counts, "mean_return": 1.0, "returns": [1.0], "goals": [0]})
        if status != "running":
            run.finish(status)  # type: ignore[arg-type]
    return run.path


def _train(run: RunFolder, step: int, tasks: Sequence[str], rng: np.random.Generator, maps: bool) -> None:
    whole: dict[str, Any] = {"step": step, "task": None, "updates": step}
    for network in ("critic", "actor"):
        whole |= {f"{network}/{key}": float(rng.random()) for key in ("conflict_rate", "mean_cosine", "triad_rate")}
    run.metrics.write(whole)
    for task in tasks:
        own: dict[str, Any] = {"step": step, "task": task, "updates": step, "temperature": float(rng.random())}
        for network in ("critic", "actor"):
            own |= {f"{network}/{key}": float(rng.random()) for key in ("weights", "gradient_norm", "alignment")}
        run.metrics.write(own)
    health = {
        "steps_per_s": 50.0 + step,
        "updates_per_s": 40.0,
        "lag_updates": 100.0,
        "workers": 2,
        "restarts": step // 200,
    }
    run.health.write({"step": step, "time": 1.7e9 + step, "wall_s": step / 10, **health})
    run.health.write({"step": step, "time": 1.7e9 + step, "wall_s": step / 10, "event": "evaluation", "seconds": 2.0})
    for network in ("critic", "actor") if maps else ():
        jacobian_KP = torch.from_numpy(rng.normal(size=(len(tasks), 4)))
        row = map_row(conflict_map(jacobian_KP @ jacobian_KP.T))
        run.conflicts.write({"step": step, "network": network, "update": step, "tasks": list(tasks), "looks": 3, **row})
