"""A task suite from its configuration."""

from __future__ import annotations

from envs.config import EnvConfig, EnvError, unknown
from envs.suite import TaskSuite


def build_suite(config: EnvConfig) -> TaskSuite:
    """Checks the configuration and describes its suite. No Meta-World simulator is built here.

    Raises:
        EnvError: An option has a value that cannot work.
    """
    for key in ("horizon", "num_goals", "copies"):
        if getattr(config, key) < 1:
            raise EnvError(f"env.{key} = {getattr(config, key)} must be at least 1")
    if config.goal_seed < 0:
        raise EnvError(f"env.goal_seed = {config.goal_seed} must not be negative")
    repeated = sorted({task for task in config.tasks if config.tasks.count(task) > 1})
    if repeated:
        raise EnvError(f"env.tasks names {', '.join(map(repr, repeated))} more than once")
    if config.kind == "metaworld":
        from envs.metaworld_suite import build_metaworld_suite

        return build_metaworld_suite(config)
    if config.kind in ("gymnasium", "factory"):
        from envs.gymnasium_suite import build_gymnasium_suite

        return build_gymnasium_suite(config)
    raise EnvError(unknown("env.kind", config.kind, ("metaworld", "gymnasium", "factory")))
