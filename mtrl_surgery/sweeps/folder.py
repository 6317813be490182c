"""A sweep's folder: which runs it has, the lock of its driver, and the wish that it stops.

    <out>/.sweeps/<name>/{sweep.json, stop, report.html, ray.log, .lock}

How the runs stand is read from their own folders (`standing`). Anybody may put a file called `stop` here, which the
driver and every run's task look for: nothing is sent to processes of other machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.durable import held_by, take_lock, write_text
from mtrl_surgery.runs.reading import RunError, open_rows, parse_rows, read_mapping
from mtrl_surgery.runs.shapes import COUNT, MAPPING, MAPPINGS, NUMBER, TEXT, Kind, Shape, check
from mtrl_surgery.sweeps import SweepError

SWEEPS, RECORD, STOP, REPORT, RAY_LOG = ".sweeps", "sweep.json", "stop", "report.html", "ray.log"
FORMAT = 2

_WORDS = Kind(lambda value: type(value) is list and all(type(word) is str for word in value), "a list of texts")
_MEASURE: Shape = {"file": TEXT, "key": TEXT, "total": COUNT, "unit": TEXT}
_RUN: Shape = {"label": TEXT, "folder": TEXT, "measure": MAPPING}
_SWEEP: Shape = {"command": _WORDS, "cwd": TEXT, "started": NUMBER, "work": NUMBER, "runs": MAPPINGS}


_BLOCK = 1 << 16  # bytes at a file's end; a row of fifty tasks has a few thousand


@dataclass(frozen=True)
class Measure:
    """What a run counts: a key of the rows in its `metrics` or `evaluations`, which is `total` in the end."""

    file: str
    key: str
    total: int
    unit: str

    def done(self, folder: Path) -> int:
        """How much of it the run has done; 0 where nothing tells."""
        path = folder / f"{self.file}.jsonl"
        try:
            with open_rows(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _BLOCK))
                lines = file.read().split(b"\n")[:-1]
        except (OSError, RunError):
            return 0  # the run has not come to its first row, or cannot say how far it came
        for line in reversed(lines):
            with suppress(RunError):  # torn off by the start of the block, or no row
                value: Any = parse_rows(line + b"\n", path)[0].get(self.key)
                if COUNT.holds(value):
                    return min(int(value), self.total)
        return 0

    def share(self, folder: Path) -> float:
        """The same as a part of the whole, 0 to 1."""
        return self.done(folder) / max(1, self.total)

    def progress(self, folder: Path) -> str:
        """The same for a reader: `1,000/4,000 steps`."""
        return f"{self.done(folder):,}/{self.total:,} {self.unit}"


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: the words that tell it from the others, its folder, and what it counts."""

    label: str
    folder: Path
    measure: Measure


@dataclass(frozen=True)
class Sweep:
    """What a driver writes down when it comes, and nobody changes."""

    command: list[str]  # the words of its command line
    cwd: str
    started: float  # seconds since 1970
    work: float  # the runs that were done by then; a part of one counts
    runs: list[SweepRun]


class SweepFolder:
    """A sweep on disk."""

    def __init__(self, path: Path) -> None:
        """The folder, which may not be there yet."""
        self.path = path

    @property
    def stop_file(self) -> Path:
        """Where it is, the sweep is asked to stop."""
        return self.path / STOP

    def read(self) -> Sweep:
        """What its last driver wrote down.

        Raises:
            SweepError: there is nothing, or it is not ours.
        """
        file = self.path / RECORD
        if not os.path.lexists(file):
            raise SweepError(f"{self.path} is no sweep's folder: {RECORD} is missing")
        try:
            content = read_mapping(file)
            if content.pop("format", None) != FORMAT:
                raise SweepError(f"{file} is of another version; this one reads format {FORMAT}")
            check(content, _SWEEP, str(file), _SWEEP)
            for run in content["runs"]:
                check(run, _RUN, f"{file}: a run", _RUN)
                check(run["measure"], _MEASURE, f"{file}: a run's measure", _MEASURE)
            runs = [
                SweepRun(run["label"], Path(run["folder"]), Measure(**run["measure"])) for run in content.pop("runs")
            ]
            return Sweep(runs=runs, **content)
        except TypeError as error:  # a key that is none of ours
            raise SweepError(f"cannot read {file}: {error}") from error
        except RunError as error:
            raise SweepError(str(error)) from error

    def write(self, sweep: Sweep) -> None:
        """Write down what the sweep is."""
        content = {"format": FORMAT, **asdict(sweep)}
        write_text(self.path / RECORD, json.dumps(content, indent=1, default=str) + "\n")  # paths are texts

    def driver(self) -> str | None:
        """The process that drives the sweep; None where none does."""
        return held_by(self.path)

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Hold the sweep's lock; an old wish to stop is forgotten.

        Raises:
            SweepError: another process drives it, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for _ in range(10):  # who only looks whether the lock is held has it for an instant
                with suppress(RunError):
                    lock = take_lock(self.path)
                    break
                time.sleep(0.1)
            else:
                lock = take_lock(self.path)
        except OSError as error:
            raise SweepError(f"{self.path}: cannot keep the sweep's files there: {error.strerror}") from error
        except RunError as error:
            raise SweepError(f"this sweep is being done already: {error}") from error
        try:
            self.stop_file.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)


def place_of(runs: Sequence[Path], folder: str | None) -> SweepFolder:
    """The folder of the sweep of these runs: the same runs have the same one, whatever words name them."""
    if folder is not None:
        return SweepFolder(Path(folder).absolute())
    names = "\n".join(sorted(map(str, runs)))
    digits = hashlib.sha256(names.encode()).hexdigest()[:8]
    return SweepFolder(runs[0].parent / SWEEPS / f"{len(runs)}-runs_{digits}")


def find(path: str | None) -> SweepFolder:
    """A sweep's folder: the one that is named, or the newest of those below a folder of runs (None: `runs`).

    Raises:
        SweepError: there is no sweep; says where it looked.
    """
    place = Path("runs" if path is None else path)
    if (place / RECORD).is_file():
        return SweepFolder(place.absolute())
    found = [file for pattern in (f"{SWEEPS}/*/{RECORD}", f"*/{SWEEPS}/*/{RECORD}") for file in place.glob(pattern)]
    if not found:
        raise SweepError(
            f"{place}: no sweep was found in it (looked for {SWEEPS}/*/{RECORD} there and one folder below)"
        )
    return SweepFolder(max(found, key=lambda file: file.stat().st_mtime).parent.absolute())
