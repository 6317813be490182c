"""How far a run is, read from its folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.reading import open_rows, parse_rows
from mtrl_surgery.runs.shapes import COUNT

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
