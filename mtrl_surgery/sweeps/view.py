"""The table of a sweep, as text."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from mtrl_surgery.cli.tables import table as text_table
from mtrl_surgery.runs.console import duration, printable, time_left
from mtrl_surgery.runs.folder import LOG
from mtrl_surgery.sweeps.folder import STATES, Entry, Table
from mtrl_surgery.sweeps.measure import Measure

_HEADER = ("run", "state", "attempts", "done", "time", "where")


def summary(table: Table, now: float) -> str:
    """One line: how many runs are in which state, runs an hour and the time left.

    Args:
        table: The sweep.
        now: Seconds since 1970.
    """
    counts = {state: table.count(state) for state in STATES}
    before = sum(entry.before for entry in table.entries)
    done = f"done {counts.pop('done')}" + (f" ({before} before)" if before else "")
    shown = [f"{state} {number}" for state, number in counts.items() if number or state in ("pending", "running")]
    text = f"{len(table.entries)} runs: {done}  {'  '.join(shown)}"
    if table.count("running") == 0:
        return text
    work = sum(entry.share for entry in table.entries)
    gained, seconds = max(0.0, work - table.work), max(now - table.started, 1e-9)
    rate = gained / seconds  # runs a second
    left = time_left(len(table.entries) - work, gained, seconds)
    return f"{text}  {3600 * rate:,.1f} runs/h  ETA {duration(left)}"


def rows(entries: Sequence[Entry], now: float) -> str:
    """A line a run."""
    return text_table(_HEADER, [_row(entry, now) for entry in entries], numbers=(2, 3, 4))


def failures(table: Table) -> list[str]:
    """A line for each run that failed: why, and where its log is."""
    return [
        printable(f"failed: {entry.label}: {entry.note}\n        {entry.path / LOG}")
        for entry in table.entries
        if entry.state == "failed"
    ]


def as_told(table: Table, driver: str | None) -> Table:
    """The table as it is where nobody drives it: what was said to run is broken."""
    if driver is None:
        for entry in table.entries:
            if entry.state == "running":
                entry.state, entry.note = "broken", "its driver died"
                entry.since = None
    return table


def status(table: Table, driver: str | None, stop: bool) -> str:
    """Everything that `sweep status` tells.

    Args:
        table: The sweep.
        driver: The process that drives it, if one does.
        stop: Whether it is asked to stop.
    """
    now, table = time.time(), as_told(table, driver)
    parts = [rows(table.entries, now), "", summary(table, now), *failures(table)]
    if driver is not None:
        parts.append(f"driven by {driver}" + (", which is asked to stop" if stop else ""))
    elif table.count("pending", "stopped", "broken"):
        died = f"its driver ({table.driver}) is not alive; " if table.status == "running" else ""
        parts.append(f"{died}to go on: cd {shlex.quote(table.cwd)} && {shlex.join(table.command)}")
    return "\n".join(parts)


def told(entry: Entry) -> str:
    """What has just happened to a run, in a line."""
    if entry.state == "running":
        again = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
        return f"running  {entry.label}  (on {entry.where}{again}, from {_progress(entry)})"
    note = f"  {entry.note}" if entry.note else ""
    return printable(f"{entry.state:<8} {entry.label}  {duration(entry.seconds)}{note}")


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    seconds = entry.seconds + (now - entry.since if entry.state == "running" and entry.since is not None else 0.0)
    where = f"{entry.where} {entry.node[:8]}".strip()
    note = "done before" if entry.before else entry.note.partition("\n")[0][:60] or where
    return (entry.label, entry.state, str(entry.attempts), _progress(entry), duration(seconds), note)


def _progress(entry: Entry) -> str:
    measure = Measure(**entry.measure)
    done = measure.done(entry.path)
    return f"{done:,}/{measure.total:,} {measure.unit}"
