"""NYUv2 and Cityscapes as the authors of MTAN prepared them (Liu et al., CVPR 2019): a .npy file a picture and kind.

`{train,val}/{image,label,depth,normal}/{i}.npy`, i from 0 without gaps. The folder `val` is what every paper tests on,
so here it is the split `test`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from experiments_vision.contract import Place, Split
from experiments_vision.data.augment import augment
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import DataSource, Example, Examples, Fault, scan
from experiments_vision.errors import VisionError

_NUMBERED = re.compile(r"(0|[1-9]\d{0,8})\.npy", re.ASCII)


@dataclass(frozen=True)
class DenseField:
    """One kind of file."""

    name: str  # what the target is called
    channels: int = 0  # the last axis of [H, W, channels], or 0 for an array [H, W]
    classes: int = 0  # of a label map, which holds whole numbers from -1 (no label) to classes - 1
    low: float = -np.inf  # values below are suspicious
    high: float = np.inf
    folder: str | None = None  # where the files are, if it is not called like the target

    def path(self, split_folder: Path, number: int) -> Path:
        """The file of a picture."""
        return split_folder / (self.folder or self.name) / f"{number}.npy"


@dataclass(frozen=True)
class SplitFiles:
    """The files in a split's folder, the number of pictures if none were missing, and the faults."""

    count: int
    files: list[tuple[DenseField, Path]]
    faults: list[Fault]


def list_split(folder: Path, fields: tuple[DenseField, ...]) -> SplitFiles:
    """Find the files of a split and the gaps in their numbers; opens none of them."""
    if not folder.is_dir():
        return SplitFiles(0, [], [Fault(str(folder), "missing: no such folder")])
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
    return SplitFiles(count, files, faults)


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


def read_field(field: DenseField, path: Path) -> npt.NDArray[Any]:
    """A file's array, [H, W] or [H, W, C].

    Raises:
        VisionError: if it can't be read, its dtype or shape is another, or its values can mean nothing.
    """
    array = read_npy(path)
    channels = (field.channels,) if field.channels else ()
    if array.ndim != 2 + len(channels) or array.shape[2:] != channels or 0 in array.shape:
        expected = ", ".join(["H", "W", *map(str, channels)])
        raise VisionError(f"{path}: wrong shape: {list(array.shape)}; {field.name} is [{expected}]")
    if array.dtype.kind != "f" and not field.classes:
        raise VisionError(f"{path}: wrong dtype: {array.dtype}; {field.name} is of floating point")
    low, high = array.min(), array.max()  # NaN if there is one: two passes see all that can be wrong
    if not (np.isfinite(low) and np.isfinite(high)):
        raise VisionError(f"{path}: out of range: has NaN or infinity")
    if field.classes and (low < -1 or high >= field.classes):
        known = f"expected -1 (none) to {field.classes - 1}"
        raise VisionError(f"{path}: out of range: labels {low:g} to {high:g}; {known}")
    if field.classes and array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise VisionError(f"{path}: out of range: labels that are no whole numbers")
    return array


def _gaps(numbers: list[int], count: int) -> Iterator[tuple[int, int]]:
    """First and last of every run of numbers below `count` that are not there; `numbers` rise."""
    expected = 0
    for number in [*numbers, count]:
        if number > expected:
            yield expected, number - 1
        expected = number + 1


class DenseSource(DataSource):
    """A tree of .npy files: `image` [3, H, W] float32 with `label` int64 [H, W], `depth` [1, H, W] and maybe `normal`.

    `facts` has `classes`, the number of labels; a pixel without one has the label -1. VisionError for `labels` that
    nobody published.
    """

    published: ClassVar[dict[str, int]]  # examples in the folders `train` and `val`
    size: ClassVar[tuple[int, int]]  # height and width of the published pictures
    classes: ClassVar[dict[str, int]]  # folders of label maps, with the number of classes
    others: ClassVar[tuple[DenseField, ...]]  # what there is of every picture besides image and label

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        folder = config.labels if len(self.classes) > 1 else "label"
        if folder not in self.classes:
            raise VisionError(f"labels={folder}: choose from {', '.join(self.classes)}")
        self.facts = {"classes": self.classes[folder]}
        label = DenseField("label", classes=self.classes[folder], folder=folder)
        self.fields = (DenseField("image", channels=3, low=0, high=1), label, *self.others)

    def check(self) -> list[Fault]:
        """Read every file: names, dtype, shape, and that all values can mean something."""
        faults: list[Fault] = []
        jobs: list[tuple[DenseField, Path]] = []
        for folder, published in self.published.items():
            listing = list_split(self.root / folder, self.fields)
            faults += listing.faults
            jobs += listing.files
            if listing.count not in (0, published):
                what = f"{listing.count:,} pictures; published {published:,}"
                faults.append(Fault(str(self.root / folder), what, fatal=False))
        sizes: dict[Path, tuple[int, ...]] = {}
        for (_, path), (size, found) in zip(jobs, scan(self.name, jobs, _look), strict=True):
            faults += found
            if size is not None:
                sizes[path] = size
        return faults + self._size_faults(sizes)

    def _size_faults(self, sizes: dict[Path, tuple[int, ...]]) -> list[Fault]:
        """One size for the whole tree: that of most files."""
        if not sizes:
            return []
        (height, width), _ = Counter(sizes.values()).most_common(1)[0]
        faults = [
            Fault(str(path), f"wrong shape: {size[0]}x{size[1]}; most files have {height}x{width}")
            for path, size in sizes.items()
            if size != (height, width)
        ]
        if (height, width) != self.size:
            what = f"pictures of {height}x{width}; the published tables are of {self.size[0]}x{self.size[1]}"
            faults.append(Fault(str(self.root), what, fatal=False))
        return faults

    def _examples(self, split: Split) -> Examples:
        folder = self.root / ("val" if split == "test" else "train")
        listing = list_split(folder, self.fields)
        self._intact(listing.faults)
        numbers: Sequence[int] = range(listing.count)
        if split != "test":
            train, held_out = self._hold_out(listing.count)
            numbers = train if split == "train" else held_out
        seed = self.config.seed if split == "train" and self.config.augment else None
        return DenseExamples(folder, self.fields, self._limited(numbers), seed)


class NYUv2Source(DenseSource):
    """Indoor scenes: 13 classes, depth in metres, surface normals (Silberman et al., ECCV 2012)."""

    name = "nyuv2"
    published: ClassVar[dict[str, int]] = {"train": 795, "val": 654}
    size = (288, 384)
    classes: ClassVar[dict[str, int]] = {"label": 13}
    others = (DenseField("depth", channels=1, low=0), DenseField("normal", channels=3, low=-1, high=1))


class CityscapesSource(DenseSource):
    """Street scenes: 7 classes (or 2, 19) and inverse depth (Cordts et al., CVPR 2016)."""

    name = "cityscapes"
    published: ClassVar[dict[str, int]] = {"train": 2975, "val": 500}
    size = (128, 256)
    classes: ClassVar[dict[str, int]] = {"label_2": 2, "label_7": 7, "label_19": 19, "label": 7}
    others = (DenseField("depth", channels=1, low=0),)


class DenseExamples(Examples):
    """The pictures of these numbers in a split's folder, read when they are asked for; `seed` is the augmentation's."""

    def __init__(
        self, folder: Path, fields: tuple[DenseField, ...], numbers: Sequence[int], seed: int | None = None
    ) -> None:
        self._folder, self._fields, self._numbers, self._seed = folder, fields, numbers, seed
        first = fields[0].path(folder, numbers[0])
        self._size, self._first = read_field(fields[0], first).shape[:2], first

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Place) -> Example:
        """Read a picture's files."""
        number = self._numbers[place.index]
        arrays = {field.name: self._read(field, number) for field in self._fields}
        image_CHW = _channels_first(arrays.pop("image"))
        targets = {"label": torch.from_numpy(arrays.pop("label").astype(np.int64))}
        targets |= {name: _channels_first(array) for name, array in arrays.items()}
        if self._seed is None:
            return image_CHW, targets
        return augment(image_CHW, targets, self._seed, place)

    def _read(self, field: DenseField, number: int) -> npt.NDArray[Any]:
        path = field.path(self._folder, number)
        array = read_field(field, path)
        if array.shape[:2] != self._size:  # a batch could not be stacked
            raise VisionError(f"{path}: wrong shape: {array.shape}; {self._first} is {self._size[0]}x{self._size[1]}")
        return array


def _channels_first(array_HWC: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array_HWC, -1, 0), dtype=np.float32))


def _look(job: tuple[DenseField, Path]) -> tuple[tuple[int, ...] | None, list[Fault]]:
    """A file's height and width, and what is wrong with it."""
    field, path = job
    try:
        array = read_field(field, path)
    except VisionError as error:
        return None, [Fault.of(path, error)]
    low, high = array.min(), array.max()
    if field.classes or (low >= field.low and high <= field.high):
        return array.shape[:2], []
    what = f"values {low:g} to {high:g}; expected {field.low:g} to {field.high:g}"
    return array.shape[:2], [Fault(str(path), what, fatal=False)]
