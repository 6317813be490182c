"""Run folders, found and read as they grow. Reading takes no lock and writes nothing."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.tail import Row, Tail

FILES = ("evaluations", "metrics", "health", "conflicts")
_WHOLE = ("config.yaml", "manifest.json")

Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass
class Record:
    """One run folder's content so far.

    Attributes:
        path: The folder.
        config: Its configuration, nested.
        manifest: How it was made and how it stands.
        rows: By file (`FILES`), all rows read so far.
    """

    path: Path
    config: dict[str, Any] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)
    rows: dict[str, list[Row]] = field(repr=False)
    _tails: dict[str, Tail] = field(repr=False)

    @classmethod
    def open(cls, path: Path, files: Sequence[str] = FILES, most_steps: int | None = None) -> Record:
        """Reads a run folder.

        Args:
            path: The folder.
            files: Which of `FILES` to read.
            most_steps: Of metrics, health and conflicts; evaluations are always read whole.

        Raises:
            ReportError: It is no run folder, or holds what is none of ours.
        """
        tails = {name: Tail(path / f"{name}.jsonl", None if name == "evaluations" else most_steps) for name in files}
        record = cls(path, _mapping(path / _WHOLE[0]), {}, {name: [] for name in files}, tails)
        record.refresh()
        return record

    def refresh(self) -> bool:
        """Reads what was appended; whether anything changed."""
        manifest = _mapping(self.path / _WHOLE[1])
        changed = manifest != self.manifest
        self.manifest = manifest
        for name, tail in self._tails.items():
            rows, anew = tail.read()
            if anew:
                self.rows[name] = []
            self.rows[name] += rows
            changed |= anew or bool(rows)
        return changed

    @property
    def kind(self) -> str:
        """`rl`, `supervised`, or `other`."""
        if isinstance(self.config.get("dataset"), Mapping):
            return "supervised"
        return "rl" if isinstance(self.config.get("env"), Mapping) else "other"

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config.get("seed") or 0)

    @property
    def status(self) -> str:
        """`running`, `finished`, `interrupted` or `failed`; a run that was killed still says `running`."""
        return str(self.manifest.get("status"))


def find_runs(patterns: Patterns) -> list[Path]:
    """Run folders, each once and sorted: those named, and those at any depth below a folder that is named.

    Args:
        patterns: Paths, or patterns such as `runs/mt10_*`.

    Raises:
        ReportError: A path or a pattern without any run; says where it looked.
    """
    names = [patterns] if isinstance(patterns, str | os.PathLike) else list(patterns)
    if not names:
        raise ReportError("name run folders, folders of run folders, or a pattern such as 'runs/mt10_*'")
    found: dict[Path, Path] = {}
    for name in (os.fspath(name) for name in names):
        places = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        runs = [run for place in places for run in _below(Path(place))]
        if not runs:
            raise ReportError(_nothing(name, places))
        found |= {run.resolve(): run for run in runs if run.resolve() not in found}
    return sorted(found.values(), key=str)


def open_runs(
    patterns: Patterns, files: Sequence[str] = FILES, most_steps: int | None = None
) -> tuple[list[Record], list[str]]:
    """All runs that are named, and a sentence for each folder that cannot be read.

    Raises:
        ReportError: No run is named, or none of them can be read.
    """
    records: list[Record] = []
    said: list[str] = []
    for path in find_runs(patterns):
        try:
            records.append(Record.open(path, files, most_steps))
        except ReportError as error:
            said.append(f"left out: {error}")
    if not records:
        raise ReportError("; ".join(said))
    return records, said


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        return
    for folder, below, names in os.walk(path):
        if set(_WHOLE) <= set(names):
            below.clear()  # a run holds no runs
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _nothing(name: str, places: Sequence[str]) -> str:
    wanted = f"a run folder holds {' and '.join(_WHOLE)}"
    if not places:
        return f"{name}: there is no such file or folder under {Path.cwd()}; {wanted}"
    looked = ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
    return f"{name}: no run was found; looked in {looked} and below ({wanted})"


def _mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ReportError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path} holds a {type(content).__name__}, not a mapping")
    return content


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it
