"""Follows all runs below the roots, in a thread: finds new ones, reads what is appended, forgets deleted ones."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from mtrl_surgery.dashboard.roots import READ, Roots
from mtrl_surgery.reports.benchmarks import ScoringOf, scoring
from mtrl_surgery.reports.records import Reading, Record

READINGS = {
    "evaluations": Reading(None, ("returns", "lengths", "goals")),
    "metrics": Reading(120),
    "health": Reading(240),
    "conflicts": Reading(30),
}
"""Hundreds of runs lie in memory at once: as many steps as figures show, or as the maps' thirds of training need."""
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
        stamp: Of its manifest when it was read last.
    """

    record: Record
    name: str
    number: int
    stamp: tuple[int, int] = field(repr=False)


class Follower:
    """All runs below the roots, as they were at the last look.

    A record's frames are replaced whole, so requests read them while the thread goes on.

    Attributes:
        versions: By file how often any run's changed; of `runs` how often runs came, went, or changed their
            configuration or status.
        looked: Whether everything has been looked at once.
        broken: What ended the thread, or nothing.
    """

    def __init__(self, roots: Roots, scoring_of: ScoringOf | None, every: float = 5.0) -> None:
        """Reads nothing yet.

        Args:
            roots: Where runs are looked for.
            scoring_of: The metrics of supervised runs; None leaves such runs out.
            every: Seconds between looks.
        """
        self.roots, self.scoring_of, self.every = roots, scoring_of, every
        self.versions: Counter[str] = Counter()
        self.looked, self.broken = False, ""
        self._runs: dict[Path, Seen] = {}
        self._left_out: dict[Path, tuple[str, Stamp]] = {}
        self._outside: list[Path] = []
        self._wanted: tuple[str, ...] = _FIRST
        self._found: frozenset[Path] = frozenset()
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
        wanted, found = set(self._wanted), len(self._found - self._left_out.keys())
        return sum(wanted <= set(seen.record.followed) for seen in list(self._runs.values())), found

    def remarks(self) -> list[str]:
        """What a reader should know: links that lead outside, runs that cannot be read."""
        said = [f"left out: {fault}" for fault, _ in list(self._left_out.values())]
        said += [f"{link} leads outside of {self.roots}: it is not followed" for link in self._outside]
        return [f"the runs are no longer followed: {self.broken}", *said] if self.broken else said

    def look(self) -> None:
        """One look at everything."""
        found, self._outside = self.roots.find()
        for path in (self._runs.keys() | self._left_out.keys()) - found.keys():
            self._runs.pop(path, None)
            self._left_out.pop(path, None)
            self.versions["runs"] += 1
        self._found = frozenset(found)
        for path, name in found.items():
            self._make_way()
            if self._stopped.is_set():
                return
            self._read(path, name)
        self.versions["runs"] += not self.looked
        self.looked = True

    def _read(self, path: Path, name: str) -> None:
        """A new run, or what was appended to a known one; of one that has ended nothing is until its manifest changes.

        One run that cannot be read must not take the others with it, whatever is wrong with it; it is read again when
        one of its files changes.
        """
        stamp, seen = _stamp(path), self._runs.get(path)
        if self._left_out.get(path, ("", None))[1] == stamp:
            return
        if seen is not None:
            ended = seen.stamp == stamp[0] and seen.record.status != "running"
            if ended and set(self._wanted) <= set(seen.record.followed):
                return
        record = seen.record if seen is not None else Record(path, READINGS)
        before = record.versions.copy()
        try:
            self.roots.check(path)
            record.follow(self._wanted)
            if record.kind == "supervised":
                record.expect(scoring(record, self.scoring_of).tasks)
        except Exception as error:
            said = str(error)
            if not isinstance(error, ValueError):
                _log.exception("reading %s failed", path)
                said = f"{path}: {type(error).__name__}: {error}"
            self._runs.pop(path, None)
            self._left_out[path] = said, stamp
            self.versions["runs"] += 1
            return
        self._left_out.pop(path, None)
        self._runs[path] = Seen(record, name, seen.number if seen is not None else next(self._numbers), stamp[0])
        changed = set(record.versions - before)
        self.versions.update({"runs" if file in ("config", "manifest") else file for file in changed})

    def _make_way(self) -> None:
        """A page is waited for; a look is not."""
        until = time.monotonic() + 0.2
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
            self.versions["runs"] += 1
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
