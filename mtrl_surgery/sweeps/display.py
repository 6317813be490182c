"""The table while the sweep goes: redrawn in place on a terminal, else a line for what happens."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from mtrl_surgery.sweeps.folder import Entry, Table
from mtrl_surgery.sweeps.view import rows, summary, told

_TTY_EVERY_S = 1.0
_LOG_EVERY_S = 30.0
_ORDER = ("running", "failed", "stopped", "pending", "done")


class Display:
    """Shows a table on stderr."""

    def __init__(self, table: Table, stream: TextIO | None = None) -> None:
        """Nothing is shown yet."""
        self._table, self._stream = table, stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._shown = time.monotonic() if not self._terminal else float("-inf")
        self._lines = 0

    def update(self, entry: Entry | None) -> None:
        """An entry has changed, or (None) time went by."""
        if entry is not None and not self._terminal:
            self._stream.write(told(entry) + "\n")
            self._stream.flush()
        now = time.monotonic()
        if now - self._shown >= (_TTY_EVERY_S if self._terminal else _LOG_EVERY_S):
            self._shown = now
            self._draw()

    def say(self, text: str) -> None:
        """A line of its own, above the table."""
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last table standing, whole."""
        self._clear()
        now = time.time()
        self._stream.write(f"{rows(self._table.entries, now)}\n\n{summary(self._table, now)}\n")
        self._stream.flush()

    def _draw(self) -> None:
        now = time.time()
        if not self._terminal:
            self._stream.write(summary(self._table, now) + "\n")
            self._stream.flush()
            return
        size = shutil.get_terminal_size()
        room = max(1, size.lines - 5)
        entries = sorted(self._table.entries, key=lambda entry: _ORDER.index(entry.state))
        lines = rows(entries[:room], now).splitlines()
        if len(entries) > room:
            lines.append(f"... and {len(entries) - room} more, {entries[room].state} and further")
        lines.append(summary(self._table, now))
        self._clear()
        self._stream.write("\n".join(line[: size.columns - 1] for line in lines) + "\n")
        self._stream.flush()
        self._lines = len(lines)

    def _clear(self) -> None:
        if self._lines:
            self._stream.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0
