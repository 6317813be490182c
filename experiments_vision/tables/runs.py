"""Run folders of supervised runs, read for the tables."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from experiments_vision.errors import VisionError
from experiments_vision.objectives.registry import OBJECTIVES
from mtrl_surgery.reports.records import holds_run
from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.folder import RunFolder, read_rows
from mtrl_surgery.runs.shapes import check_rows

NOT_OPTIONS = (
    "seed",
    "dataset.seed",
    "dataset.name",
    "dataset.data_dir",
    "model",
    "method.name",
    "out",
    "resume",
    "logger",
    "checkpoint",
    "diagnostics",
    "device",
    "threads",
    "workers",
    "log_every",
)
"""Keys (and all below them) in which runs of one group may differ: they change where, when or how often a run computes
and tells something, not what is trained; data set, model and method have places of their own in a table."""

Values = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes:
        path: Where it is.
        dataset: The data set's name.
        model: The network's name.
        method: The method's name.
        seed: Its seed.
        task: Of `method=stl` the index of the only task that was trained, else None.
        options: All other keys of its configuration that decide what is trained, flat.
        finished: Whether the run came to its end.
        found: Split -> epoch -> mode -> metric -> value; NaN where the file has null.
        seconds: An epoch's training in seconds, the median over epochs (processor time, where the run had one thread
            of a CPU); None if no epoch is noted.
    """

    path: Path
    dataset: str
    model: str
    method: str
    seed: int
    task: int | None
    options: dict[str, Any]
    finished: bool
    found: dict[str, dict[int, dict[str, Values]]] = field(repr=False)
    seconds: float | None

    def values(self, split: str, epoch: int, mode: str, names: Sequence[str]) -> Values:
        """The metrics `names` of one evaluation; NaN for one that has no row."""
        row = self.found.get(split, {}).get(epoch, {}).get(mode, {})
        return {name: row.get(name, math.nan) for name in names}


def find_runs(paths: Sequence[str]) -> tuple[list[Run], list[str]]:
    """All runs that the paths name: run folders, or folders of run folders at any depth.

    Returns:
        The runs by path, each once, and what is to be said of folders that were found but hold something else.

    Raises:
        VisionError: A path that is no folder, holds no run, or is a run of something else.
        RunError: A run folder that is named itself and is not whole or cannot be read.
    """
    runs: dict[Path, Run] = {}
    said: list[str] = []
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            raise VisionError(f"{path}: there is no such folder; give run folders, or a folder of run folders")
        folders = list(_run_folders(path))
        if not folders:
            raise VisionError(f"{path}: no run folder is in it (one with config.yaml and manifest.json)")
        for folder in folders:
            if folder.resolve() in runs:
                continue
            try:
                run = read_run(folder)
            except (RunError, VisionError) as error:
                if folder == path:
                    raise
                said.append(f"left out: {error}")
                continue
            if run is not None:
                runs[folder.resolve()] = run
            elif folder == path:
                raise VisionError(f"{folder}: its config.yaml has no dataset; it is no run of experiments_vision")
            else:
                said.append(f"{folder} is no run of experiments_vision and is left out.")
    if not runs:
        why = "".join(f"; {one}" for one in said if one.startswith("left out"))
        raise VisionError(f"{', '.join(paths)}: no run of experiments_vision is in there{why}")
    return sorted(runs.values(), key=lambda run: str(run.path)), said


def read_run(path: Path) -> Run | None:
    """One run folder; None if something else was run there.

    Raises:
        VisionError: A configuration or a row that is not ours.
        RunError: The folder is not whole, or a file cannot be read.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    dataset, method = config.get("dataset"), config.get("method")
    if not isinstance(dataset, Mapping) or not isinstance(method, Mapping):
        return None
    name = dataset.get("name")
    if name not in OBJECTIVES:
        raise VisionError(f"{path / 'config.yaml'}: dataset.name={name} is unknown; choices: {', '.join(OBJECTIVES)}")
    single = str(method["name"]) == "stl"
    flat = dict(_flat(config))
    options = {key: value for key, value in flat.items() if not _is_no_option(key)}
    if single:
        options.pop("method.task", None)
    return Run(
        path=path,
        dataset=str(name),
        model=str(config.get("model")),
        method=str(method["name"]),
        seed=int(config.get("seed") or 0),
        task=int(method.get("task", 0)) if single else None,
        options=options,
        finished=folder.manifest().get("status") == "finished",
        found=_evaluations(path / "evaluations.jsonl"),
        seconds=_seconds(path / "health.jsonl", config),
    )


def _run_folders(path: Path) -> Iterator[Path]:
    closed: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=closed.append):
        if holds_run(names, below):
            below.clear()
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_no_option(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NOT_OPTIONS)


def _evaluations(path: Path) -> dict[str, dict[int, dict[str, Values]]]:
    found: dict[str, dict[int, dict[str, Values]]] = {}
    rows = read_rows(path)
    check_rows(rows, "evaluations", path)
    for number, row in enumerate(rows, 1):
        try:
            split, epoch = row["split"], row["epoch"]
            modes = found.setdefault(split, {}).setdefault(epoch, {})
            for key, value in row.items():
                mode, slash, metric = key.partition("/")
                if slash:
                    modes.setdefault(mode, {})[metric] = math.nan if value is None else float(value)
        except (KeyError, TypeError, ValueError) as error:
            raise VisionError(f"{path}, line {number} is no evaluation of ours: {error!r}") from error
    return found


def _seconds(path: Path, config: Mapping[str, Any]) -> float | None:
    # One thread's processor time is what its clock would say of a machine without other work.
    key = "cpu_seconds" if config.get("device") == "cpu" and config.get("threads") == 1 else "train_seconds"
    # A resumed run may have trained an epoch twice: the later row counts.
    rows = read_rows(path)
    check_rows(rows, "health", path)
    by_epoch = {
        row.get("epoch"): float(row[key])
        for row in rows
        if row.get("event") == "epoch" and isinstance(row.get(key), int | float)
    }
    return median(by_epoch.values()) if by_epoch else None
