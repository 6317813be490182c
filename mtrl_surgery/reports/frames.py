"""`load_runs`: runs as pandas frames, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mtrl_surgery.reports.labels import flat, method_name
from mtrl_surgery.reports.records import FILES, Patterns, Record, ReportError, Row, joined, open_runs


@dataclass(frozen=True, repr=False)
class RunFrames:
    """What run folders hold. Every frame has a column `run`, the folder's path, to join them by.

    Attributes:
        runs: One row a run: method, seed, status, and every configuration key as a column such as `agent.tau`.
        evaluations: Of reinforcement learning, one row a task and evaluation: counts, never only rates.
        measurements: Of supervised runs, one row a metric and evaluation: split, average, metric, value.
        metrics: Training metrics; `task` is null in the rows of the whole run.
        health: What depends on the clock or the machine.
        conflicts: Maps of the task gradients, one row a pair of tasks.
        said: A sentence for each folder that could not be read.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    metrics: pd.DataFrame
    health: pd.DataFrame
    conflicts: pd.DataFrame
    said: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """A line a frame: what printing all of them would hide in thousands of rows."""
        frames = {name: value for name, value in vars(self).items() if name != "said"}
        lines = [f"  .{name:<13}{len(frame):>9,} rows  {frame.shape[1]:>4} columns" for name, frame in frames.items()]
        left_out = [f"  left out: {sentence}" for sentence in self.said]
        return "\n".join([f"{len(self.runs)} runs, as pandas frames:", *lines, *left_out])


def load_runs(patterns: Patterns, files: Sequence[str] = FILES) -> RunFrames:
    """Reads run folders of reinforcement learning and of supervised benchmarks.

        frames = mtrl_surgery.load_runs("runs/mt10_*")
        frames.evaluations.merge(frames.runs[["run", "method"]]).groupby("method").successes_any.sum()

    Args:
        patterns: Run folders, folders of run folders at any depth, or patterns.
        files: Which of `FILES` to read; the others' frames are empty.

    Raises:
        ReportError: There is no run, or a file is asked for that runs do not have.
    """
    unknown = [name for name in files if name not in FILES]
    if unknown:
        raise ReportError(f"files={unknown[0]}: choices: {', '.join(FILES)}")
    records, said = open_runs(patterns, files)
    supervised = [record for record in records if record.kind == "supervised"]
    return RunFrames(
        runs=pd.DataFrame([_facts(record) for record in records]),
        evaluations=_named([record for record in records if record.kind != "supervised"], "evaluations"),
        measurements=_named(supervised, "evaluations"),
        metrics=_named(records, "metrics"),
        health=_named(records, "health"),
        conflicts=_pairs(_named(records, "conflicts")),
        said=tuple(said),
    )


def _facts(record: Record) -> Row:
    manifest = record.manifest
    facts = {key: manifest.get(key) for key in ("id", "status", "error", "started", "finished", "host")}
    return {
        "run": str(record.path),
        "kind": record.kind,
        "method": method_name(record.config),
        "seed": record.seed,
        **facts,
        "resumes": len(manifest.get("resumed") or ()),
        **{key: value for key, value in flat(record.config).items() if key not in ("seed", "method")},
    }


def _named(records: Sequence[Record], name: str) -> pd.DataFrame:
    """One file's rows of all runs, each with its run's path."""
    whole = joined(records, name)
    paths = pd.Index([str(record.path) for record in records])
    return whole.assign(run=pd.Categorical.from_codes(whole["run"].to_numpy(), categories=paths))


def _pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Maps with one row a pair of tasks."""
    if "tasks" not in frame:
        return frame
    pairs = [list(combinations(tasks, 2)) for tasks in frame["tasks"]]
    long: dict[Any, list[Any]] = {
        name: [[pair[end] for pair in own] for own in pairs] for end, name in enumerate(("task", "other"))
    }
    measures = [key for key in frame if any(isinstance(value, np.ndarray) for value in frame[key])]
    for key in measures:
        values = zip(frame[key], pairs, strict=True)
        long[key] = [own if isinstance(own, np.ndarray) else [np.nan] * len(of) for own, of in values]
    whole = pd.concat([frame.drop(columns=["tasks", *measures]), pd.DataFrame(long, index=frame.index)], axis=1)
    return whole.explode(list(long), ignore_index=True).dropna(subset=["task"]).infer_objects()
