"""Run folders, found and read as they grow. Reading takes no lock and writes nothing."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.reports.tail import Row, Tail, thinned_rows
from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.shapes import CONFIG, MANIFEST, read_config, read_manifest

FILES = ("evaluations", "metrics", "health", "conflicts")
_WHOLE = (CONFIG, MANIFEST)
_TELLING = frozenset((*_WHOLE, *(f"{name}.jsonl" for name in FILES), "checkpoints"))
"""Two of these names make a folder a run's, whole or not."""

T = TypeVar("T")
Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Reading(NamedTuple):
    """How the rows of a file are read.

    Attributes:
        most_steps: Keep about so many different steps, evenly spread; None: all.
        without: Keys whose lists are not even parsed.
        slim: What is kept of a row; None: all of it.
    """

    most_steps: int | None = None
    without: tuple[str, ...] = ()
    slim: Callable[[Row], Row] | None = None


@dataclass(eq=False)
class Record:
    """One run folder's content so far.

    Attributes:
        path: The folder.
        config: Its configuration, nested.
        manifest: How it was made and how it stands.
        rows: By file (`FILES`), all rows read so far; none of a file that is not followed.
        versions: By file, and of `config` and `manifest`: how often its content changed.
    """

    path: Path
    config: dict[str, Any] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)
    rows: dict[str, list[Row]] = field(repr=False)
    versions: dict[str, int] = field(repr=False)
    _readings: Mapping[str, Reading] = field(repr=False)
    _tails: dict[str, Tail] = field(default_factory=dict, repr=False)
    _config_stamp: tuple[int, int] = field(default=(0, 0), repr=False)
    _derived: dict[Hashable, tuple[tuple[int, ...], Any]] = field(default_factory=dict, repr=False)
    _tasks: tuple[str, ...] | None = field(default=None, repr=False)
    _maps: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        files: Sequence[str] = FILES,
        most_steps: int | None = None,
        readings: Mapping[str, Reading] | None = None,
    ) -> Record:
        """Reads a run folder.

        Args:
            path: The folder.
            files: Which of `FILES` to read.
            most_steps: Of metrics, health and conflicts; evaluations are always read whole.
            readings: By file, in the place of `most_steps`; a file without one is read whole.

        Raises:
            ReportError: It is no run folder, or holds what is none of ours.
        """
        if readings is None:
            readings = {name: Reading(None if name == "evaluations" else most_steps) for name in FILES}
        versions = dict.fromkeys((*FILES, "config", "manifest"), 0)
        record = cls(path, {}, {}, {name: [] for name in FILES}, versions, readings)
        record.follow(files)
        return record

    def follow(self, files: Sequence[str]) -> bool:
        """Reads these files too, from now on; whether anything changed."""
        for name in files:
            if name not in self._tails:
                own = self._readings.get(name, Reading())
                self._tails[name] = Tail(self.path / f"{name}.jsonl", own.most_steps, own.without)
        return self.refresh()

    @property
    def followed(self) -> tuple[str, ...]:
        """The files that are read."""
        return tuple(self._tails)

    @property
    def bytes_read(self) -> int:
        """Of all rows, so far."""
        return sum(tail.bytes_read for tail in self._tails.values())

    def refresh(self) -> bool:
        """Reads what was appended, and the manifest and the configuration anew; whether anything changed.

        Raises:
            ReportError: A file cannot be read, or holds what is none of ours.
        """
        before = sum(self.versions.values())
        manifest = _read(read_manifest, self.path)
        if manifest != self.manifest:
            self.manifest = manifest
            self.versions["manifest"] += 1
        self._refresh_config()
        for name, tail in self._tails.items():
            rows, anew = tail.read()
            own = self._readings.get(name, Reading())
            if name == "conflicts":
                self._check_maps(rows, anew)
            if own.slim is not None:
                rows = [own.slim(row) for row in rows]
            # Whoever reads the rows meanwhile, in another thread, has the old list, or one that grows.
            if anew:
                self.rows[name] = rows
            else:
                self.rows[name] += rows
            if rows and own.most_steps is not None:
                self.rows[name] = thinned_rows(self.rows[name], own.most_steps)
            self.versions[name] += anew or bool(rows)
        return sum(self.versions.values()) != before

    def derived(self, files: Sequence[str], name: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made again only after one of `files` (or `config`, `manifest`) has changed."""
        now = tuple(self.versions[file] for file in files)  # before `make` reads anything
        found = self._derived.get(name)
        if found is None or found[0] != now:
            found = self._derived[name] = now, make()
        return cast(T, found[1])

    def expect(self, tasks: Sequence[str]) -> None:
        """Has conflicts be between these tasks, now and later: runs are laid beside each other pair by pair.

        Raises:
            ReportError: They are between others.
        """
        self._tasks = tuple(tasks)
        self._check_maps(self.rows["conflicts"], anew=True)

    def _check_maps(self, rows: Sequence[Row], anew: bool) -> None:
        if anew:
            self._maps = {}
        for row in rows:
            tasks = tuple(row["tasks"])
            keys = tuple(key for key, value in row.items() if isinstance(value, list | np.ndarray))
            if self._maps.setdefault(row["network"], (tasks, keys)) != (tasks, keys):
                raise ReportError(f"{self.path / 'conflicts.jsonl'} has maps of different tasks or measures")
            if self._tasks is not None and tasks != self._tasks:
                raise ReportError(f"{self.path / 'conflicts.jsonl'} has maps of other tasks than the run's")

    def _refresh_config(self) -> None:
        path = self.path / CONFIG
        try:
            facts = path.stat()
        except OSError as error:
            raise ReportError(f"cannot read {path}: {error}") from error
        stamp = facts.st_mtime_ns, facts.st_size
        if stamp != self._config_stamp:  # a resume may change keys
            self.config, self._config_stamp = _read(read_config, self.path), stamp
            env = self.config.get("env")
            self._tasks = tuple((env and env.get("tasks")) or ()) or None
            self.versions["config"] += 1

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


def holds_run(*names: Iterable[str]) -> bool:
    """Whether a folder with these entries is a run's; one that has lost a file is one too, and can be named."""
    return sum(name in _TELLING for some in names for name in some) > 1


def _below(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):
        return
    closed: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=closed.append):
        if holds_run(names, below):
            below.clear()  # a run holds no runs
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)  # may be runs; who opens them says why they cannot be


def _nothing(name: str, places: Sequence[str]) -> str:
    wanted = f"a run folder holds {' and '.join(_WHOLE)}"
    if not places:
        return f"{name}: there is no such file or folder under {Path.cwd()}; {wanted}"
    looked = ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
    return f"{name}: no run was found; looked in {looked} and below ({wanted})"


def _read(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        return read(path)
    except RunError as error:
        raise ReportError(str(error)) from error
