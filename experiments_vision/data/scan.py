"""Looks at many files at once, and says on stderr how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from mtrl_surgery.runs.console import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")

SILENT_S = 2.0  # a short check says nothing
_AHEAD = 8  # files a thread takes at a time


def scan(what: str, jobs: Sequence[Job], look: Callable[[Job], Result], threads: int | None = None) -> list[Result]:
    """`[look(job) for job in jobs]`, by threads: reading and decoding files let go of Python's lock.

    Args:
        what: The data set's name, for the line of progress.
        jobs: A file each.
        look: What to do with one; what it raises ends the scan.
        threads: A thread a core, unless told.
    """
    progress = Progress(len(jobs), updates=None, unit="files", measure=None, name=what, silent_s=SILENT_S)
    results: list[Result] = []
    with ThreadPool(threads) as pool:
        for result in pool.imap(look, jobs, chunksize=_AHEAD):
            results.append(result)
            progress.update(len(results))
    progress.close()
    return results
