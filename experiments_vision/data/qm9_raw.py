"""QM9's three raw files, read line by line: the molecules as flat arrays, and what is wrong with the files.

torch-geometric's `QM9` reads them with rdkit, but tells it to perceive nothing: bonds are those of the file, no atom is
aromatic or hybridised. So this plain reader of the V2000 tables finds the same, to the bit, without rdkit.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments_vision.data.source import Fault, progress

SDF, CSV, SKIPPED = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"
RAW_FILES = (SDF, CSV, SKIPPED)
COLUMNS = (
    "mol_id", "A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv",
    "u0_atom", "u298_atom", "h298_atom", "g298_atom",
)  # fmt: skip
ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
MAX_ATOMS = 29
PUBLISHED_MOLECULES, PUBLISHED_SKIPPED = 133_885, 3_054
_BOND_TYPES = 4  # single, double, triple, aromatic
_HEADER_LINES = 9  # above the first entry of uncharacterized.txt
_HUGE = 1e30  # near the end of float32
_EVERY = 256  # molecules between two looks at the clock


class Molecules(NamedTuple):
    """M molecules, one behind the other."""

    values_MC: NDArray[np.float32]  # the csv's 19 numbers, in its order and units (Hartree, kcal/mol)
    first_atom_M1: NDArray[np.int64]  # where each molecule's atoms begin, and the end
    element_N: NDArray[np.uint8]  # atomic numbers
    pos_N3: NDArray[np.float32]  # Angstrom
    first_bond_M1: NDArray[np.int64]  # where each molecule's bonds begin, and the end
    bonds_L3: NDArray[np.uint8]  # start and end, counted from 0 within the molecule, and type (0 single ... 3 aromatic)
    kept_S: NDArray[np.int64]  # the molecules that `uncharacterized.txt` does not name, rising


class _DamagedError(Exception):
    """A line of the sdf, by its number, that says something else than it should."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _fault(path: Path, what: object, line: int | None = None) -> Fault:
    return Fault(str(path) if line is None else f"{path}:{line}", str(what))


def read_raw(raw: Path) -> tuple[Molecules | None, list[Fault]]:
    """Read and check everything in the folder of the three files; stderr says how far it is.

    Returns:
        The molecules, or None if there are faults; and the faults.
    """
    faults = missing_files(raw)
    if faults:
        return None, faults
    names, values_MC = _read_csv(raw / CSV, faults)
    table = _Table()
    shown = progress("qm9", len(names), "molecules")
    record = 0
    for record, (line, lines) in enumerate(_records(raw / SDF), 1):
        try:
            title = lines[0].strip()
            if record <= len(names) and title != names[record - 1]:
                raise _DamagedError(line, f"the title is {title!r}, but {CSV} has {names[record - 1]!r} there")
            table.add(line, lines)
        except _DamagedError as error:
            faults.append(_fault(raw / SDF, f"molecule {record}: {error}", error.line))
        if record % _EVERY == 0:
            shown.update(record)
    shown.update(record)
    shown.close()
    if record != len(names):
        faults.append(_fault(raw / CSV, f"{len(names):,} rows, but {SDF} has {record:,} molecules"))
    if not record:
        faults.append(_fault(raw / SDF, "no molecules"))
    kept_S = _read_skipped(raw / SKIPPED, record, faults)
    return (None if faults else table.molecules(values_MC, kept_S)), faults


def missing_files(raw: Path) -> list[Fault]:
    """The raw files that are not there, or that this process may not read."""
    missing = [Fault(str(raw / file), "missing") for file in RAW_FILES if not (raw / file).is_file()]
    return missing or [
        Fault(str(raw / file), "may not be read") for file in RAW_FILES if not os.access(raw / file, os.R_OK)
    ]


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record's first line number and lines, with the terminator if it has one."""
    lines: list[str] = []
    first = 1
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            lines.append(line)
            if line.startswith("$$$$"):
                yield first, lines
                first += len(lines)
                lines = []
    if any(line.strip() for line in lines):
        yield first, lines


class _Table:
    """Grows by a record at a time."""

    def __init__(self) -> None:
        self._elements, self._positions, self._bonds = array("B"), array("f"), array("B")
        self._first_atom, self._first_bond = array("q", [0]), array("q", [0])

    def add(self, first: int, lines: list[str]) -> None:
        """Take a record: three header lines, counts, atoms, bonds, properties, M  END, data items, $$$$."""
        if not lines[-1].startswith("$$$$"):
            raise _DamagedError(first, "the record has no $$$$: the file is cut off")
        if len(lines) < 5:
            raise _DamagedError(first, "the record ends before its counts line")
        atoms, bonds = _counts(first + 3, lines[3])
        if len(lines) < 4 + atoms + bonds + 2:
            raise _DamagedError(first, f"{len(lines)} lines are too few for {atoms} atoms and {bonds} bonds")
        for number, line in enumerate(islice(lines, 4, 4 + atoms), 4):
            try:
                place = float(line[:10]), float(line[10:20]), float(line[20:30])
                self._elements.append(ELEMENTS[line[30:34].strip()])
            except (ValueError, KeyError):
                raise _DamagedError(first + number, f"no atom: {line.rstrip()!r}") from None
            if not _finite(place):
                raise _DamagedError(first + number, f"no finite position: {line.rstrip()!r}")
            self._positions.extend(place)
        for number, line in enumerate(islice(lines, 4 + atoms, 4 + atoms + bonds), 4 + atoms):
            try:
                start, end, kind = int(line[:3]), int(line[3:6]), int(line[6:9])
            except ValueError:
                raise _DamagedError(first + number, f"no bond: {line.rstrip()!r}") from None
            if not (1 <= start <= atoms and 1 <= end <= atoms and start != end and 1 <= kind <= _BOND_TYPES):
                what = f"a bond of type {kind} from atom {start} to {end}, of {atoms} atoms"
                raise _DamagedError(first + number, what)
            self._bonds.extend((start - 1, end - 1, kind - 1))
        _check_tail(first + 4 + atoms + bonds, lines[4 + atoms + bonds : -1])
        self._first_atom.append(len(self._elements))
        self._first_bond.append(len(self._bonds) // 3)

    def molecules(self, values_MC: NDArray[np.float32], kept_S: NDArray[np.int64]) -> Molecules:
        """All records so far, of which none may have raised."""
        atoms = np.array(self._first_atom, np.int64), np.array(self._elements, np.uint8)
        pos_N3 = np.array(self._positions, np.float32).reshape(-1, 3)
        bonds = np.array(self._first_bond, np.int64), np.array(self._bonds, np.uint8).reshape(-1, 3)
        return Molecules(values_MC, *atoms, pos_N3, *bonds, kept_S)


def _finite(values: Iterable[float]) -> bool:
    return all(-_HUGE < value < _HUGE for value in values)


def _counts(number: int, line: str) -> tuple[int, int]:
    try:
        atoms, bonds = int(line[:3]), int(line[3:6])
    except ValueError:
        raise _DamagedError(number, f"no counts of atoms and bonds: {line.rstrip()!r}") from None
    if not line.rstrip().endswith("V2000"):
        raise _DamagedError(number, f"the counts line does not end in V2000: {line.rstrip()!r}")
    if not 1 <= atoms <= MAX_ATOMS or bonds < 0:
        raise _DamagedError(number, f"{atoms} atoms and {bonds} bonds; QM9 has molecules of 1 to {MAX_ATOMS} atoms")
    return atoms, bonds


def _check_tail(number: int, tail: list[str]) -> None:
    """Check the lines behind the bonds: properties, M  END, data items."""
    end = next((place for place, line in enumerate(tail) if line.startswith("M  END")), None)
    for line in tail[:end]:
        if not line.startswith(("M  ", "A  ", "V  ", "G  ")):
            raise _DamagedError(number, f"neither a property nor M  END behind the bonds: {line.rstrip()!r}")
        number += 1
    if end is None:
        raise _DamagedError(number, "M  END is missing")
    after = next((line for line in tail[end + 1 :] if line.strip()), None)
    if after is not None and not after.startswith(">"):
        raise _DamagedError(number + 1, f"no $$$$ behind M  END, but {after.rstrip()!r}")


def _read_csv(path: Path, faults: list[Fault]) -> tuple[list[str], NDArray[np.float32]]:
    """Names and numbers; a bad row's numbers are left out, its name is kept so that the rows below still fit."""
    names: list[str] = []
    values = array("d")
    with path.open(encoding="ascii", errors="replace") as file:
        header = tuple(next(file, "").strip().split(","))
        if header != COLUMNS:
            faults.append(_fault(path, f"the header is {','.join(header)!r}, not {','.join(COLUMNS)!r}", 1))
        for number, line in enumerate(file, 2):
            name, *fields = line.rstrip("\r\n").split(",")
            names.append(name)
            try:
                if len(fields) != len(COLUMNS) - 1:
                    raise ValueError(f"{len(fields) + 1} columns, not {len(COLUMNS)}")
                row = [float(field) for field in fields]
                if not _finite(row):
                    raise ValueError("a value is not finite")
                values.extend(row)
            except ValueError as error:
                faults.append(_fault(path, error, number))
    return names, np.array(values, np.float32).reshape(-1, len(COLUMNS) - 1)


def _read_skipped(path: Path, molecules: int, faults: list[Fault]) -> NDArray[np.int64]:
    """The indices that the file does not name; each of its entries begins with one, counted from 1."""
    with path.open(encoding="ascii", errors="replace") as file:
        lines = file.read().splitlines()
    if len(lines) < _HEADER_LINES + 1:
        faults.append(_fault(path, f"{len(lines)} lines, but {_HEADER_LINES} head the list and one follows it"))
    keep_M = np.ones(molecules, bool)
    entries = lines[_HEADER_LINES:-1]
    for number, line in enumerate(entries, _HEADER_LINES + 1):
        first = next(iter(line.split()), "")
        index = int(first) if first.isdecimal() else None
        if index is None:
            faults.append(_fault(path, f"no index: {line!r}", number))
        elif not 1 <= index <= molecules:
            faults.append(_fault(path, f"index {index} is not among the {molecules:,} molecules", number))
        elif not keep_M[index - 1]:
            faults.append(_fault(path, f"index {index} was there before", number))
        else:
            keep_M[index - 1] = False
    last = next(iter(lines[-1].split()), "") if lines else ""
    if last.isdecimal():
        faults.append(_fault(path, "an index where the closing line should be: the file is cut off", len(lines)))
    if molecules == PUBLISHED_MOLECULES and len(entries) != PUBLISHED_SKIPPED:
        faults.append(_fault(path, f"{len(entries):,} entries, but the published file has {PUBLISHED_SKIPPED:,}"))
    return np.flatnonzero(keep_M).astype(np.int64)
