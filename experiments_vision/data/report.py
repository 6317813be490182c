"""A check's faults as text: file by file, folder by folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from os.path import basename, dirname

from experiments_vision.data.source import Fault

_LINES = 50


def is_fatal(faults: Sequence[Fault]) -> bool:
    """True if training would fail, or mean something else."""
    return any(fault.fatal for fault in faults)


def report(name: str, faults: Sequence[Fault], lines: int = _LINES) -> str:
    """A summary of a data set's faults, then every folder with its count and its files, faults before warnings.

    At most so many lines of files are shown. Folders share them, so that one with many faults hides no other.
    """
    if not faults:
        return f"{name}: nothing wrong"
    ordered = sorted(faults, key=lambda one: (_natural(dirname(one.path)), not one.fatal, _natural(basename(one.path))))
    folders = [(folder, list(group)) for folder, group in groupby(ordered, lambda one: dirname(one.path))]
    text = [f"{name}: {_counts(faults)}"]
    left, hidden = lines, 0
    for number, (folder, group) in enumerate(folders):
        show = group[: -(-left // (len(folders) - number))]
        left -= len(show)
        if not show:
            hidden += len(group)
            continue
        text.append(f"{folder}: {_counts(group)}")
        text += [f"  {basename(one.path)}: {'' if one.fatal else 'warning: '}{one.what}" for one in show]
        if len(group) > len(show):
            text.append(f"  ... and {len(group) - len(show):,} more")
    if hidden:
        text.append(f"... and {hidden:,} more in other folders")
    return "\n".join(text)


def _natural(path: str) -> list[tuple[int, str]]:
    """Sorts 2.npy before 10.npy."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _counts(faults: Sequence[Fault]) -> str:
    fatal = sum(fault.fatal for fault in faults)
    numbers = {"fault": fatal, "warning": len(faults) - fatal}
    return ", ".join(f"{number:,} {noun}{'s' * (number > 1)}" for noun, number in numbers.items() if number)
