"""Going on with a run: what its folder says, plus the keys of the command line that leave its past as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mtrl_surgery.commands.composition import compose
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import SettingsError, TrainSettings, leaves, settings_from_mapping, to_settings

FREE = (
    "total_steps",
    "device",
    "threads",
    "log_every",
    "cluster.kind",
    "cluster.address",
    "cluster.workers",
    "cluster.max_restarts",
    "cluster.start_timeout",
    "cluster.object_store_mb",
    "evaluation.",
    "checkpoint.",
    "logger.",
    "diagnostics.",
)
"""Keys that a resumed run may have otherwise (a trailing dot: the whole group). Device and threads change the bits to
come, never what was done; whoever moves a run to another machine needs them."""
_WHERE = ("out", "resume")


def resumed_settings(config: DictConfig, overrides: Sequence[str]) -> TrainSettings:
    """The settings of the run in `config.resume`, with the command line's changes.

    Args:
        config: what hydra composed from the command line.
        overrides: the words of the command line.

    Raises:
        RunError: the folder is no run folder.
        SettingsError: a key is set to another value than the run was made with; names the key and both values.
    """
    path = Path(config.resume)
    stored = settings_from_mapping(RunFolder.open(path).config(), path / "config.yaml").to_mapping()
    asked = asked_for(config, overrides)
    before = leaves(stored)
    changed = {key: value for key, value in asked.items() if before.get(key) != value}
    refused = [key for key in changed if not _is_free(key)]
    if refused:
        # Another method has other options, which say nothing beyond its name.
        renamed = tuple(key.removesuffix("name") for key in refused if key.endswith("method.name"))
        refused = [key for key in refused if not key.startswith(renamed) or key.endswith("method.name")]
        differences = "; ".join(f"{key}={before.get(key)!r} there, {changed[key]!r} here" for key in refused)
        raise SettingsError(f"resume={path}: the run was made with {differences}; free to change: {', '.join(FREE)}")
    for key, value in changed.items():
        group, _, name = key.rpartition(".")
        (stored[group] if group else stored)[name] = value
    return settings_from_mapping(stored, path / "config.yaml")


def asked_for(config: DictConfig, overrides: Iterable[str]) -> dict[str, Any]:
    """The plain values that the command line sets, by dotted key: those it names, and those its groups change."""
    composed = leaves(to_settings(config).to_mapping())
    default = leaves(to_settings(compose([])).to_mapping())
    named = [override.lstrip("+~").partition("=")[0] for override in overrides]
    return {
        key: value
        for key, value in composed.items()
        if key not in _WHERE
        and not (key == "env.tasks" and not value)  # left to the name of the set, which is compared as well
        and (default.get(key) != value or any(key == name or key.startswith(f"{name}.") for name in named))
    }


def _is_free(key: str) -> bool:
    return any(key.startswith(free) if free.endswith(".") else key == free for free in FREE)
