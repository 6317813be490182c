"""A growing file of JSON rows, read a piece at a time: each look parses only what was appended since the last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl_surgery.reports.errors import ReportError
from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.runs.reading import next_rows, open_rows, parse_rows
from mtrl_surgery.runs.shapes import check_rows

Row = dict[str, Any]

_MARK = 64
"""Bytes before the place that was read up to, kept to notice that a file was cut back and has grown again."""


class Tail:
    """Follows one file.

    A last line without its newline is left for later. A file that a resume cut back is read from the start again.

    Attributes:
        path: The file.
        bytes_read: All that was read of it so far, marks left out.
    """

    def __init__(self, path: Path, most_steps: int | None = None, without: Sequence[str] = ()) -> None:
        """Reads nothing yet; the file need not be there.

        Args:
            path: The file.
            most_steps: Parse at most about so many different values of `step` in one look, evenly spread and the last
                among them; None: all. For figures that could not show more anyway.
            without: Keys after a row's first whose lists of numbers are left out before they are parsed, which is most
                of the work on an evaluation's rows.
        """
        self.path = path
        self.bytes_read = 0
        self._most_steps = most_steps
        names = "|".join(map(re.escape, without))
        # A quote inside of a string has a backslash before it, so this is a key and nothing else.
        self._lists = re.compile(rf',"(?:{names})":\[[^][{{}}"]*\]'.encode()) if without else None
        self._position, self._line = 0, 0
        self._mark = b""

    def read(self) -> tuple[list[Row], bool]:
        """The rows since the last call, and whether they replace all that were read before.

        Raises:
            ReportError: A whole line that is no row of such a file (it and the file are named), or a file that can't be
                read. The next call begins where this one did.
        """
        rows: list[Row] = []
        try:
            with open_rows(self.path) as file:
                changed = self._changed(file)
                position, line, mark = (0, 0, b"") if changed else (self._position, self._line, self._mark)
                file.seek(position)
                while data := next_rows(file, self.path):
                    rows += self._parse(data, line + 1)
                    position, line = position + len(data), line + data.count(b"\n")
                    mark = (mark + data[-_MARK:])[-_MARK:]
        except FileNotFoundError:
            changed, self._position, self._line, self._mark = self._position > 0, 0, 0, b""
            return [], changed
        except OSError as error:
            raise ReportError(f"cannot read {self.path}: {error.strerror}") from error
        except RunError as error:
            raise ReportError(str(error)) from error
        self.bytes_read += position - (0 if changed else self._position)
        self._position, self._line, self._mark = position, line, mark
        return rows, changed

    def _changed(self, file: Any) -> bool:
        file.seek(self._position - len(self._mark))
        return bool(file.read(len(self._mark)) != self._mark)

    def _parse(self, data: bytes, first: int) -> list[Row]:
        kept = data
        if self._most_steps is not None:
            kept = b"\n".join([*thinned(data[:-1].split(b"\n"), self._most_steps), b""])
        if self._lists is not None:
            kept = self._lists.sub(b"", kept)
        name = self.path.stem
        try:
            rows = parse_rows(kept, self.path, first)
            check_rows(rows, name, self.path, first)
        except RunError:
            if kept is data:
                raise
            rows = parse_rows(data, self.path, first)  # complains with the number of the line
            check_rows(rows, name, self.path, first)
        return rows


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


def thinned_rows(rows: list[Row], most: int) -> list[Row]:
    """The same of rows that were read in many looks, once they have twice as many steps; until then all of them.

    The steps that stay are spread evenly over training, since a first look was thinned and later ones were not.
    """
    different = sorted({row["step"] for row in rows if "step" in row})
    if len(different) <= 2 * most:
        return rows
    width = (different[-1] - different[0]) / most
    kept = set({int((different[-1] - step) / width): step for step in different}.values())
    return [row for row in rows if "step" not in row or row["step"] in kept]


def _step(line: bytes) -> bytes | None:
    """Our rows begin with it: finding it costs a tenth of parsing the row."""
    return line[8 : line.find(b",")] if line.startswith(b'{"step":') else None
