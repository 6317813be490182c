"""Files of a run folder, read as if a stranger had written them: a file that is none of ours is refused.

Everything that reads a run folder comes through here: no other file is opened than a regular one, so that nothing ever
waits for the other end of a pipe; content is limited in size and depth, and is plain: texts, numbers, lists and
mappings. `shapes` says what has to be in it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml


class RunError(ValueError):
    """A run folder, or a file in it, is not what it should be, or cannot be written."""


class CheckpointError(RunError):
    """A checkpoint cannot be written, or is not whole."""


MOST_BYTES = {".yaml": 1 << 21, ".json": 1 << 26}
"""Of a whole file, by its suffix; a checkpoint's state is the largest."""
LONGEST_ROW = 1 << 26
"""Bytes; a map of 500 tasks has a tenth of it."""
_DEEPEST = 64
_MOST_VALUES = 1_000_000
"""Counted as often as they are reached: an alias bomb is small as a file."""
_LARGEST = 10**300
"""No float holds much more."""

_FLAT = frozenset((str, int, float, bool, type(None)))
_DIGITS, _ENDLESS = bytes.maketrans(b"123456789", b"000000000"), b"0" * 300
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file; return its descriptor.

    Raises:
        FileNotFoundError: There is none of that name.
        RunError: It is something else, or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"cannot open {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RunError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'something')}, not a file")
    return descriptor


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_rows(path: Path) -> BinaryIO:
    """Open a file of rows; see `open_regular`."""
    return os.fdopen(open_regular(path), "rb")


def next_rows(file: BinaryIO, path: Path) -> bytes:
    """The whole lines that follow, up to `LONGEST_ROW` bytes of them; nothing at the end, or before a torn last line.

    Raises:
        RunError: The disk's own error, or a line that is longer.
    """
    start = file.tell()
    try:
        data = file.read(LONGEST_ROW)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    whole = data.rfind(b"\n") + 1
    if not whole and len(data) == LONGEST_ROW:
        raise RunError(f"{path} has a line of more than {LONGEST_ROW:,} bytes; no row is as long")
    file.seek(start + whole)
    return data[:whole]


def read_mapping(path: Path, any_text: bool = False) -> dict[str, Any]:
    """Read a whole JSON or YAML file, which must hold a mapping.

    With `any_text`, texts may hold halves of characters, which cannot be shown.

    Raises:
        RunError: It is missing, too large, no text, no JSON or YAML, or holds what no file of ours holds.
    """
    if not _encodes(str(path)):
        raise RunError(f"{str(path)!a}: the folder's name is no UTF-8 text, so that no report can name it")
    most = MOST_BYTES[path.suffix]
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise RunError(f"{path} has more than {most:,} bytes")
        text = data.decode("utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_LOADER)
    except RecursionError as error:
        raise RunError(f"cannot read {path}: it is nested too deeply") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"cannot read {path}: it is no UTF-8 text (byte {error.start})") from error
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:  # PyYAML trips over some tags itself
        if isinstance(error, RunError):
            raise
        raise RunError(f"cannot read {path}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not a mapping")
    check_plain(content, str(path), any_text)
    return content


def parse_rows(data: bytes, path: Path, first: int = 1) -> list[dict[str, Any]]:
    """Parse the rows of whole lines, the last of which may lack its newline.

    Raises:
        RunError: A line is no row; the message names it by `path` and its number, counted from `first`.
    """
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    rows: list[dict[str, Any]] | None
    try:
        rows = json.loads((b"[" + b",".join(lines) + b"]").decode())  # one call is twice as fast as one a line
    except (ValueError, RecursionError):
        rows = None
    if rows is None or len(rows) != len(lines) or not all(type(row) is dict for row in rows):
        rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, first)]
    # Half characters and endless numbers need a close look, which would double the time of reading.
    odd = b"\\u" in data or _ENDLESS in data.translate(_DIGITS)
    for number, row in enumerate(rows, first):
        if odd or not _FLAT.issuperset(map(type, row.values())):
            check_plain(row, f"{path}, line {number}")
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except RecursionError as error:
        raise RunError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise RunError(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise RunError(f"{where} is no row but a {type(row).__name__}")
    return row


def check_plain(content: Mapping[str, Any], where: str, any_text: bool = False) -> None:
    """Check that a mapping holds texts, numbers, lists and mappings alone, and no more of them than is sane.

    Raises:
        RunError: Says where, and what is wrong.
    """
    seen = 0
    inside: list[tuple[Any, int]] = [(content, 1)]
    while inside:
        value, depth = inside.pop()
        keys, below = (value.keys(), value.values()) if isinstance(value, dict) else ((), value)
        seen += len(value)
        if depth > _DEEPEST:
            raise RunError(f"{where} is nested more than {_DEEPEST} deep")
        if seen > _MOST_VALUES:
            raise RunError(f"{where} holds more than {_MOST_VALUES:,} values (does it refer to itself?)")
        for key in keys:
            if not isinstance(key, str):
                raise RunError(f"{where}: the key {key!r} is a {type(key).__name__}, not a text")
        for one in (*keys, *below):
            if isinstance(one, dict | list):
                inside.append((one, depth + 1))
            elif type(one) not in _FLAT:
                raise RunError(f"{where} holds a {type(one).__name__}; choices: text, number, true, false, null")
            elif type(one) is str and not any_text and not one.isascii() and not _encodes(one):
                raise RunError(f"{where} holds half a character: {one[:40]!a}")
            elif type(one) is int and not -_LARGEST < one < _LARGEST:
                raise RunError(f"{where} holds a number beyond all bounds")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
