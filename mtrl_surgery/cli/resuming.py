"""Going on with a run: what its folder says, plus the keys of the command line that leave its past as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mtrl_surgery.cli.composition import Program, compose
from mtrl_surgery.cli.schema import SettingsError, leaves
from mtrl_surgery.runs.checkpoint import Checkpoint
from mtrl_surgery.runs.folder import is_run
from mtrl_surgery.runs.shapes import MAPPING, check

Plain = Callable[[Any], Mapping[str, Any]]
"""From a composed configuration to the nested dictionaries that config.yaml holds."""
_WHERE = ("out", "resume", "folder", "trust")


def goes_on(config: DictConfig) -> bool:
    """Whether the command line asks for the rest of a run; then `config.resume` names it.

    Raises:
        SettingsError: `resume=` and `folder=` are both given.
    """
    if config.folder is not None and config.resume is not None:
        raise SettingsError(
            f"folder={config.folder} and resume={config.resume} both name the run's folder: leave one out"
        )
    if config.folder is not None and is_run(Path(config.folder)):
        config.resume = config.folder
    return config.resume is not None


def resumed_mapping(
    program: Program,
    plain: Plain,
    config: DictConfig,
    overrides: Sequence[str],
    stored: Mapping[str, Any],
    free: Sequence[str],
) -> dict[str, Any]:
    """The configuration of the run in `config.resume`, with the command line's changes.

    Args:
        program: the command.
        plain: see `Plain`.
        config: what hydra composed from the command line.
        overrides: the words of the command line.
        stored: the run's own configuration.
        free: keys that may be otherwise (a trailing dot: the whole group).

    Raises:
        SettingsError: a key is set to another value than the run was made with; names the key and both values.
    """
    path = Path(config.resume)
    asked = asked_for(program, plain, config, overrides)
    before = leaves(stored)
    changed = {key: value for key, value in asked.items() if before.get(key) != value}
    refused = [key for key in changed if not any(_matches(key, name) for name in free)]
    if refused:
        # Another method has other options, which say nothing beyond its name.
        renamed = tuple(key.removesuffix("name") for key in refused if key.endswith("method.name"))
        refused = [key for key in refused if not key.startswith(renamed) or key.endswith("method.name")]
        differences = "; ".join(f"{key}={before.get(key)!r} there, {changed[key]!r} here" for key in refused)
        key = "resume" if config.folder is None else "folder"
        raise SettingsError(f"{key}={path}: the run was made with {differences}; free to change: {', '.join(free)}")
    after = {key: dict(value) if isinstance(value, Mapping) else value for key, value in stored.items()}
    for key, value in changed.items():
        group, _, name = key.rpartition(".")
        (after[group] if group else after)[name] = value
    return after


def asked_for(program: Program, plain: Plain, config: DictConfig, overrides: Iterable[str]) -> dict[str, Any]:
    """The plain values that the command line sets, by dotted key: those it names, and those its groups change."""
    composed, default = leaves(plain(config)), leaves(plain(compose(program, [])))
    named = [override.lstrip("+~").partition("=")[0] for override in overrides]
    return {
        key: value
        for key, value in composed.items()
        if key not in _WHERE
        and not (key == "env.tasks" and not value)  # left to the name of the set, which is compared as well
        and (default.get(key) != value or any(key == name or key.startswith(f"{name}.") for name in named))
    }


def check_belongs(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    plain: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    free: Sequence[str],
) -> None:
    """Refuse a checkpoint that was made with another configuration, but for the keys that are `free`.

    `plain` gives a stored configuration what this version of the program adds to it.

    Raises:
        SettingsError: Names the keys with both values.
    """
    check(checkpoint.about, {"config": MAPPING}, f"{checkpoint.path}: what it was made with", ("config",))
    there, here = leaves(plain(checkpoint.about["config"])), leaves(config)
    different = [
        f"{key} was {there.get(key)!r} and is {here.get(key)!r}"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key) and key not in _WHERE and not any(_matches(key, name) for name in free)
    ]
    if different:
        raise SettingsError(
            f"{checkpoint.path} does not belong to this configuration: since it was made, {'; '.join(different)}"
        )


def _matches(key: str, free: str) -> bool:
    return key.startswith(free) if free.endswith(".") else key == free
