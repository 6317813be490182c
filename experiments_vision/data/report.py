"""A check's faults as text: file by file, folder by folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from experiments_vision.data.source import Fault

_LINES = 50


def is_fatal(faults: Sequence[Fault]) -> bool:
    """Whether training would fail, or mean something else."""
    return any(fault.fatal for fault in faults)


def report(name: str, faults: Sequence[Fault], lines: int = _LINES) -> str:
    """A summary, then every folder with its count and its files, faults before warnings.

    Args:
        name: The data set's.
        faults: What its check found.
        lines: How many files are shown at most. Folders share them, so that one with many faults hides no other.
    """
    if not faults:
        return f"{name}: nothing wrong"
    folders: dict[str, list[Fault]] = {}
    for fault in sorted(
        faults, key=lambda fault: (_natural(os.path.dirname(fault.path)), not fault.fatal, _file(fault))
    ):
        folders.setdefault(os.path.dirname(fault.path), []).append(fault)
    text = [f"{name}: {_counts(faults)}"]
    left, hidden = lines, 0
    for folders_left, (folder, group) in zip(range(len(folders), 0, -1), folders.items(), strict=True):
        show = group[: -(-left // folders_left)]
        left -= len(show)
        if show:
            text.append(f"{folder}: {_counts(group)}")
            text += [f"  {_line(fault)}" for fault in show]
            if len(group) > len(show):
                text.append(f"  ... and {len(group) - len(show):,} more")
        else:
            hidden += len(group)
    if hidden:
        text.append(f"... and {hidden:,} more in other folders")
    return "\n".join(text)


def _line(fault: Fault) -> str:
    return f"{os.path.basename(fault.path)}: {'' if fault.fatal else 'warning: '}{fault.what}"


def _file(fault: Fault) -> list[tuple[int, str]]:
    return _natural(os.path.basename(fault.path))


def _natural(path: str) -> list[tuple[int, str]]:
    """Sorts 2.npy before 10.npy."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _counts(faults: Sequence[Fault]) -> str:
    fatal = sum(fault.fatal for fault in faults)
    parts = [_count(fatal, "fault")] if fatal else []
    if fatal < len(faults):
        parts.append(_count(len(faults) - fatal, "warning"))
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
