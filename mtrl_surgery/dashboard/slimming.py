"""What a dashboard keeps of each row: hundreds of runs have to lie in memory at once."""

from __future__ import annotations

import numpy as np

from mtrl_surgery.reports.records import Reading
from mtrl_surgery.reports.tail import Row

_METRICS = frozenset(
    f"{network}{key}"
    for network in ("", "critic/", "actor/")
    for key in (
        "weights", "alignment", "gradient_norm", "conflict_rate", "mean_cosine", "magnitude_similarity", "triad_rate",
    )
) | {"step", "task", "temperature"}  # fmt: skip


def _shown_metrics(row: Row) -> Row:
    return {key: value for key, value in row.items() if key in _METRICS}


def _compact_maps(row: Row) -> Row:
    """Pairs of tasks as arrays of 4 bytes a number; null becomes NaN."""
    return {
        key: np.array(value, np.float32) if isinstance(value, list) and key != "tasks" else value
        for key, value in row.items()
    }


READINGS = {
    "evaluations": Reading(None, ("returns", "lengths", "goals")),
    "metrics": Reading(120, slim=_shown_metrics),
    "health": Reading(240),
    "conflicts": Reading(30, slim=_compact_maps),
}
"""Steps are as many as a figure can show, or in the maps' case what their thirds of training need."""
