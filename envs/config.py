"""The environment part of a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field


class EnvError(ValueError):
    """The environment configuration cannot be used; the message names the key, the value and the choices."""


@dataclass
class EnvConfig:
    """Which tasks are trained together, and how their episodes are cut.

    Attributes:
        kind: "metaworld", "gymnasium" (registered ids) or "factory" (your own `make(task) -> gymnasium.Env`).
        name: Label for run names; for Meta-World without `tasks` also the list: "mt10", "mt25" or "mt50".
        tasks: Task names, in the order of the one-hot task id.
        horizon: Steps after which an episode is truncated; a Gymnasium id's own limit holds if it is less.
        reward_version: Meta-World reward function, "v1" or "v2".
        one_hot: Whether observations get a one-hot task id; None leaves it to the agent's preset.
        num_goals: Goals a task (Meta-World only), shared by training and evaluation.
        goal_seed: Seed of the goals alone, so that runs of different seeds meet the same tasks.
        copies: Environments a task during training.
        factory: "package.module:callable" for kind "factory".
        success_reward: For Gymnasium and factory tasks whose `info` has no success key: a step is a success
            when its reward reaches this value; None: such a task never reports success.
    """

    kind: str = "metaworld"
    name: str = "mt10"
    tasks: list[str] = field(default_factory=list)
    horizon: int = 500
    reward_version: str = "v2"
    one_hot: bool | None = None
    num_goals: int = 50
    goal_seed: int = 0
    copies: int = 1
    factory: str | None = None
    success_reward: float | None = None
