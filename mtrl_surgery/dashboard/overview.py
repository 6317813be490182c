"""The table of runs: how each one stands."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.dashboard.following import Seen
from mtrl_surgery.reports.benchmarks import Benchmark, Group
from mtrl_surgery.reports.labels import method_name
from mtrl_surgery.reports.palette import style
from mtrl_surgery.reports.records import Record, Row, joined
from mtrl_surgery.reports.statistics import summarise

_LAST = 60
"""Rows of a run that say how it stands."""
_SILENT_S = 300.0
"""A run that writes nothing for so long, and for ten times its usual gap, is called silent."""


def run_rows(runs: Sequence[Seen], benchmarks: Sequence[Benchmark]) -> list[Row]:
    """A row a run, as the page's script takes them: plain numbers, None where there is none."""
    records = [seen.record for seen in runs]
    groups = {record: (own, group) for own in benchmarks for group in own.groups for record in group.records}
    scores = {record: score for own in benchmarks for record, score in _scores(own).items()}
    health, evaluations = joined(records, "health", _LAST), joined(records, "evaluations", _LAST)
    columns = health.reindex(columns=["run", "step", "epoch", "time", "steps_per_s", "train_seconds"])
    last = columns.groupby("run")[["steps_per_s", "train_seconds"]].last()
    done = pd.concat([columns, evaluations.reindex(columns=["run", "step", "epoch"])]).groupby("run")
    most = done[["step", "epoch"]].max()
    recent = columns.dropna(subset="time").groupby("run").tail(40)
    gaps = recent["time"].groupby(recent["run"]).diff().groupby(recent["run"])
    usual = gaps.median()[gaps.count() > 1]
    found = most.join(last, how="outer").join(usual.rename("gap")).reindex(range(len(runs))).itertuples(index=False)
    return [
        _row(seen, groups.get(seen.record), scores.get(seen.record), facts)
        for seen, facts in zip(runs, found, strict=True)
    ]


def _row(seen: Seen, place: tuple[Benchmark, Group] | None, score: float | None, facts: Any) -> Row:
    record = seen.record
    benchmark, group = place or (None, None)
    epochs = record.config.get("epochs") if record.kind == "supervised" else None
    whole = epochs or record.config.get("total_steps")
    done = _known(facts.epoch if epochs else facts.step) or 0
    rate = _known(1 / facts.train_seconds if epochs and facts.train_seconds else facts.steps_per_s)
    state = _state(record, _known(facts.gap) or 0.0)
    drawn = group.style if group is not None else style(method_name(record.config))
    return {
        "run": seen.name,
        "number": seen.number,
        "benchmark": benchmark.name if benchmark is not None else "",
        "method": group.label if group is not None else method_name(record.config),
        "colour": drawn.colour,
        "dash": drawn.dash,
        "state": state,
        "left": (whole - done) / rate if rate and whole and state == "running" else None,
        "seed": record.seed,
        "done": done,
        "progress": min(1.0, done / whole) if whole else None,
        "rate": rate,
        "score": score,
        "started": record.manifest.get("started"),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _scores(benchmark: Benchmark) -> dict[Record, float]:
    """The mean over tasks of the last whole evaluation; nothing where tasks have different units."""
    if not benchmark.scoring.common:
        return {}
    groups = [group for group in benchmark.groups if not group.stratified]  # a run of one task is not whole
    found = {
        record: float(score)
        for group in groups
        for record, score in zip(group.records, summarise(group.scores_TRK, "final").mean(1), strict=True)
    }
    return {record: score for record, score in found.items() if not math.isnan(score)}


def _state(record: Record, gap: float) -> str:
    """As the manifest says; but a run that was killed still says running, so one that writes nothing is `silent`."""
    if record.status != "running":
        return record.status
    newest = -np.inf
    for file in ("health.jsonl", "metrics.jsonl", "evaluations.jsonl", "manifest.json"):
        try:
            newest = max(newest, (record.path / file).stat().st_mtime)
        except FileNotFoundError:
            continue
    return "silent" if time.time() - newest > max(_SILENT_S, 10 * gap) else "running"
