"""CelebA's two text files, read line by line, with every fault of theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments_vision.contract import Split
from experiments_vision.data.source import Fault
from experiments_vision.tasks import TASKS

ATTRIBUTES = len(TASKS["celeba"])
_PARTITION: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}
_SIGNS = {"1": True, "-1": False}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a plain file name: no way out of the folder


@dataclass
class Attributes:
    """`list_attr_celeba.txt`: a count, the names of the attributes, then a picture a line with 40 times 1 or -1.

    Attributes:
        rows: A picture's bool [40]; None where its line is wrong.
        faults: What is wrong, with the line.
    """

    rows: dict[str, npt.NDArray[np.bool_] | None] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Partition:
    """`list_eval_partition.txt`: a picture a line with 0 (train), 1 (val) or 2 (test).

    Attributes:
        splits: A picture's split; None where its line is wrong.
        lines: Where a picture is named.
        faults: What is wrong, with the line.
    """

    splits: dict[str, Split | None] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_attributes(path: Path) -> Attributes:
    """Reads the attributes; what is wrong is in `faults`."""
    found = Attributes()
    lines = _lines(path, found.faults)
    _, count = next(lines, (1, ""))
    _, header = next(lines, (2, ""))
    if found.faults:
        return found
    names = header.split()
    if len(names) != ATTRIBUTES:
        found.faults.append(Fault(f"{path}:2", f"names {len(names)} attributes; expected {ATTRIBUTES}"))
    elif tuple(names) != TASKS["celeba"]:  # the tables would give the wrong names to the tasks
        found.faults.append(Fault(f"{path}:2", "names other attributes than the published, or in another order"))
    pictures = 0
    for number, line in lines:
        pictures += 1
        name, *values = line.split()
        problem = _name_problem(name, name in found.rows)
        if problem is None and len(values) != ATTRIBUTES:
            problem = f"{name} has {len(values)} attributes; expected {ATTRIBUTES}"
        if problem is None and not _SIGNS.keys() >= set(values):
            strange = next(value for value in values if value not in _SIGNS)
            problem = f"{name} has an attribute {strange[:20]!r}; expected 1 or -1"
        if problem is None:
            found.rows[name] = np.array([_SIGNS[value] for value in values])
        else:
            found.faults.append(Fault(f"{path}:{number}", problem))
            found.rows.setdefault(name, None)
    if count.strip() != str(pictures):
        what = f"counts {count.strip()[:20]!r} pictures; {pictures} lines follow"
        found.faults.append(Fault(f"{path}:1", what))
    return found


def read_partition(path: Path) -> Partition:
    """Reads the splits; what is wrong is in `faults`."""
    found = Partition()
    for number, line in _lines(path, found.faults):
        name, *values = line.split()
        problem = _name_problem(name, name in found.splits)
        if problem is None and (len(values) != 1 or values[0] not in _PARTITION):
            problem = f"{name} is in {' '.join(values)[:20]!r}; expected 0 (train), 1 (val) or 2 (test)"
        if problem is None:
            found.splits[name] = _PARTITION[values[0]]
        else:
            found.faults.append(Fault(f"{path}:{number}", problem))
            found.splits.setdefault(name, None)
        found.lines.setdefault(name, number)
    return found


def _lines(path: Path, faults: list[Fault]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without empty ones behind the second."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:  # strange bytes fail as what they stand for
            for number, line in enumerate(file, start=1):
                if number <= 2 or line.strip():
                    yield number, line
    except FileNotFoundError:
        faults.append(Fault(str(path), "missing"))
    except OSError as error:
        faults.append(Fault(str(path), f"cannot be read: {error.strerror}"))


def _name_problem(name: str, seen: bool) -> str | None:
    if not _NAME.fullmatch(name):
        return f"{name[:40]!r} is no file name"
    return f"{name} is named twice" if seen else None
