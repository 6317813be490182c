"""Looks at many files at once, and says on stderr how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import TextIO, TypeVar

from mtrl_surgery.runs.console import duration, time_left

Job = TypeVar("Job")
Result = TypeVar("Result")

_SILENT_S = 2.0  # a short check says nothing
_TTY_EVERY_S = 0.25
_LOG_EVERY_S = 10.0
_AHEAD = 8  # files a thread takes at a time


class FileProgress:
    """`nyuv2: 1,200/7,956 files  310/s  ETA 0:00:22`: in place on a terminal, else a line every ten seconds."""

    def __init__(
        self, what: str, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = clock()
        self._next = self._begin + _SILENT_S
        self._shown = False

    def update(self, done: int) -> None:
        """Shows a line if it is time to."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (_TTY_EVERY_S if self._terminal else _LOG_EVERY_S)
        self._show(done, now)

    def close(self, done: int) -> None:
        """Ends the line, if one was shown."""
        if self._shown:
            self._show(done, self._clock())
            if self._terminal:
                self._stream.write("\n")
                self._stream.flush()

    def _show(self, done: int, now: float) -> None:
        rate = done / (now - self._begin)
        left = time_left(self._total - done, done, now - self._begin)
        line = f"{self._what}: {done:,}/{self._total:,} files  {rate:,.0f}/s  ETA {duration(left)}"
        self._stream.write(f"\r\x1b[2K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._shown = True


def scan(what: str, jobs: Sequence[Job], look: Callable[[Job], Result], threads: int | None = None) -> list[Result]:
    """`[look(job) for job in jobs]`, by threads: reading and decoding files let go of Python's lock.

    Args:
        what: The data set's name, for the line of progress.
        jobs: A file each.
        look: What to do with one; what it raises ends the scan.
        threads: A thread a core, unless told.
    """
    progress = FileProgress(what, len(jobs))
    results: list[Result] = []
    with ThreadPool(threads) as pool:
        for result in pool.imap(look, jobs, chunksize=_AHEAD):
            results.append(result)
            progress.update(len(results))
    progress.close(len(results))
    return results
