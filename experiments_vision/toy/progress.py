"""One line that says how far the descents are."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from mtrl_surgery.runs.console import duration, time_left

_TERMINAL_S, _LOG_S = 0.25, 10.0


class Line:
    """On a terminal it is rewritten in place, elsewhere a new one comes every ten seconds."""

    def __init__(self, name: str, total: int, stream: TextIO | None = None) -> None:
        self._name, self._total, self._stream = name, total, stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = self._shown = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Shows it if it is time to.

        Args:
            done: Steps.
            note: What is going on.
        """
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_S if self._terminal else _LOG_S):
            return
        self._shown = now
        rate = done / (now - self._begin)
        left = duration(time_left(self._total - done, done, now - self._begin))
        percent = 100.0 * done / self._total
        text = (
            f"{self._name}: {done:,}/{self._total:,} steps ({percent:.0f} %)  {rate:,.0f} steps/s  ETA {left}  {note}"
        )
        self._stream.write(f"\r\x1b[2K{text[:120]}" if self._terminal else f"{text.rstrip()}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clears the line."""
        if self._terminal:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
