"""The environment part of a run's configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated


class EnvError(ValueError):
    """The environment configuration cannot be used; the message names the key, the value and the choices."""


@dataclass
class EnvConfig:
    """Which tasks are trained together, and how their episodes are cut."""

    kind: Annotated[str, "metaworld | gymnasium (registered ids) | factory (your own make(task) -> gymnasium.Env)"] = (
        "metaworld"
    )
    name: Annotated[str, "label for run names; Meta-World without tasks: also the list, mt10 | mt25 | mt50"] = "mt10"
    tasks: Annotated[list[str], "task names, in the order of the one-hot task id"] = field(default_factory=list)
    horizon: Annotated[int, "steps after which an episode is truncated; an id's own limit holds if it is less"] = 500
    reward_version: Annotated[str, "Meta-World's reward function, v1 | v2"] = "v2"
    one_hot: Annotated[bool | None, "whether observations get a one-hot task id; null: as the agent's preset"] = None
    num_goals: Annotated[int, "goals a task (Meta-World only), shared by training and evaluation"] = 50
    goal_seed: Annotated[int, "of the goals alone, so that runs of different seeds meet the same tasks"] = 0
    copies: Annotated[int, "environments a task during training"] = 1
    factory: Annotated[str | None, "package.module:callable, for kind=factory"] = None
    success_reward: Annotated[
        float | None,
        "a step whose reward reaches it is a success, where `info` has no success key (Gymnasium, factory); "
        "null: such a task never reports success",
    ] = None


def unknown(what: str, value: str, choices: Iterable[str]) -> str:
    """The message for a name that is not among the choices, with the closest one."""
    names = list(choices)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {what} {value!r}{hint} choices: {', '.join(names)}"
