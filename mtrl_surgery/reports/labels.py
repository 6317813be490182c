"""Which runs are one group, and what a group is called: its method, and the options in which the runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from mtrl_surgery.reports.records import Record

NOT_OPTIONS = (
    "seed", "dataset.seed", "dataset.data_dir", "out", "resume", "logger", "checkpoint", "diagnostics",
    "agent.diagnostics_every", "evaluation", "cluster", "learner", "device", "threads", "workers", "log_every",
    "total_steps", "env.name", "env.tasks",
)  # fmt: skip
"""Keys, and all below them, in which runs of one group may differ: they change where, when, how long or how often a run
computes and tells something, not what is trained. What the tasks are decides the benchmark, see `benchmarks`."""

_NAMES = ("method", "actor_method", "critic_method", "method.name", "actor_method.name", "critic_method.name")

Place = tuple[int, int | None, str]
"""A run's seed, of single-task learning its task, and its path where twins have a place each."""


class Label(NamedTuple):
    """What a group of runs is called.

    Attributes:
        method: The method's name.
        own: The method's options in which its runs differ, as `key=value`.
        others: The same of all other keys in which any runs differ.
    """

    method: str
    own: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`samgs`, or `samgs (beta=0.9, epochs=50)`."""
        said = ", ".join(text.removeprefix("method.") for text in (*self.own, *self.others))
        return f"{self.method} ({said})" if said else self.method


def labels(configs: Sequence[Mapping[str, Any]]) -> list[Label]:
    """Each run's group: its method, and the options to name, which are those that tell the groups apart.

    A method's own options are named where its runs differ, all others where any runs do. A key that some runs lack (an
    older version wrote them) tells nothing apart.
    """
    names = [method_name(config) for config in configs]
    every = [_options(config) for config in configs]
    outside = [key for key in _differing(every) if not _is_methods(key)]
    inside = {
        name: [k for k in _differing([o for n, o in zip(names, every, strict=True) if n == name]) if _is_methods(k)]
        for name in dict.fromkeys(names)
    }
    return [
        Label(name, *(tuple(f"{k}={shown(own.get(k))}" for k in keys) for keys in (inside[name], outside)))
        for name, own in zip(names, every, strict=True)
    ]


def grouped(
    records: Sequence[Record], names: Sequence[Label], twins: bool = False
) -> tuple[dict[Label, dict[Place, Record]], list[tuple[Record, Record]]]:
    """Runs by their group's name, and in it by their place.

    Args:
        records: The runs; of two with one configuration and seed the first that is finished counts.
        names: Of each run's group.
        twins: Whether both count, each by its path.

    Returns:
        The groups; and the runs that are in none, each with its twin.
    """
    groups: dict[Label, dict[Place, Record]] = {}
    left_out: list[tuple[Record, Record]] = []
    for record, name in sorted(zip(records, names, strict=True), key=lambda pair: pair[0].status != "finished"):
        key = record.seed, single_task(record.config), str(record.path) if twins else ""
        twin = groups.setdefault(name, {}).setdefault(key, record)
        if twin is not record:
            left_out.append((record, twin))
    return groups, left_out


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
    actor, critic = (_name(config.get(key) or config.get("method")) for key in ("actor_method", "critic_method"))
    return actor if actor == critic else f"{actor} actor, {critic} critic"


def single_task(config: Mapping[str, Any]) -> int | None:
    """Of `method=stl` the index of the only task that was trained, else None."""
    method = config.get("method")
    return int(method.get("task") or 0) if isinstance(method, Mapping) and _name(method) == "stl" else None


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


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides what is trained, flat, without the method's name."""
    found = {key: value for key, value in flat(config).items() if key not in _NAMES and not _is_no_option(key)}
    if _name(config.get("method")) == "stl":
        found.pop("method.task", None)  # single-task learning: its runs are one method's, a task each
    return found


def _name(method: Any) -> str:
    return str(method.get("name")) if isinstance(method, Mapping) else str(method)


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
