"""Rows of JSON, one a line, appended; a file that a crash tore is mended or read up to its last whole row."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtrl_surgery.runs.durable import sync_folder
from mtrl_surgery.runs.errors import RunError


class JsonlWriter:
    """Appends rows to a file; a row is in the file, for any reader, when `write` returns.

    The same rows give the same bytes. Floats are written as their shortest exact decimal; NaN and infinities,
    which JSON lacks, as null.
    """

    def __init__(self, path: Path) -> None:
        """Opens `path` for appending and removes a half-written last row, with a warning."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        sync_folder(path.parent)
        size = self._size()
        whole = _whole_rows(path)
        if whole < size:
            warnings.warn(f"{path}: removed a half-written last row of {size - whole} bytes", stacklevel=2)
            os.ftruncate(self._descriptor, whole)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one row.

        Args:
            row: Strings, numbers, bools, None, numpy numbers and arrays, and lists and dicts of these.

        Raises:
            RunError: A value that is none of these (named), or a disk that does not take the row; the file
                then still ends with the row before.
        """
        line = json.dumps(_plain(row, ""), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        before = self._size()
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise RunError(f"cannot write {self.path}: {error.strerror}") from error

    def position(self) -> int:
        """Bytes in the file, all of them flushed to the disk."""
        os.fsync(self._descriptor)
        return self._size()

    def truncate(self, position: int) -> None:
        """Forgets the rows after `position`.

        Raises:
            RunError: The file is shorter, or no row ends there.
        """
        if not 0 <= position <= self._size():
            raise RunError(f"{self.path} has {self._size():,} bytes, {position:,} were expected")
        if position and os.pread(self._descriptor, 1, position - 1) != b"\n":
            raise RunError(f"{self.path}: no row ends at byte {position:,}; the file was changed")
        os.ftruncate(self._descriptor, position)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Flushes and closes; a second call does nothing."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a file, none if it does not exist; a half-written last row is left out.

    Raises:
        RunError: A line is no row.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    return parse_rows(lines, path)


def parse_rows(lines: Sequence[bytes], path: Path, first: int = 1) -> list[dict[str, Any]]:
    """Rows of whole lines.

    Args:
        lines: Without their newlines.
        path: Where they come from, for the error.
        first: The number of the first of them, counted from 1.

    Raises:
        RunError: A line is no row.
    """
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")  # one call is twice as fast as one a line
    except ValueError:
        rows = None
    if rows is not None and len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
        return rows  # type: ignore[no-any-return]
    for number, line in enumerate(lines, first):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise RunError(f"{path}, line {number} is no row but a {type(row).__name__}")
    raise RunError(f"{path}: lines {first} to {first + len(lines) - 1} are no rows")


def _whole_rows(path: Path, block: int = 1 << 16) -> int:
    """Bytes up to and with the last newline."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - block)
            file.seek(start)
            if (found := file.read(end - start).rfind(b"\n")) >= 0:
                return start + found + 1
            end = start
    return 0


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise RunError(
        f"row{path}: no place for a {type(value).__qualname__}; choices: str, numbers, bool, None, list, dict"
    )


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise RunError(f"row{path}: the key {key!r} is a {type(key).__qualname__}, not a str")
    return key
