"""The console: one line that says how a run goes, and the table of an evaluation above it."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

_WINDOW_S = 60.0  # rates are over the last minute: long enough to smooth rounds, short enough to be now
_TTY_EVERY_S = 0.25
_LOG_EVERY_S = 10.0
_CLEAR_LINE = "\r\x1b[2K"


class Progress:
    """A line of progress on stderr: rewritten in place on a terminal, else a new one every ten seconds."""

    def __init__(
        self,
        total: int,
        start: int = 0,
        updates: int | None = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "steps",
        measure: str = "success",
    ) -> None:
        """Starts counting.

        Args:
            total: Vector steps (or other units) of the whole run.
            start: Steps done already, where the run is resumed; they count for no rate.
            updates: Updates done already; None where a step is an update.
            stream: stderr unless told.
            clock: Seconds.
            unit: What is counted.
            measure: What an evaluation is told by.
        """
        self._unit, self._measure, self._counts_updates = unit, measure, updates is not None
        self._total, self._stream, self._clock = total, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._every = _TTY_EVERY_S if self._terminal else _LOG_EVERY_S
        self._points = deque([(clock(), start, updates or 0)])
        self._success: float | None = None
        self._shown = clock() - self._every if self._terminal else clock()
        self._line_open = False

    def update(self, step: int, updates: int = 0, success: float | None = None) -> None:
        """Tells where the run is; shows it if it is time to.

        Args:
            step: Vector steps done.
            updates: Updates done.
            success: Mean success (or another measure) of the last evaluation, where there is a new one.
        """
        now = self._clock()
        self._points.append((now, step, updates))
        while len(self._points) > 2 and now - self._points[1][0] >= _WINDOW_S:
            self._points.popleft()
        if success is not None:
            self._success = success
        if now - self._shown >= self._every:
            self._show(now)

    def print(self, text: str) -> None:
        """Prints text above the line."""
        if self._line_open:
            self._stream.write(_CLEAR_LINE)
            self._line_open = False
        self._stream.write(text + "\n")
        if self._terminal:
            self._show(self._clock())
        self._stream.flush()

    def close(self) -> None:
        """Shows the last state and ends the line."""
        self._show(self._clock())
        if self._line_open:
            self._stream.write("\n")
            self._line_open = False
        self._stream.flush()

    def rates(self) -> tuple[float, float]:
        """Vector steps and updates a second over the last minute."""
        (begin, steps, updates), (end, last_steps, last_updates) = self._points[0], self._points[-1]
        seconds = end - begin
        if seconds <= 0:
            return 0.0, 0.0
        return (last_steps - steps) / seconds, (last_updates - updates) / seconds

    def line(self) -> str:
        """The text of the line."""
        step = self._points[-1][1]
        steps_s, updates_s = self.rates()
        left = (self._total - step) / steps_s if steps_s > 0 else None
        success = "-" if self._success is None else f"{self._success:.2f}"
        percent = 100.0 * step / self._total if self._total else 100.0
        updates = f"{updates_s:,.1f} updates/s  " if self._counts_updates else ""
        return (
            f"{step:,}/{self._total:,} {self._unit} ({percent:.1f} %)  {steps_s:,.1f} {self._unit}/s  "
            f"{updates}{self._measure} {success}  ETA {duration(left)}"
        )

    def _show(self, now: float) -> None:
        self._shown = now
        if self._terminal:
            columns = shutil.get_terminal_size().columns  # a wrapped line could not be cleared
            self._stream.write(_CLEAR_LINE + self.line()[: columns - 1])
            self._line_open = True
        else:
            self._stream.write(self.line() + "\n")
        self._stream.flush()


def evaluation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of one evaluation, a line a task and the mean.

    Args:
        rows: With `step`, `task`, `episodes`, `successes_any`, `successes_last` and `returns`.
    """
    if not rows:
        return "no tasks were evaluated"
    width = max(len("task"), *(len(row["task"]) for row in rows))
    lines = [f"{'task':<{width}}  any  last   return  episodes   (step {rows[0]['step']:,})"]
    anys, lasts = [], []
    for row in rows:
        anys.append(row["successes_any"] / row["episodes"])
        lasts.append(row["successes_last"] / row["episodes"])
        mean_return = sum(row["returns"]) / row["episodes"]
        values = f"{anys[-1]:.2f}  {lasts[-1]:.2f}  {mean_return:7.1f}  {row['episodes']:8d}"
        lines.append(f"{row['task']:<{width}}  {values}")
    lines.append(f"{'mean':<{width}}  {sum(anys) / len(rows):.2f}  {sum(lasts) / len(rows):.2f}")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """`h:mm:ss`, or `-` where it isn't known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
