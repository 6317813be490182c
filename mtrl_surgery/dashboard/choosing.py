"""Which runs a page shows: facts to filter and to group by, and the choices that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtrl_surgery.dashboard.following import Seen
from mtrl_surgery.reports.labels import flat, shown

MISSING = "(none)"
"""The value of a key that a run's configuration lacks."""
OWN = ("status", "folder", "run")
"""Facts that are in no configuration; after the keys, since they are asked for less."""
_NEVER = ("out", "resume")


def facts(seen: Seen) -> dict[str, str]:
    """Every configuration key with its value as the command line takes it, and a run's own facts."""
    folder, _, name = seen.name.rpartition("/")
    keys = {key: shown(value) for key, value in flat(seen.record.config).items() if key not in _NEVER}
    return {**keys, "status": seen.record.status, "folder": folder or ".", "run": name}


def matching(runs: Sequence[Seen], where: Mapping[str, Sequence[str]]) -> list[Seen]:
    """The runs that have one of the values of every key."""
    if not where:
        return list(runs)
    found = [(seen, facts(seen)) for seen in runs]
    return [seen for seen, own in found if all(own.get(key, MISSING) in values for key, values in where.items())]


def choices(runs: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """The keys in which runs differ, and how many runs have each value; the method and the seed first."""
    counts: dict[str, dict[str, int]] = {}
    for seen in runs:
        for key, value in facts(seen).items():
            own = counts.setdefault(key, {})
            own[value] = own.get(value, 0) + 1
    for own in counts.values():
        if (lacking := len(runs) - sum(own.values())) > 0:
            own[MISSING] = lacking
    differing = {key: own for key, own in counts.items() if len(own) > 1}
    first = [key for key in ("method.name", "actor_method.name", "critic_method.name", "seed") if key in differing]
    order = [*first, *(key for key in differing if key not in first and key not in OWN)]
    return {key: dict(sorted(differing[key].items(), key=_by_value)) for key in [*order, *OWN] if key in differing}


def label(seen: Seen, keys: Sequence[str]) -> str:
    """A run's group by the values of some keys."""
    own = facts(seen)
    said = [(key, own.get(key, MISSING)) for key in keys]
    return ", ".join(value if key == "method.name" else f"{key}={value}" for key, value in said)


def _by_value(item: tuple[str, int]) -> tuple[bool, float, str]:
    """Numbers by their value, and before words."""
    try:
        return False, float(item[0]), ""
    except ValueError:
        return True, 0.0, item[0]
