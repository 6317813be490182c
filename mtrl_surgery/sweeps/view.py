"""How a sweep stands, as text: what `sweep status` prints, and its driver in the end."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Sequence

from mtrl_surgery.cli.tables import table
from mtrl_surgery.runs.console import duration, printable, time_left
from mtrl_surgery.runs.folder import LOG
from mtrl_surgery.sweeps.folder import Sweep, SweepFolder
from mtrl_surgery.sweeps.standing import STATES, Standing, standing_of

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
    """One line: how many runs are in which state, runs an hour and the time left.

    Args:
        sweep: The sweep.
        standings: Of its runs.
        now: Seconds since 1970.
    """
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
