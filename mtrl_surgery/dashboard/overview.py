"""The table of runs: how each one stands."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtrl_surgery.dashboard.following import Seen
from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.figures.base import look_of
from mtrl_surgery.reports.labels import method_name
from mtrl_surgery.reports.palette import style
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Yardstick, run_scores
from mtrl_surgery.reports.tail import Row

_SILENT_S = 300.0
"""A run that writes nothing for so long, and for ten times its usual gap, is called silent."""

_FILES = ("config", "manifest", "evaluations", "health")


def run_rows(runs: Sequence[Seen], benchmarks: Sequence[Benchmark]) -> list[Row]:
    """A row a run, as the page's script takes them: plain numbers, None where there is none."""
    place = {
        record: (benchmark, group) for benchmark in benchmarks for group in benchmark.groups for record in group.records
    }
    now = time.time()
    rows = []
    for seen in runs:
        record = seen.record
        benchmark, group = place.get(record, (None, None))
        stick = benchmark.yardstick if benchmark is not None else None
        facts = record.derived(_FILES, ("overview", stick), lambda own=record, by=stick: _facts(own, by))  # type: ignore[misc]
        state = _state(record, facts["rhythm"], now)
        rate = facts["rate"]
        left = facts["todo"] / rate if rate and facts["todo"] is not None and state == "running" else None
        rows.append(
            {
                "run": seen.name,
                "number": seen.number,
                "benchmark": benchmark.name if benchmark is not None else "",
                "method": group.label if group is not None else method_name(record.config),
                **_look(record, group),
                "state": state,
                "left": left,
                **{key: facts[key] for key in ("seed", "progress", "done", "rate", "score", "started")},
            }
        )
    return rows


def _facts(record: Record, stick: Yardstick | None) -> dict[str, Any]:
    """What follows from the rows alone."""
    health = record.rows["health"]
    epochs = record.config.get("epochs") if record.kind == "supervised" else None
    whole = epochs or record.config.get("total_steps")
    key = "epoch" if epochs else "step"
    done = max(
        (row[key] for rows in (health, record.rows["evaluations"]) for row in rows[-60:] if key in row), default=0
    )
    return {
        "seed": record.seed,
        "done": done,
        "progress": min(1.0, done / whole) if whole else None,
        "todo": whole - done if whole else None,
        "rate": _rate(health, bool(epochs)),
        "rhythm": _rhythm(health),
        "score": _score(record, stick),
        "started": record.manifest.get("started"),
    }


def _rate(health: Sequence[Row], by_epoch: bool) -> float | None:
    """Steps a second, or epochs: the last that was logged."""
    for row in reversed(health):
        if by_epoch and row.get("train_seconds"):
            return 1 / float(row["train_seconds"])
        if not by_epoch and row.get("steps_per_s") is not None:
            return float(row["steps_per_s"])
    return None


def _rhythm(health: Sequence[Row]) -> float:
    """The usual seconds between two rows."""
    times = [float(row["time"]) for row in health[-40:] if "time" in row]
    return float(np.median(np.diff(times))) if len(times) > 2 else 0.0


def _score(record: Record, stick: Yardstick | None) -> float | None:
    """The mean over tasks of the last whole evaluation; None where tasks have different units."""
    if stick is None or not stick.common:
        return None
    scores_TK = run_scores(record, stick)[1][0]
    means = scores_TK.mean(1)[np.isfinite(scores_TK).all(1)]
    return float(means[-1]) if len(means) else None


def _state(record: Record, rhythm: float, now: float) -> str:
    """As the manifest says; but a run that was killed still says running, so one that writes nothing is `silent`."""
    if record.status != "running":
        return record.status
    newest = -math.inf
    for file in ("health.jsonl", "metrics.jsonl", "evaluations.jsonl", "manifest.json"):
        try:
            newest = max(newest, (record.path / file).stat().st_mtime)
        except FileNotFoundError:
            continue
    return "silent" if now - newest > max(_SILENT_S, 10 * rhythm) else "running"


def _look(record: Record, group: Group | None) -> dict[str, str]:
    """The colour of the run's group, and whether its lines are drawn through."""
    look = look_of(group) if group is not None else style(method_name(record.config))
    return {"colour": look.colour, "dash": look.dash}
