"""What runs are called in a report: the method, and the options in which its runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

NOT_OPTIONS = (
    "seed", "dataset.seed", "dataset.data_dir", "out", "resume", "logger", "checkpoint", "diagnostics",
    "agent.diagnostics_every", "evaluation", "cluster", "learner", "device", "threads", "workers", "log_every",
    "total_steps", "env.name", "env.tasks",
)  # fmt: skip
"""Keys, and all below them, in which runs of one group may differ: they change where, when, how long or how often a run
computes and tells something, not what is trained. What the tasks are decides the benchmark, see `benchmarks`."""

_NETWORKS = {"actor": "actor_method", "critic": "critic_method"}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as one: `{"agent": {"tau": 1}}` becomes `{"agent.tau": 1}`."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def method_name(config: Mapping[str, Any]) -> str:
    """`samgs`, or `ls actor, famo critic` where the networks differ."""
    actor, critic = (_name(config.get(key) or config.get("method")) for key in _NETWORKS.values())
    return actor if actor == critic else f"{actor} actor, {critic} critic"


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides what is trained, flat, without the method's name."""
    found = {key: value for key, value in flat(config).items() if not _is_no_option(key)}
    if _name(config.get("method")) == "stl":
        found.pop("method.task", None)  # single-task learning: its runs are one method's, a task each
    return {key: value for key, value in found.items() if key not in _NAMES}


def single_task(config: Mapping[str, Any]) -> int | None:
    """Of `method=stl` the index of the only task that was trained, else None."""
    method = config.get("method")
    return int(method.get("task") or 0) if isinstance(method, Mapping) and _name(method) == "stl" else None


def labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each run's group: its method, and the options to name, which are those that tell the groups apart.

    A method's own options are named where its runs differ, all others where any runs do. A key that some runs lack (an
    older version wrote them) tells nothing apart.
    """
    names = [method_name(config) for config in configs]
    every = [options(config) for config in configs]
    outside = [key for key in _differing(every) if not _is_methods(key)]
    inside = {
        name: [k for k in _differing([o for n, o in zip(names, every, strict=True) if n == name]) if _is_methods(k)]
        for name in dict.fromkeys(names)
    }
    return [
        _label(name, {k: own.get(k) for k in inside[name] + outside}) for name, own in zip(names, every, strict=True)
    ]


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Every key in which the runs differ, and each run's value; folders and random seeds are left out."""
    every = [flat(config) for config in configs]
    keys = [key for key in _differing(every) if key not in ("seed", "dataset.seed", "out", "resume")]
    return {key: [own.get(key) for own in every] for key in keys}


def shown(value: Any) -> str:
    """A configuration value as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(shown, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


_NAMES = ("method", "actor_method", "critic_method", "method.name", "actor_method.name", "critic_method.name")


def _name(method: Any) -> str:
    return str(method.get("name")) if isinstance(method, Mapping) else str(method)


def _label(name: str, own: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key.removeprefix('method.')}={shown(value)}" for key, value in own.items())
    return f"{name} ({said})" if said else name


def _is_methods(key: str) -> bool:
    return key.split(".")[0] in ("method", "actor_method", "critic_method")


@lru_cache(maxsize=4096)
def _is_no_option(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NOT_OPTIONS)


def _differing(every: Iterable[Mapping[str, Any]]) -> list[str]:
    values: dict[str, set[str]] = {}
    for own in every:
        for key, value in own.items():
            values.setdefault(key, set()).add(repr(value))
    return [key for key, different in values.items() if len(different) > 1]
