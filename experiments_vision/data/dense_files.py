"""The files of a tree of pictures: which there must be, and what one may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments_vision.data.source import Fault
from experiments_vision.errors import VisionError

_NUMBERED = re.compile(r"(0|[1-9]\d{0,8})\.npy", re.ASCII)


@dataclass(frozen=True)
class DenseField:
    """One kind of file.

    Attributes:
        name: What the target is called.
        channels: The last axis of [H, W, channels], or 0 for an array [H, W].
        classes: Number of labels, for a label map: whole numbers from -1 (no label) to classes - 1.
        low: Values below are suspicious.
        high: Values above are suspicious.
        folder: Where the files are, if it is not called like the target.
    """

    name: str
    channels: int = 0
    classes: int = 0
    low: float = -np.inf
    high: float = np.inf
    folder: str | None = None

    def path(self, split_folder: Path, number: int) -> Path:
        """The file of a picture."""
        return split_folder / (self.folder or self.name) / f"{number}.npy"


@dataclass(frozen=True)
class SplitFiles:
    """What there is in the folder of a split.

    Attributes:
        folder: The split's.
        count: Pictures, were nothing missing.
        files: Those that are there.
        faults: What is missing or does not belong there.
    """

    folder: Path
    count: int
    files: list[tuple[DenseField, Path]]
    faults: list[Fault]


def list_split(folder: Path, fields: tuple[DenseField, ...]) -> SplitFiles:
    """Finds the files of a split and the gaps in their numbers; opens none of them."""
    if not folder.is_dir():
        return SplitFiles(folder, 0, [], [Fault(str(folder), "missing: no such folder")])
    faults: list[Fault] = []
    numbers: dict[DenseField, list[int]] = {}
    for field in fields:
        place = folder / (field.folder or field.name)
        try:
            names = [entry.name for entry in place.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            beside = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
            there = f"; there are {', '.join(beside[:10])}" if beside else ""
            faults.append(Fault(str(place), f"missing: {error.strerror}{there}"))
            continue
        numbers[field] = sorted(int(name.removesuffix(".npy")) for name in names if _NUMBERED.fullmatch(name))
        strange = sorted(name for name in names if not _NUMBERED.fullmatch(name))
        faults += [Fault(str(place / name), "not used: no {number}.npy", fatal=False) for name in strange]
    count = max((found[-1] + 1 for found in numbers.values() if found), default=0)
    if numbers and not count:
        faults.append(Fault(str(folder), "empty: no {number}.npy in any folder"))
    for field, found in numbers.items():
        for first, last in _gaps(found, count):
            others = f", and all up to {last}.npy" if last > first else ""
            faults.append(Fault(str(field.path(folder, first)), f"missing{others}"))
    files = [(field, field.path(folder, number)) for field, found in numbers.items() for number in found]
    return SplitFiles(folder, count, files, faults)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array in a .npy file that a stranger wrote: numbers only, nothing unpickled, nothing larger than the file.

    Raises:
        VisionError: with the path, if the file is missing, damaged, cut short, or holds anything but real numbers.
    """
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise VisionError(f"{path}: missing") from error
    except OSError as error:
        raise VisionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged header can fail anywhere in NumPy's parser
        raise VisionError(f"{path}: damaged or cut short, or no .npy file of numbers: {error}") from error
    if mapped.dtype.kind not in "biuf":
        raise VisionError(f"{path}: wrong dtype: {mapped.dtype}; expected numbers")
    if beyond := path.stat().st_size - mapped.offset - mapped.nbytes:
        raise VisionError(f"{path}: damaged: {beyond:,} bytes behind the {mapped.nbytes:,} of its data")
    return np.array(mapped)


def read_field(field: DenseField, path: Path) -> tuple[npt.NDArray[Any], list[Fault]]:
    """A file's array, [H, W] or [H, W, C], and what is wrong with its values.

    Raises:
        VisionError: if it can't be read, or its dtype or shape is another.
    """
    array = read_npy(path)
    expected = f"[H, W, {field.channels}]" if field.channels else "[H, W]"
    shape_C = (field.channels,) if field.channels else ()
    if array.ndim != 2 + len(shape_C) or array.shape[2:] != shape_C or 0 in array.shape:
        raise VisionError(f"{path}: wrong shape: {list(array.shape)}; {field.name} is {expected}")
    if array.dtype.kind != "f" and not field.classes:
        raise VisionError(f"{path}: wrong dtype: {array.dtype}; {field.name} is of floating point")
    return array, list(_value_faults(field, path, array))


def _value_faults(field: DenseField, path: Path, array: npt.NDArray[Any]) -> Iterator[Fault]:
    low, high = array.min(), array.max()  # NaN if there is one: two passes see all that can be wrong
    if not (np.isfinite(low) and np.isfinite(high)):
        yield Fault(str(path), "out of range: has NaN or infinity")
    elif field.classes:
        if low < -1 or high >= field.classes:
            what = f"out of range: labels {low:g} to {high:g}; expected -1 (none) to {field.classes - 1}"
            yield Fault(str(path), what)
        elif array.dtype.kind == "f" and (array != np.rint(array)).any():
            yield Fault(str(path), "out of range: labels that are no whole numbers")
    elif low < field.low or high > field.high:
        what = f"values {low:g} to {high:g}; expected {field.low:g} to {field.high:g}"
        yield Fault(str(path), what, fatal=False)


def _gaps(numbers: list[int], count: int) -> Iterator[tuple[int, int]]:
    """First and last of every run of numbers below `count` that are not there; `numbers` rise."""
    expected = 0
    for number in [*numbers, count]:
        if number > expected:
            yield expected, number - 1
        expected = number + 1
