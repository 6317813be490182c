"""Run folders, found and read as they grow, as pandas frames. Reading takes no lock and writes nothing."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mtrl_surgery.runs.reading import RunError, next_rows, open_rows, parse_rows
from mtrl_surgery.runs.shapes import CONFIG, MANIFEST, check_rows, read_config, read_manifest

FILES = ("evaluations", "metrics", "health", "conflicts")
_TELLING = frozenset((CONFIG, MANIFEST, *(f"{name}.jsonl" for name in FILES), "checkpoints"))
"""Two of these names make a folder a run's, whole or not."""
_MARK = 64
"""Bytes before the place that was read up to, kept to notice that a file was cut back and has grown again."""

Row = dict[str, Any]
Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class ReportError(ValueError):
    """No run where one was said to be, or a key, value or file that makes no sense; the message names it."""


class Reading(NamedTuple):
    """How the rows of a file are read.

    Attributes:
        most_steps: Keep about so many different steps, evenly spread and the last among them; None: all. For figures
            that could not show more anyway.
        without: Keys after a row's first whose lists of numbers are left out before they are parsed, which is most of
            the work on an evaluation's rows.
    """

    most_steps: int | None = None
    without: tuple[str, ...] = ()


WHOLE = Reading()


class Tail:
    """Follows a growing file of JSON rows: each look parses only what was appended since the last.

    A last line without its newline is left for later. A file that a resume cut back is read from the start again.
    """

    def __init__(self, path: Path, reading: Reading = WHOLE) -> None:
        """Reads nothing yet; the file need not be there."""
        self.path, self.reading = path, reading
        names = "|".join(map(re.escape, reading.without))
        # A quote inside of a string has a backslash before it, so this is a key and nothing else.
        self._lists = re.compile(rf',"(?:{names})":\[[^][{{}}"]*\]'.encode()) if names else None
        self._position, self._line, self._mark = 0, 0, b""

    def read(self) -> tuple[list[Row], bool]:
        """The rows since the last call, and whether they replace all that were read before.

        Raises:
            ReportError: A whole line that is no row of such a file (it and the file are named), or a file that can't be
                read. The next call begins where this one did.
        """
        rows: list[Row] = []
        try:
            with open_rows(self.path) as file:
                file.seek(self._position - len(self._mark))
                changed = file.read(len(self._mark)) != self._mark
                position, line, mark = (0, 0, b"") if changed else (self._position, self._line, self._mark)
                file.seek(position)
                while data := next_rows(file, self.path):
                    rows += self._parse(data, line + 1)
                    position, line = position + len(data), line + data.count(b"\n")
                    mark = (mark + data[-_MARK:])[-_MARK:]
        except FileNotFoundError:
            changed, self._position, self._line, self._mark = self._position > 0, 0, 0, b""
            return [], changed
        except OSError as error:
            raise ReportError(f"cannot read {self.path}: {error.strerror}") from error
        except RunError as error:
            raise ReportError(str(error)) from error
        self._position, self._line, self._mark = position, line, mark
        return rows, changed

    def _parse(self, data: bytes, first: int) -> list[Row]:
        kept = data
        if self.reading.most_steps is not None:
            kept = b"\n".join([*thinned(data[:-1].split(b"\n"), self.reading.most_steps), b""])
        if self._lists is not None:
            kept = self._lists.sub(b"", kept)
        try:
            return self._checked(kept, first)
        except RunError:
            return self._checked(data, first)  # complains with the number of the line

    def _checked(self, data: bytes, first: int) -> list[Row]:
        rows = parse_rows(data, self.path, first)
        check_rows(rows, self.path.stem, self.path, first)
        return rows


@dataclass(eq=False)
class Record:
    """One run folder's content so far.

    Attributes:
        path: The folder.
        readings: By file, how its rows are read; a file without one is read whole.
        config: Its configuration, nested.
        manifest: How it was made and how it stands.
        frames: By file (`FILES`), all rows read so far, with a column a key; empty of a file that is not followed.
            Evaluations of supervised runs are long: `average`, `metric` and `value` are columns.
        versions: By file, and of `config` and `manifest`: how often its content changed.
    """

    path: Path
    readings: Mapping[str, Reading] = field(default_factory=dict, repr=False)
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)
    frames: dict[str, pd.DataFrame] = field(default_factory=lambda: {n: pd.DataFrame() for n in FILES}, repr=False)
    versions: Counter[str] = field(default_factory=Counter, repr=False)
    _tails: dict[str, Tail] = field(default_factory=dict, repr=False)
    _tasks: tuple[str, ...] | None = field(default=None, repr=False)
    _maps: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: Path, files: Sequence[str] = FILES, readings: Mapping[str, Reading] | None = None) -> Record:
        """Reads a run folder.

        Raises:
            ReportError: It is no run folder, or holds what is none of ours.
        """
        record = cls(path, readings or {})
        record.follow(files)
        return record

    def follow(self, files: Sequence[str]) -> bool:
        """Reads these files too, from now on; whether anything changed."""
        for name in files:
            if name not in self._tails:
                self._tails[name] = Tail(self.path / f"{name}.jsonl", self.readings.get(name, WHOLE))
        return self.refresh()

    @property
    def followed(self) -> tuple[str, ...]:
        """The files that are read."""
        return tuple(self._tails)

    def refresh(self) -> bool:
        """Reads what was appended, and the manifest and the configuration anew; whether anything changed.

        Raises:
            ReportError: A file cannot be read, or holds what is none of ours.
        """
        before = self.versions.total()
        try:
            config, manifest = read_config(self.path), read_manifest(self.path)
        except RunError as error:
            raise ReportError(str(error)) from error
        if config != self.config:  # a resume may change keys
            self.config = config
            self._tasks = tuple((config.get("env") or {}).get("tasks") or ()) or None
            self.versions["config"] += 1
        if manifest != self.manifest:
            self.manifest = manifest
            self.versions["manifest"] += 1
        for name, tail in self._tails.items():
            rows, anew = tail.read()
            if not rows and not anew:
                continue
            if name == "conflicts":
                self._check_maps(rows, anew)
            # Another thread may use the old frame meanwhile: nobody changes it.
            new = _frame(rows)
            new = new if anew or self.frames[name].empty else pd.concat([self.frames[name], new], ignore_index=True)
            most = tail.reading.most_steps
            self.frames[name] = new if most is None else thinned_frame(new, most)
            self.versions[name] += 1
        return self.versions.total() != before

    def expect(self, tasks: Sequence[str]) -> None:
        """Has conflicts be between these tasks, now and later: runs are laid beside each other pair by pair.

        Raises:
            ReportError: They are between others.
        """
        self._tasks = tuple(tasks)
        self._check_maps([], anew=False)

    def _check_maps(self, rows: Sequence[Row], anew: bool) -> None:
        if anew:
            self._maps = {}
        for row in rows:
            own = tuple(row["tasks"]), tuple(key for key, value in row.items() if isinstance(value, list))
            if self._maps.setdefault(row["network"], own) != own:
                raise ReportError(f"{self.path / 'conflicts.jsonl'} has maps of different tasks or measures")
        if self._tasks is not None and any(tasks != self._tasks for tasks, _ in self._maps.values()):
            raise ReportError(f"{self.path / 'conflicts.jsonl'} has maps of other tasks than the run's")

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
        runs = [run for place in places for run in runs_below(Path(place))]
        if not runs:
            raise ReportError(_nothing(name, places))
        found |= {run.resolve(): run for run in runs if run.resolve() not in found}
    return sorted(found.values(), key=str)


def open_runs(
    patterns: Patterns, files: Sequence[str] = FILES, readings: Mapping[str, Reading] | None = None
) -> tuple[list[Record], list[str]]:
    """All runs that are named, and a sentence for each folder that cannot be read.

    Raises:
        ReportError: No run is named, or none of them can be read.
    """
    records: list[Record] = []
    said: list[str] = []
    for path in find_runs(patterns):
        try:
            records.append(Record.open(path, files, readings))
        except ReportError as error:
            said.append(f"left out: {error}")
    if not records:
        raise ReportError("; ".join(said))
    return records, said


def runs_below(path: Path, links: list[Path] | None = None) -> Iterator[Path]:
    """Run folders at any depth below a folder, or itself; and folders that cannot be looked into, which may be runs.

    Args:
        path: The folder.
        links: Takes the links to folders on the way, which are not followed.
    """
    closed: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=closed.append) if os.path.isdir(path) else ():
        if sum(name in _TELLING for name in (*names, *below)) > 1:
            below.clear()  # a run holds no runs
            yield Path(folder)
        if links is not None:
            links += [Path(folder, name) for name in below if os.path.islink(Path(folder, name))]
        below[:] = sorted(name for name in below if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)  # opening them says why they cannot be read


def joined(records: Sequence[Record], file: str, last: int | None = None) -> pd.DataFrame:
    """One file's rows of all runs, with a column `run`, each run's place; columns in the order of their first run.

    Args:
        records: The runs.
        file: One of `FILES`.
        last: So many rows of each run; None: all.
    """
    frames = {place: record.frames[file][-(last or 0) :] for place, record in enumerate(records)}
    there = {place: frame for place, frame in frames.items() if not frame.empty}
    if not there:
        return pd.DataFrame({"run": np.zeros(0, np.int64)})
    whole = pd.concat(there.values(), ignore_index=True)
    whole.insert(0, "run", np.repeat(list(there), [len(frame) for frame in there.values()]))
    return whole


def thinned(lines: Sequence[bytes], most: int) -> list[bytes]:
    """Lines of about `most` of the steps, whole steps each, the last among them; lines without a step stay."""
    # Our rows begin with it: finding it costs a tenth of parsing the row.
    steps = [line[8 : line.find(b",")] if line.startswith(b'{"step":') else None for line in lines]
    different = list(dict.fromkeys(step for step in steps if step is not None))
    if len(different) <= most:
        return list(lines)
    # Backwards from the last by an even stride.
    kept = set(different[::-1][:: -(-len(different) // most)])
    return [line for line, step in zip(lines, steps, strict=True) if step is None or step in kept]


def thinned_frame(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """The same of rows that were read in many looks, once they have twice as many steps; until then all of them.

    The steps that stay are spread evenly over training, since a first look was thinned and later ones were not.
    """
    different = np.unique(frame["step"].dropna()) if "step" in frame else np.zeros(0)
    if len(different) <= 2 * most:
        return frame
    width = (different[-1] - different[0]) / most
    kept = {int((different[-1] - step) / width): step for step in different}
    return frame[frame["step"].isna() | frame["step"].isin(list(kept.values()))].reset_index(drop=True)


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    made: list[Row] = []
    for row in rows:
        if "tasks" in row:  # pairs of tasks: as arrays, null becomes NaN
            row = {k: np.array(v, np.float64) if isinstance(v, list) and k != "tasks" else v for k, v in row.items()}
        averages = [key for key in row if "/" in key] if "split" in row else ()
        head = {key: row.get(key) for key in ("step", "epoch", "split", "task", "examples")} if averages else row
        for key in averages:
            average, _, metric = key.partition("/")
            made.append({**head, "average": average, "metric": metric, "value": row[key]})
        if not averages:
            made.append(row)
    return pd.DataFrame(made)


def _nothing(name: str, places: Sequence[str]) -> str:
    wanted = f"a run folder holds {CONFIG} and {MANIFEST}"
    if not places:
        return f"{name}: there is no such file or folder under {Path.cwd()}; {wanted}"
    looked = ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
    return f"{name}: no run was found; looked in {looked} and below ({wanted})"
