"""Rows of JSON, one a line, appended; a file that a crash tore is mended or read up to its last whole row."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtrl_surgery.runs.durable import hash_on, sync_folder
from mtrl_surgery.runs.reading import LONGEST_ROW, RunError, next_rows, open_regular, open_rows, parse_rows


class JsonlWriter:
    """Appends rows to a file; a row is in the file, for any reader, when `write` returns.

    The same rows give the same bytes. Floats are written as their shortest exact decimal; NaN and infinities,
    which JSON lacks, as null.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending and remove a half-written last row, with a warning.

        Raises:
            RunError: It is no regular file (a link is none), or cannot be written.
        """
        self.path = path
        self._descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
        self._digest, self._hashed = hashlib.sha256(), 0
        sync_folder(path.parent)
        size = self._size()
        whole = _whole_rows(self._descriptor, path)
        if whole < size:
            warnings.warn(f"{path}: removed a half-written last row of {size - whole} bytes", stacklevel=2)
            self._cut(whole)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row of strings, numbers, bools, None, numpy numbers and arrays, and lists and dicts of these.

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
        if self._hashed == before:
            self._digest.update(line)
            self._hashed += len(line)

    def position(self) -> int:
        """Bytes in the file, all of them flushed to the disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}") from error
        return self._size()

    def sha256(self) -> str:
        """Of all bytes in the file; each is hashed once, as it is written, or here where it was there before."""
        self._hashed = hash_on(self._digest, self._descriptor, self._hashed, self._size())
        return self._digest.hexdigest()

    def truncate(self, position: int) -> None:
        """Forget the rows after `position`.

        Raises:
            RunError: The file is shorter, or no row ends there, or the disk refuses.
        """
        _check_end(self._descriptor, self.path, position)
        if position != self._size():
            self._cut(position)

    def _cut(self, position: int) -> None:
        try:
            os.ftruncate(self._descriptor, position)
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunError(f"cannot cut {self.path} back: {error.strerror}") from error
        self._digest, self._hashed = hashlib.sha256(), 0

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a file, none if it does not exist; a half-written last row is left out.

    Raises:
        RunError: A line is no row, or the file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    try:
        with open_rows(path) as file:
            while data := next_rows(file, path):
                rows += parse_rows(data, path, len(rows) + 1)
    except FileNotFoundError:
        return []
    return rows


def check_prefix(path: Path, position: int, sha256: str | None) -> None:
    """Check that a file can be cut back to its first `position` bytes, and that they have this sha256 (None: any).

    Raises:
        RunError: It is missing, shorter, not what it was up to there, or cannot be written.
    """
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        if position:
            raise RunError(f"{path} is missing; the checkpoint was written with {position:,} bytes") from error
        return
    try:
        _whole_rows(descriptor, path)
        _check_end(descriptor, path, position)
        digest = hashlib.sha256()
        hash_on(digest, descriptor, 0, position)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise RunError(f"{path} was changed: its first {position:,} bytes are not those that the run wrote")
    finally:
        os.close(descriptor)


def _check_end(descriptor: int, path: Path, position: int) -> None:
    """Check that a row ends at `position`, which is a count of bytes."""
    size = os.fstat(descriptor).st_size
    if size < position:
        raise RunError(f"{path} has {size:,} bytes, {position:,} were expected: rows that were written are lost")
    if position and os.pread(descriptor, 1, position - 1) != b"\n":
        raise RunError(f"{path}: no row ends at byte {position:,}; the file was changed")


def _whole_rows(descriptor: int, path: Path, block: int = 1 << 16) -> int:
    """Bytes of an open file up to and with the last newline; a RunError if there is none for longer than any row is."""
    size = end = os.fstat(descriptor).st_size
    while end:
        if size - end > LONGEST_ROW:
            raise RunError(f"{path} ends in a line of more than {LONGEST_ROW:,} bytes; no row is as long")
        start = max(0, end - block)
        if (found := os.pread(descriptor, end - start, start).rfind(b"\n")) >= 0:
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
