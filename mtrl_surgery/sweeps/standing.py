"""How a sweep stands, read from its runs' folders: what `sweep status` prints, and its driver in the end."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrl_surgery.runs.console import duration, printable, table, time_left
from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.runs.reading import RunError
from mtrl_surgery.sweeps.folder import Sweep, SweepFolder

STATES = ("pending", "running", "done", "failed", "stopped", "broken")
"""`stopped` was asked to and has its checkpoint; `broken` is a run that no process writes although it has no end."""
_OF_STATUS = {"finished": "done", "interrupted": "stopped"}


@dataclass(frozen=True)
class Standing:
    """How a run stands; `state` is one of `STATES`, `note` says why it has not come to its end."""

    state: str
    starts: int = 0  # processes that began it or went on with it
    since: str = ""  # when the last of them came
    host: str = ""  # where
    note: str = ""


def standing_of(folder: Path) -> Standing:
    """How the run in the folder stands; `pending` where none has begun."""
    log = folder / LOG
    try:
        manifest = RunFolder.open(folder).manifest()
    except RunError:
        return Standing("pending", note=last_line(log) if log.exists() else "")
    sessions = [manifest, *manifest["resumed"]]
    state = _OF_STATUS.get(manifest["status"], manifest["status"])
    if state == "running" and held_by(folder) is None:
        state = "broken"
    note = manifest["error"] or (last_line(log) if state == "broken" else "")
    since, host = (str(sessions[-1].get(key, "")) for key in ("started", "host"))
    return Standing(state, len(sessions), since, host, note)


def last_line(log: Path) -> str:
    """The last thing that a run said."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "it said nothing"


_OVER = ("done", "failed")


def status(folder: SweepFolder) -> str:
    """A line a run, a summary, why runs failed, and who drives the sweep or how to go on with it.

    Raises:
        SweepError: the folder is no sweep's.
    """
    sweep, driver = folder.read(), folder.driver()
    standings = [standing_of(run.folder) for run in sweep.runs]
    rows = [
        (run.label, one.state, str(one.starts), run.measure.progress(run.folder), one.since, one.host)
        for run, one in zip(sweep.runs, standings, strict=True)
    ]
    parts = [table(("run", "state", "starts", "done", "since", "where"), rows, numbers=(2, 3)), ""]
    parts.append(summary(sweep, standings, time.time()))
    parts += [
        printable(f"{one.state}: {run.label}: {one.note}\n        {run.folder / LOG}")
        for run, one in zip(sweep.runs, standings, strict=True)
        if one.note
    ]
    if driver is not None:
        parts.append(f"driven by {driver}" + (", which is asked to stop" if folder.stop_file.exists() else ""))
    elif any(one.state != "done" for one in standings):
        parts.append(f"nobody drives it; to go on: cd {shlex.quote(sweep.cwd)} && {shlex.join(sweep.command)}")
    return "\n".join(parts)


def summary(sweep: Sweep, standings: Sequence[Standing], now: float) -> str:
    """One line: how many runs are in which state, runs an hour and the time left; `now` is seconds since 1970."""
    counts = Counter(one.state for one in standings)
    shown = "  ".join(f"{state} {counts[state]}" for state in STATES if counts[state])
    text = f"{len(sweep.runs)} runs: {shown}"
    if not counts["running"]:
        return text
    shares = [
        1.0 if one.state in _OVER else run.measure.share(run.folder)
        for run, one in zip(sweep.runs, standings, strict=True)
    ]
    left = len(shares) - sum(shares)
    gained, seconds = max(0.0, sum(shares) - sweep.work), max(now - sweep.started, 1e-9)
    return f"{text}  {3600 * gained / seconds:,.1f} runs/h  ETA {duration(time_left(left, gained, seconds))}"
