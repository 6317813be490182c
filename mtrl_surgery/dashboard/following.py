"""Follows all runs below the roots, in a thread: finds new ones, reads what is appended, forgets deleted ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from mtrl_surgery.dashboard.roots import READ, Roots
from mtrl_surgery.dashboard.slimming import READINGS
from mtrl_surgery.reports.benchmarks import Judge
from mtrl_surgery.reports.records import Record
from mtrl_surgery.reports.scores import Yardstick

_FIRST = ("evaluations", "health")
"""Files that every view needs; the others are read when a view asks for them."""
_IDLE_S = 60.0
"""After so long without a page that asks, nothing is read."""

Stamp = tuple[tuple[int, int], ...]

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Seen:
    """A run that is followed.

    Attributes:
        record: Its content.
        name: Its path below the root.
        number: Its own, never given twice.
    """

    record: Record
    name: str
    number: int
    stamp: tuple[int, int] = field(default=(0, 0), repr=False)


class Follower:
    """All runs below the roots, as they were at the last look.

    The rows of a record are only ever appended to or replaced whole, so requests read them while the thread goes on.

    Attributes:
        version: Grows with every change.
        shape: Grows where runs come, go, or change their configuration or status.
        looked: Whether everything has been looked at once.
        broken: What ended the thread, or nothing.
    """

    def __init__(self, roots: Roots, judge: Judge, every: float = 5.0) -> None:
        """Reads nothing yet.

        Args:
            roots: Where runs are looked for.
            judge: Of supervised runs; asked once a data set.
            every: Seconds between looks.
        """
        self.roots, self.every = roots, every
        self.version = self.shape = 0
        self.looked, self.broken = False, ""
        self._judge, self._sticks = judge, dict[str, Yardstick]()
        self._runs: dict[Path, Seen] = {}
        self._left_out: dict[Path, tuple[str, Stamp]] = {}
        self._outside: list[str] = []
        self._wanted: tuple[str, ...] = _FIRST
        self._paths: frozenset[Path] = frozenset()
        self._numbers = count()
        self._busy, self._asked_at = 0, time.monotonic()
        self._guard, self._wake, self._stopped = threading.Lock(), threading.Event(), threading.Event()

    def start(self) -> None:
        """Follows from now on, in a thread that ends with the process."""
        threading.Thread(target=self._follow, name="follower", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread after its look."""
        self._stopped.set()
        self._wake.set()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While a request is answered: the thread makes way, and knows that somebody watches."""
        with self._guard:
            self._busy += 1
            idle = time.monotonic() - self._asked_at > _IDLE_S
            self._asked_at = time.monotonic()
        if idle:
            self._wake.set()
        try:
            yield
        finally:
            with self._guard:
                self._busy -= 1

    def want(self, files: tuple[str, ...]) -> None:
        """Has these files followed too."""
        new = tuple(name for name in files if name not in self._wanted)
        if new:
            self._wanted += new
            self._wake.set()

    def runs(self) -> list[Seen]:
        """Those read so far, by name."""
        return sorted(list(self._runs.values()), key=lambda seen: seen.name)

    def progress(self) -> tuple[int, int]:
        """How many runs have been read with all files that are wanted, and how many there are."""
        wanted, found = set(self._wanted), len(self._paths - self._left_out.keys())
        return sum(wanted <= set(seen.record.followed) for seen in list(self._runs.values())), found

    def remarks(self) -> list[str]:
        """What a reader should know: links that lead outside, runs that cannot be read."""
        said = [f"left out: {fault}" for fault, _ in list(self._left_out.values())]
        said += [f"{link} leads outside of {self.roots}: it is not followed" for link in self._outside]
        return [f"the runs are no longer followed: {self.broken}", *said] if self.broken else said

    def judge(self, record: Record) -> Yardstick:
        """The yardstick of a supervised run."""
        name = str(record.config["dataset"].get("name"))
        if name not in self._sticks:
            self._sticks[name] = self._judge(record)
        return self._sticks[name]

    def look(self) -> None:
        """One look at everything."""
        found, self._outside = self.roots.find()
        gone = (self._runs.keys() | self._left_out.keys()) - found.keys()
        for path in gone:
            self._runs.pop(path, None)
            self._left_out.pop(path, None)
        if gone:
            self._changed()
        self._paths = frozenset(found)
        for path, name in found.items():
            self._make_way()
            if self._stopped.is_set():
                return
            seen = self._runs.get(path)
            if seen is None:
                self._open(path, name)
            else:
                self._refresh(seen)
        self.version += not self.looked
        self.looked = True

    def _open(self, path: Path, name: str) -> None:
        """A run that was not there before, or was left out and has changed since."""
        stamp = _stamp(path)
        if self._left_out.get(path, ("", None))[1] == stamp:
            return
        try:
            self.roots.check(path)
            record = Record.open(path, self._wanted, readings=READINGS)
            self._judged(record)
        except Exception as error:
            self._leave_out(path, error, stamp)
            return
        self._left_out.pop(path, None)
        self._runs[path] = Seen(record, name, next(self._numbers), stamp[0])
        self._changed()

    def _refresh(self, seen: Seen) -> None:
        """What was appended; of a run that has ended nothing is, until its manifest changes."""
        record = seen.record
        stamp = _stamp(record.path)
        if stamp[0] == seen.stamp and record.status != "running" and set(self._wanted) <= set(record.followed):
            return
        facts = record.versions["config"], record.versions["manifest"]
        try:
            self.roots.check(record.path)
            changed = record.follow(self._wanted)
            if facts[0] != record.versions["config"]:
                self._judged(record)
        except Exception as error:
            self._leave_out(record.path, error, stamp)
            return
        seen.stamp = stamp[0]
        if facts != (record.versions["config"], record.versions["manifest"]):
            self._changed()
        elif changed:
            self.version += 1

    def _judged(self, record: Record) -> None:
        if record.kind == "supervised":
            record.expect(self.judge(record).tasks)

    def _leave_out(self, path: Path, error: Exception, stamp: Stamp) -> None:
        """One run that cannot be read must not take the others with it, whatever is wrong with it."""
        said = str(error)
        if not isinstance(error, ValueError):
            _log.exception("reading %s failed", path)
            said = f"{path}: {type(error).__name__}: {error}"
        self._runs.pop(path, None)
        self._left_out[path] = said, stamp
        self._changed()

    def _changed(self) -> None:
        self.shape += 1
        self.version += 1

    def _make_way(self) -> None:
        """A page is waited for; a look is not."""
        until = time.monotonic() + 1.0
        while self._busy and time.monotonic() < until:
            time.sleep(0.002)

    def _follow(self) -> None:
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                self.look()
                self._wake.wait(self.every)
                while time.monotonic() - self._asked_at > _IDLE_S and not self._wake.is_set():
                    self._wake.wait(_IDLE_S)
        except Exception as error:
            self.broken = f"{type(error).__name__}: {error}"
            self.version += 1
            _log.exception("following the runs failed")


def _stamp(path: Path) -> Stamp:
    """Of each file that is read, the manifest's first: it changes when a run ends or is resumed."""
    found = []
    for name in READ:
        try:
            facts = (path / name).stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((facts.st_mtime_ns, facts.st_size))
    return tuple(found)
