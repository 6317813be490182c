"""NYUv2 and Cityscapes as the authors of MTAN prepared them (Liu et al., CVPR 2019): a .npy file a picture and kind.

`{train,val}/{image,label,depth,normal}/{i}.npy`, i from 0 without gaps. The folder `val` is what every paper tests on,
so here it is the split `test`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from experiments_vision.contract import Place, Split
from experiments_vision.data.augment import augment
from experiments_vision.data.config import DataConfig
from experiments_vision.data.dense_files import DenseField, list_split, read_field
from experiments_vision.data.scan import scan
from experiments_vision.data.source import DataSource, Example, Examples, Fault
from experiments_vision.errors import VisionError

_CITYSCAPES_CLASSES = {"label_2": 2, "label_7": 7, "label_19": 19, "label": 7}


class DenseSource(DataSource):
    """A tree of .npy files.

    `facts` has `classes`, the number of labels; a pixel without one has the label -1.

    Attributes:
        published: Examples in the folders `train` and `val`.
        size: Height and width of the published pictures.
        fields: What there is of every picture; the image comes first.
    """

    published: ClassVar[dict[str, int]]
    size: ClassVar[tuple[int, int]]
    fields: tuple[DenseField, ...]

    def check(self) -> list[Fault]:
        """Reads every file: names, dtype, shape, and that all values can mean something."""
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

    def dataset(self, split: Split) -> Examples:
        """`image` [3, H, W] float32 with `label` int64 [H, W], `depth` [1, H, W] and, for NYUv2, `normal` [3, H, W].

        Raises:
            VisionError: for a split that isn't there, or a file that is missing.
        """
        self._require(split)
        listing = list_split(self.root / ("val" if split == "test" else "train"), self.fields)
        self._intact(listing.faults)
        numbers: Sequence[int] = range(listing.count)
        if split != "test":
            train, held_out = self._hold_out(listing.count)
            numbers = train if split == "train" else held_out
        seed = self.config.seed if split == "train" and self.config.augment else None
        return DenseExamples(listing.folder, self.fields, self._limited(numbers), seed)


class NYUv2Source(DenseSource):
    """Indoor scenes: 13 classes, depth in metres, surface normals (Silberman et al., ECCV 2012)."""

    name = "nyuv2"
    published: ClassVar[dict[str, int]] = {"train": 795, "val": 654}
    size = (288, 384)

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.facts = {"classes": 13}
        self.fields = (
            DenseField("image", channels=3, low=0, high=1),
            DenseField("label", classes=13),
            DenseField("depth", channels=1, low=0),
            DenseField("normal", channels=3, low=-1, high=1),
        )


class CityscapesSource(DenseSource):
    """Street scenes: 7 classes (or 2, 19) and inverse depth (Cordts et al., CVPR 2016).

    Raises:
        VisionError: for `labels` that nobody published.
    """

    name = "cityscapes"
    published: ClassVar[dict[str, int]] = {"train": 2975, "val": 500}
    size = (128, 256)

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        if config.labels not in _CITYSCAPES_CLASSES:
            raise VisionError(f"labels={config.labels}: choose from {', '.join(_CITYSCAPES_CLASSES)}")
        classes = _CITYSCAPES_CLASSES[config.labels]
        self.facts = {"classes": classes}
        self.fields = (
            DenseField("image", channels=3, low=0, high=1),
            DenseField("label", classes=classes, folder=config.labels),
            DenseField("depth", channels=1, low=0),
        )


class DenseExamples(Examples):
    """Pictures of one folder, read when they are asked for.

    Args:
        folder: With a folder a field.
        fields: What to read.
        numbers: The files' numbers, in the order of the indices.
        seed: Of the augmentation; None for none.
    """

    def __init__(
        self, folder: Path, fields: tuple[DenseField, ...], numbers: Sequence[int], seed: int | None = None
    ) -> None:
        self._folder, self._fields, self._numbers, self._seed = folder, fields, numbers, seed
        first = fields[0].path(folder, numbers[0])
        self._size, self._first = read_field(fields[0], first)[0].shape[:2], first

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Place) -> Example:
        """Reads a picture's files; see `Examples`."""
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
        array, faults = read_field(field, path)
        for fault in faults:
            if fault.fatal:
                raise VisionError(str(fault))
        if array.shape[:2] != self._size:  # a batch could not be stacked
            raise VisionError(f"{path}: wrong shape: {array.shape}; {self._first} is {self._size[0]}x{self._size[1]}")
        return array


def _channels_first(array_HWC: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array_HWC, -1, 0), dtype=np.float32))


def _look(job: tuple[DenseField, Path]) -> tuple[tuple[int, ...] | None, list[Fault]]:
    """A file's height and width, and what is wrong with it."""
    field, path = job
    try:
        array, faults = read_field(field, path)
    except VisionError as error:
        return None, [Fault.of(path, error)]
    return array.shape[:2], faults
