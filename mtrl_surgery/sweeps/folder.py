"""A sweep's folder: the table of its runs, the lock of its driver, and the wish that it stops.

    <out>/.sweeps/<name>/{sweep.json, stop, report.html, ray.log, .lock}

Only the driver writes the table. Anybody may put a file called `stop` beside it, which the driver and every run's task
look for: nothing is sent to processes of other machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.durable import write_text
from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.lock import held_by, take_lock
from mtrl_surgery.runs.reading import read_mapping
from mtrl_surgery.runs.shapes import COUNT, MAPPING, NUMBER, TEXT, Kind, Shape, check
from mtrl_surgery.sweeps.errors import SweepError
from mtrl_surgery.sweeps.measure import Measure
from mtrl_surgery.sweeps.plan import RunPlan

SWEEPS, TABLE, STOP, REPORT, RAY_LOG = ".sweeps", "sweep.json", "stop", "report.html", "ray.log"
FORMAT = 1
STATES = ("pending", "running", "done", "failed", "stopped", "broken")
"""`stopped` was asked to and has its checkpoint; `broken` is told of a run that was running when its driver died."""

_WORDS = Kind(lambda value: type(value) is list and all(type(word) is str for word in value), "a list of texts")
_ENTRIES = Kind(lambda value: type(value) is list and all(type(one) is dict for one in value), "a list of mappings")
_STATE = Kind(lambda value: value in STATES, f"one of {', '.join(STATES)}")
_FLAG = Kind(lambda value: type(value) is bool, "true or false")
_SINCE = Kind(lambda value: value is None or NUMBER.holds(value), "a finite number or null")
_MEASURE: Shape = {"file": TEXT, "key": TEXT, "total": COUNT, "unit": TEXT}
_ENTRY: Shape = {
    "label": TEXT, "folder": TEXT, "command": _WORDS, "measure": MAPPING, "state": _STATE, "attempts": COUNT,
    "before": _FLAG, "where": TEXT, "node": TEXT, "since": _SINCE, "seconds": NUMBER, "note": TEXT,
}  # fmt: skip
_TABLE: Shape = {
    "command": _WORDS, "cwd": TEXT, "entries": _ENTRIES, "driver": TEXT, "started": NUMBER, "work": NUMBER,
    "status": TEXT, "format": COUNT,
}  # fmt: skip


@dataclass
class Entry:
    """A run in the table.

    Attributes:
        label: The words that tell it from the others.
        folder: Its run folder.
        command: The words after the interpreter's name.
        measure: How far it is.
        state: One of `STATES`.
        attempts: Processes that were started for it, by this driver and those before.
        before: It was finished when this driver came.
        where: The machine of the last attempt.
        node: Its id in the cluster.
        since: When the last attempt began, seconds since 1970.
        seconds: That the attempts took which have ended.
        note: Why it failed, or was lost last.
    """

    label: str
    folder: str
    command: list[str]
    measure: dict[str, Any]
    state: str = "pending"
    attempts: int = 0
    before: bool = False
    where: str = ""
    node: str = ""
    since: float | None = None
    seconds: float = 0.0
    note: str = ""

    @property
    def path(self) -> Path:
        """Its run folder."""
        return Path(self.folder)

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1; a run that failed is over."""
        return 1.0 if self.state in ("done", "failed") else Measure(**self.measure).share(self.path)


@dataclass
class Table:
    """All runs of a sweep, and who does them.

    Attributes:
        command: The words of the driver's command line.
        cwd: Where it was started.
        entries: The runs.
        driver: `process N on HOST`.
        started: When this driver came, seconds since 1970.
        work: The runs that were done by then; a part of one counts.
        status: running, finished, stopped or failed.
        format: Of the file.
    """

    command: list[str]
    cwd: str
    entries: list[Entry]
    driver: str
    started: float
    work: float = 0.0
    status: str = "running"
    format: int = field(default=FORMAT)

    def count(self, *states: str) -> int:
        """How many runs are in one of the states."""
        return sum(entry.state in states for entry in self.entries)


class SweepFolder:
    """A sweep on disk."""

    def __init__(self, path: Path) -> None:
        """The folder, which may not be there yet."""
        self.path = path

    @property
    def stop_file(self) -> Path:
        """Where it is, the sweep is asked to stop."""
        return self.path / STOP

    def read(self) -> Table:
        """The table.

        Raises:
            SweepError: there is none, or it is not ours.
        """
        file = self.path / TABLE
        if not os.path.lexists(file):
            raise SweepError(f"{self.path} is no sweep's folder: {TABLE} is missing")
        try:
            content = read_mapping(file)
            if content.get("format") != FORMAT:
                raise SweepError(f"{file} has format {content.get('format')}; this version reads format {FORMAT}")
            check(content, _TABLE, str(file), _TABLE)
            for entry in content["entries"]:
                check(entry, _ENTRY, f"{file}: a run", ("label", "folder", "command", "measure"))
                check(entry["measure"], _MEASURE, f"{file}: a run's measure", _MEASURE)
            entries = [Entry(**entry) for entry in content.pop("entries")]
            return Table(entries=entries, **content)
        except TypeError as error:  # a key that is none of ours
            raise SweepError(f"cannot read {file}: {error}") from error
        except RunError as error:
            raise SweepError(str(error)) from error

    def write(self, table: Table) -> None:
        """Replace the table; a reader sees the old or the new one."""
        write_text(self.path / TABLE, json.dumps(asdict(table), indent=1) + "\n")

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
            lock = _take(self.path)
        except OSError as error:
            raise SweepError(f"{self.path}: cannot keep the sweep's table there: {error.strerror}") from error
        except RunError as error:
            raise SweepError(f"this sweep is being done already: {error}") from error
        try:
            self.stop_file.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)


def place_of(plans: Sequence[RunPlan], folder: str | None) -> SweepFolder:
    """The folder of the sweep of these runs: the same runs have the same one, whatever words name them."""
    if folder is not None:
        return SweepFolder(Path(folder).absolute())
    names = "\n".join(sorted(str(plan.folder) for plan in plans))
    digits = hashlib.sha256(names.encode()).hexdigest()[:8]
    first = plans[0].folder
    return SweepFolder(first.parent / SWEEPS / f"{len(plans)}-runs_{digits}")


def find(path: str | None) -> SweepFolder:
    """A sweep's folder: the one that is named, or the newest of those below.

    Args:
        path: A sweep's folder, or a folder of runs; None: `runs`, and the folders of runs in it.

    Raises:
        SweepError: there is no sweep; says where it looked.
    """
    place = Path("runs" if path is None else path)
    if (place / TABLE).is_file():
        return SweepFolder(place.absolute())
    found = [file for pattern in (f"{SWEEPS}/*/{TABLE}", f"*/{SWEEPS}/*/{TABLE}") for file in place.glob(pattern)]
    if not found:
        raise SweepError(
            f"{place}: no sweep was found in it (looked for {SWEEPS}/*/{TABLE} there and one folder below)"
        )
    return SweepFolder(max(found, key=lambda file: file.stat().st_mtime).parent.absolute())


def _take(path: Path) -> int:
    """The lock, which who only looks whether it is held has for an instant."""
    for _ in range(10):
        try:
            return take_lock(path)
        except RunError:
            time.sleep(0.1)
    return take_lock(path)
