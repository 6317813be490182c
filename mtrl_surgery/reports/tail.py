"""A growing file of JSON rows, read a piece at a time: each look parses only what was appended since the last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl_surgery.reports.errors import ReportError

Row = dict[str, Any]

_MARK = 64
"""Bytes before the place that was read up to, kept to notice that a file was cut back and has grown again."""


class Tail:
    """Follows one file.

    A last line without its newline is left for later. A file that a resume cut back is read from the start again.
    """

    def __init__(self, path: Path, most_steps: int | None = None) -> None:
        """Reads nothing yet; the file need not be there.

        Args:
            path: The file.
            most_steps: Parse at most about so many different values of `step` in one look, evenly spread and the last
                among them; None: all. For figures that could not show more anyway.
        """
        self.path = path
        self._most_steps = most_steps
        self._position, self._line = 0, 0
        self._mark = b""

    def read(self) -> tuple[list[Row], bool]:
        """The rows since the last call, and whether they replace all that were read before.

        Raises:
            ReportError: A whole line that is no row (the file and the line are named), or a file that can't be read.
        """
        try:
            with self.path.open("rb") as file:
                changed = self._changed(file)
                if changed:
                    self._position, self._line, self._mark = 0, 0, b""
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            changed, self._position, self._line, self._mark = self._position > 0, 0, 0, b""
            return [], changed
        except OSError as error:
            raise ReportError(f"cannot read {self.path}: {error.strerror}") from error
        whole = data.rfind(b"\n") + 1
        if not whole:
            return [], changed
        lines = data[: whole - 1].split(b"\n")
        self._mark = (self._mark + data[:whole])[-_MARK:]
        self._position += whole
        first, self._line = self._line + 1, self._line + len(lines)
        return self._parse(lines, first), changed

    def _changed(self, file: Any) -> bool:
        file.seek(self._position - len(self._mark))
        return bool(file.read(len(self._mark)) != self._mark)

    def _parse(self, lines: list[bytes], first: int) -> list[Row]:
        if self._most_steps is not None:
            lines = thinned(lines, self._most_steps)
        try:
            rows = json.loads(b"[" + b",".join(lines) + b"]")  # one call is twice as fast as one a line
        except ValueError:
            rows = None
        if rows is None or len(rows) != len(lines) or not all(isinstance(row, dict) for row in rows):
            self._complain(lines, first)
        return rows  # type: ignore[no-any-return]

    def _complain(self, lines: list[bytes], first: int) -> None:
        for number, line in enumerate(lines, first):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ReportError(f"{self.path}, line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ReportError(f"{self.path}, line {number} is no row but a {type(row).__name__}")
        raise ReportError(f"{self.path}: lines {first} to {first + len(lines) - 1} are no rows")


def thinned(lines: Sequence[bytes], most: int) -> list[bytes]:
    """Lines of about `most` of the steps, whole steps each, the last among them; lines without a step stay."""
    steps = [_step(line) for line in lines]
    different = list(dict.fromkeys(step for step in steps if step is not None))
    if len(different) <= most:
        return list(lines)
    # Backwards from the last by an even stride.
    stride = -(-len(different) // most)
    kept = set(different[::-1][::stride])
    return [line for line, step in zip(lines, steps, strict=True) if step is None or step in kept]


def _step(line: bytes) -> bytes | None:
    """Our rows begin with it: finding it costs a tenth of parsing the row."""
    return line[8 : line.find(b",")] if line.startswith(b'{"step":') else None
