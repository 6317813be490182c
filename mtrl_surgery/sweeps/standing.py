"""How a run stands, read from its own folder: its manifest, its lock, its last row and the log of its processes."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.durable import held_by
from mtrl_surgery.runs.folder import LOG, RunFolder
from mtrl_surgery.runs.reading import RunError, open_rows, parse_rows
from mtrl_surgery.runs.shapes import COUNT

STATES = ("pending", "running", "done", "failed", "stopped", "broken")
"""`stopped` was asked to and has its checkpoint; `broken` is a run that no process writes although it has no end."""
_OF_STATUS = {"finished": "done", "interrupted": "stopped"}
_BLOCK = 1 << 16  # bytes at a file's end; a row of fifty tasks has a few thousand


@dataclass(frozen=True)
class Measure:
    """What a run counts.

    Attributes:
        file: Of the run folder, `metrics` or `evaluations`.
        key: In its rows.
        total: What the key's value is in the end.
        unit: What is counted, for the reader.
    """

    file: str
    key: str
    total: int
    unit: str

    def done(self, folder: Path) -> int:
        """How much of it the run has done; 0 where nothing tells."""
        path = folder / f"{self.file}.jsonl"
        try:
            with open_rows(path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _BLOCK))
                lines = file.read().split(b"\n")[:-1]
        except (OSError, RunError):
            return 0  # the run has not come to its first row, or cannot say how far it came
        for line in reversed(lines):
            with suppress(RunError):  # torn off by the start of the block, or no row
                value: Any = parse_rows(line + b"\n", path)[0].get(self.key)
                if COUNT.holds(value):
                    return min(int(value), self.total)
        return 0

    def share(self, folder: Path) -> float:
        """The same as a part of the whole, 0 to 1."""
        return self.done(folder) / max(1, self.total)

    def progress(self, folder: Path) -> str:
        """The same for a reader: `1,000/4,000 steps`."""
        return f"{self.done(folder):,}/{self.total:,} {self.unit}"


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    Attributes:
        state: One of `STATES`.
        starts: Processes that began it or went on with it.
        since: When the last of them came, as its manifest says.
        host: The machine of that process.
        note: Why it has not come to its end.
    """

    state: str
    starts: int = 0
    since: str = ""
    host: str = ""
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
