"""Makes what takes long in threads, so that no page waits for it, and keeps what it made."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What was made last.

    Attributes:
        thing: None where there was nothing to make, or the first is still being made.
        version: Of what it was made from; None before the first.
        fresh: Whether that is the version that was asked for.
        fault: Why it could not be made, or nothing.
    """

    thing: Any = field(default=None, repr=False)
    version: Hashable = None
    fresh: bool = False
    fault: str = ""


class Workshop:
    """At each place one thing at a time is made: what changes faster than it can be made is made as often as can be."""

    def __init__(self, most: int = 100) -> None:
        """Keeps the things of the `most` places that were asked for last."""
        self._most = most
        self._made: OrderedDict[Hashable, Made] = OrderedDict()
        self._jobs: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()

    def ask(self, place: Hashable, version: Hashable, make: Callable[[], Any], wait_s: float) -> Made:
        """A thing in this version, if it can be had within `wait_s`, else the last one."""
        with self._lock:
            made = self._made.get(place, Made())
            if made.version == version:
                self._made.move_to_end(place)
                return made
            job = self._jobs.get(place)
            if job is None:
                job = self._jobs[place] = threading.Event()
                threading.Thread(target=self._work, args=(place, version, make, job), daemon=True).start()
        job.wait(max(0.0, wait_s))
        with self._lock:
            made = self._made.get(place, Made())
        return Made(made.thing, made.version, made.version == version, made.fault)

    def _work(self, place: Hashable, version: Hashable, make: Callable[[], Any], job: threading.Event) -> None:
        try:
            made = Made(make(), version, True)
        except Exception as error:  # one figure that fails must not take the page with it
            _log.exception("making %s failed", place)
            made = Made(None, version, True, f"{type(error).__name__}: {error}")
        with self._lock:
            self._made[place] = made
            self._made.move_to_end(place)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
            del self._jobs[place]
        job.set()
