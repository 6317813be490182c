"""The console: plain tables and curves, and one line that says how a run goes."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import fmean
from typing import Any, TextIO

_WINDOW_S = 60.0  # rates are over the last minute: long enough to smooth rounds, short enough to be now
_TTY_EVERY_S = 0.25
_LOG_EVERY_S = 10.0
_LEAST_S = 5.0  # a rate over less than this tells nothing of the hours to come
_CLEAR_LINE = "\r\x1b[2K"
_PLOT_WIDTH, _PLOT_HEIGHT = 68, 11  # with the axis' numbers less than 80 columns


def printable(text: str) -> str:
    r"""Text of somebody else's (an environment, a foreign error, a name) as a terminal may show it.

    Control characters and what no encoding has become escapes such as `\x1b`; line ends and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def say(text: str) -> None:
    """A line on stderr, printable."""
    print(printable(text), file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """Columns two spaces apart, each as wide as its widest cell; those in `numbers` are set flush right."""
    texts = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    texts.insert(1, ["-" * width for width in widths])
    lines = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
    return "\n".join(lines)


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
        measure: str | None = "success",
        warmup: int = 0,
        name: str = "",
        silent_s: float = 0.0,
    ) -> None:
        """Start counting.

        Args:
            total: Vector steps (or other units) of the whole run.
            start: Steps done already, where the run is resumed; they count for no rate.
            updates: Updates done already; None where a step is an update.
            stream: stderr unless told.
            clock: Seconds.
            unit: Of the count.
            measure: The name of an evaluation's result; None where there is none.
            warmup: Steps before the first update; they tell nothing of how long the others take.
            name: Comes before the numbers.
            silent_s: Seconds in which nothing is shown: quick work needs no line.
        """
        self._name = f"{name}: " if name else ""
        self._warmup, self._last = warmup, ""
        self._unit, self._measure, self._counts_updates = unit, measure, updates is not None
        self._total, self._stream, self._clock = total, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._every = _TTY_EVERY_S if self._terminal else _LOG_EVERY_S
        self._points = deque([(clock(), start, updates or 0)])
        self._success: float | None = None
        self._due = clock() + (silent_s or (0.0 if self._terminal else _LOG_EVERY_S))
        self._silent = silent_s > 0
        self._line_open = False

    def update(self, step: int, updates: int = 0) -> None:
        """Take the steps and updates done so far, and show them if it is time to."""
        now = self._clock()
        self._points.append((now, step, updates))
        while len(self._points) > 2 and now - self._points[1][0] >= _WINDOW_S:
            self._points.popleft()
        # The last state is `close`'s to show: a log has it once.
        if now >= self._due and (self._terminal or step < self._total):
            self._show(now)

    def evaluated(self, success: float) -> None:
        """Take the mean success (or another measure) of the newest evaluation."""
        self._success = success

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block's time out of all rates: nothing is collected or learned in it."""
        began = self._clock()
        try:
            yield
        finally:
            pause = self._clock() - began
            self._points = deque((when + pause, step, updates) for when, step, updates in self._points)

    def print(self, text: str) -> None:
        """Print text above the line."""
        if self._line_open:
            self._stream.write(_CLEAR_LINE)
            self._line_open = False
        self._stream.write(printable(text) + "\n")
        if self._terminal:
            self._show(self._clock())
        self._stream.flush()

    def close(self) -> None:
        """Show the last state and end the line; show nothing of what went so quickly that no line was due."""
        if not self._silent:
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
        rate = f"{steps_s:,.1f}" if steps_s > 0 else "-"
        success = "-" if self._success is None else f"{self._success:.2f}"
        measure = "" if self._measure is None else f"{self._measure} {success}  "
        percent = 100.0 * step / self._total if self._total else 100.0
        updates = f"{updates_s:,.1f} updates/s  " if self._counts_updates else ""
        return (
            f"{self._name}{step:,}/{self._total:,} {self._unit} ({percent:.1f} %)  {rate} {self._unit}/s  "
            f"{updates}{measure}ETA {self._eta()}"
        )

    def _eta(self) -> str:
        end, step, _ = self._points[-1]
        if step < min(self._warmup, self._total):
            return "after the warm-up"
        begin, first, _ = next(point for point in self._points if point[1] >= min(self._warmup, self._total))
        return duration(time_left(self._total - step, step - first, end - begin))

    def _show(self, now: float) -> None:
        self._due, self._silent = now + self._every, False
        if self._terminal:
            columns = shutil.get_terminal_size().columns  # a wrapped line could not be cleared
            self._stream.write(_CLEAR_LINE + self.line()[: columns - 1])
            self._line_open = True
        elif (line := self.line()) != self._last:
            self._stream.write(line + "\n")
            self._last = line
        self._stream.flush()


def time_left(left: float, done: float, seconds: float) -> float | None:
    """Seconds that the rest will take; None where too little is done to tell."""
    if left <= 0:
        return 0.0
    return left * seconds / done if done > 0 and seconds >= _LEAST_S else None


def learning_curve(points: Sequence[tuple[int, float]], measure: str = "success", unit: str = "steps") -> str:
    """A plot of plain characters, for a terminal of 80 columns.

    Args:
        points: Steps and the value there, 0 to 1, by step; `*` marks them, `.` goes between.
        measure: Name of the values.
        unit: Of the count.
    """
    first, last = points[0][0], points[-1][0]
    grid = [[" "] * _PLOT_WIDTH for _ in range(_PLOT_HEIGHT)]
    between = [
        (begin + share * (end - begin), low + share * (high - low), ".")
        for (begin, low), (end, high) in pairwise(points)
        for share in (part / _PLOT_WIDTH for part in range(_PLOT_WIDTH))
    ]
    for step, value, mark in [*between, *((step, value, "*") for step, value in points)]:
        row = round((1.0 - min(max(value, 0.0), 1.0)) * (_PLOT_HEIGHT - 1))
        grid[row][round((step - first) / max(last - first, 1) * (_PLOT_WIDTH - 1))] = mark
    numbers = {0: "1.0", _PLOT_HEIGHT // 2: "0.5", _PLOT_HEIGHT - 1: "0.0"}
    lines = [f"{numbers.get(row, ''):>5} |{''.join(cells)}".rstrip() for row, cells in enumerate(grid)]
    left, right = f"{first:,}", f"{last:,} {unit}"
    axis = [f"      +{'-' * _PLOT_WIDTH}", f"       {left}{right:>{_PLOT_WIDTH - len(left)}}"]
    return "\n".join([measure, *lines, *axis])


def evaluation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of one evaluation, a line a task and the mean of the rates.

    Args:
        rows: With `step`, `task`, `episodes`, `successes_any`, `successes_last` and `returns`.
    """
    if not rows:
        return "no tasks were evaluated"
    rates = [[row[key] / row["episodes"] for row in rows] for key in ("successes_any", "successes_last")]
    cells = [
        (row["task"], f"{any_:.2f}", f"{last:.2f}", f"{fmean(row['returns']):.1f}", row["episodes"])
        for row, any_, last in zip(rows, *rates, strict=True)
    ]
    mean = ("mean", *(f"{fmean(rate):.2f}" for rate in rates), "", "")
    head, _, *lines = table(("task", "any", "last", "return", "episodes"), [*cells, mean], (1, 2, 3, 4)).splitlines()
    return "\n".join([f"{head}   (step {rows[0]['step']:,})", *lines])


def duration(seconds: float | None) -> str:
    """`h:mm:ss`, or `-` where it isn't known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
