"""The content of a run folder's files, key by key, as far as a reader relies on it; checked when they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtrl_surgery.runs.manifest import ENDINGS
from mtrl_surgery.runs.reading import RunError, read_mapping

CONFIG, MANIFEST = "config.yaml", "manifest.json"
_EXACT = 2**53
"""Up to here every reader of JSON has the same integer."""


class Kind(NamedTuple):
    """The values that a key may have: a test, and the same in words, for the message."""

    holds: Callable[[Any], bool]
    said: str


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


COUNT = Kind(lambda value: type(value) is int and 0 <= value < _EXACT, "a whole number from 0 on")
NUMBER = Kind(_number, "a finite number")
GAP = Kind(lambda value: value is None or type(value) is bool or _number(value), "a finite number or null")
TEXT = Kind(lambda value: type(value) is str, "a text")
MAPPING = Kind(lambda value: type(value) is dict, "a mapping")
MAPPINGS = Kind(lambda value: type(value) is list and all(type(one) is dict for one in value), "a list of mappings")
NAMES = Kind(
    lambda value: type(value) is list and all(type(name) is str for name in value) and len(set(value)) == len(value),
    "a list of different names",
)
Shape = Mapping[str, Kind]


def _or_null(kind: Kind) -> Kind:
    return Kind(lambda value: value is None or kind.holds(value), f"{kind.said} or null")


_STATUSES = ("running", *ENDINGS)
_MANIFEST: Shape = {
    "run": TEXT,
    "id": TEXT,
    "status": Kind(lambda value: value in _STATUSES, f"one of {', '.join(_STATUSES)}"),
    "error": _or_null(TEXT),
    "started": TEXT,
    "finished": _or_null(TEXT),
    "resumed": MAPPINGS,
}
_METHOD: Shape = {"name": TEXT, "task": COUNT}
_GROUPS: Mapping[str, Shape] = {
    "env": {
        "kind": TEXT, "name": TEXT, "tasks": _or_null(NAMES), "horizon": COUNT, "num_goals": COUNT, "copies": COUNT,
        "reward_version": TEXT,
    },
    "dataset": {"name": TEXT},
    "evaluation": {"final_episodes": COUNT},
    "method": _METHOD,
    "actor_method": _METHOD,
    "critic_method": _METHOD,
}  # fmt: skip
_CONFIG: Shape = {
    "seed": _or_null(COUNT),
    "total_steps": COUNT,
    "epochs": COUNT,
    "model": _or_null(TEXT),
    **dict.fromkeys(_GROUPS, _or_null(MAPPING)),
}

_ANY_ROW: Shape = {"step": COUNT, "epoch": COUNT, "task": _or_null(TEXT)}
_ROWS: Mapping[str, Shape] = {
    "metrics": _ANY_ROW,
    "evaluations": {
        **_ANY_ROW, "task": TEXT, "split": TEXT, "episodes": COUNT, "successes_any": COUNT, "successes_last": COUNT,
    },
    "health": {
        "step": COUNT, "epoch": COUNT, "time": NUMBER, "wall_s": NUMBER, "event": TEXT,
        **dict.fromkeys(
            ("steps_per_s", "updates_per_s", "lag_updates", "workers", "restarts", "train_seconds", "cpu_seconds"), GAP
        ),
    },
    "conflicts": {"step": COUNT, "network": TEXT, "tasks": NAMES},
}  # fmt: skip
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "metrics": ("step", "task"),
    "evaluations": ("step", "task"),
    "health": (),
    "conflicts": ("step", "network", "tasks"),
}


def check(content: Mapping[str, Any], shape: Shape, where: str, needed: Iterable[str] = ()) -> None:
    """Check the values of a mapping by key; keys that nobody relies on may be anything.

    Raises:
        RunError: Names the place, the key and its value, and what it should be.
    """
    for key in needed:
        if key not in content:
            raise RunError(f"{where} has no {key!r}")
    for key, kind in shape.items():
        if key in content and not kind.holds(content[key]):
            value, hint = content[key], ""
            if isinstance(value, str) and "number" in kind.said and re.fullmatch(r"[-+]?[\d.]+[eE]\d+", value):
                hint = " (YAML takes it for a text; write all digits)"
            raise RunError(f"{where}: {key}={_shown(value)} is not {kind.said}{hint}")


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a run folder.

    Raises:
        RunError: See `read_mapping`; or a value that is none a run was ever made with.
    """
    file = path / CONFIG
    config = read_mapping(file)
    check(config, _CONFIG, str(file))
    for group, shape in _GROUPS.items():
        if config.get(group) is not None:
            needed = ("name",) if shape is _METHOD or group == "dataset" else ()
            check(config[group], shape, f"{file}: {group}", needed)
    return config


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a run folder.

    Raises:
        RunError: See `read_mapping`; or a key that is missing or is not what it should be.
    """
    manifest = read_mapping(path / MANIFEST)
    check(manifest, _MANIFEST, str(path / MANIFEST), _MANIFEST)
    return manifest


def check_rows(rows: Sequence[Mapping[str, Any]], name: str, path: Path, first: int = 1) -> None:
    """Check that rows are of the file that they stand in, `<name>.jsonl`; any may stand in a file that is none of ours.

    Raises:
        RunError: Names the path, the line (counted from `first`), the key and its value.
    """
    needed = _NEEDED.get(name, ())
    for key, kind in _ROWS.get(name, {}).items():
        values = [row[key] for row in rows if key in row]
        if (key in needed and len(values) < len(rows)) or not _all_hold(kind, values):
            for number, row in enumerate(rows, first):
                check(row, {key: kind}, f"{path}, line {number}", (key,) if key in needed else ())
    further = {"evaluations": _check_evaluation, "conflicts": _check_maps}.get(name)
    if further is not None:
        for number, row in enumerate(rows, first):
            further(row, f"{path}, line {number}")


def _all_hold(kind: Kind, values: Sequence[Any]) -> bool:
    """Ask about one of equal values: a column of a long file has few that differ."""
    try:
        return all(kind.holds(value) for _, value in set(zip(map(type, values), values, strict=True)))
    except TypeError:  # lists
        return all(map(kind.holds, values))


def _check_evaluation(row: Mapping[str, Any], where: str) -> None:
    if "episodes" in row:
        if "successes_any" not in row or "successes_last" not in row:
            raise RunError(f"{where} has no successes_any or no successes_last")
        if not row["successes_any"] <= row["episodes"] >= row["successes_last"]:
            raise RunError(f"{where} has more successes than its {row['episodes']} episodes")
    else:
        check(row, {key: GAP for key in row if "/" in key}, where)


def _check_maps(row: Mapping[str, Any], where: str) -> None:
    pairs = len(row["tasks"]) * (len(row["tasks"]) - 1) // 2
    for key, values in row.items():
        if key != "tasks" and type(values) is list:
            if len(values) != pairs:
                raise RunError(f"{where}: {key} has {len(values)} values, but its tasks are {pairs} pairs")
            if not {int, float, type(None)}.issuperset(map(type, values)):
                raise RunError(f"{where}: {key} holds what is no number")


def _shown(value: Any) -> str:
    """A value for a message, cut short."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
