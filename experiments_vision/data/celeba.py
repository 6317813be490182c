"""CelebA: faces and 40 attributes (Liu et al., ICCV 2015), at 64x64 as in FAMO (Liu et al., NeurIPS 2023).

`Img/img_align_celeba/*.jpg`, `Anno/list_attr_celeba.txt`, `Eval/list_eval_partition.txt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from experiments_vision.contract import Place, Split
from experiments_vision.data.celeba_lists import ATTRIBUTES, Attributes, Partition, read_attributes, read_partition
from experiments_vision.data.config import DataConfig
from experiments_vision.data.scan import scan
from experiments_vision.data.source import DataSource, Example, Examples, Fault
from experiments_vision.errors import VisionError
from mtrl_surgery.shell import install

try:
    from PIL import Image
except ImportError as error:
    raise VisionError(f"celeba needs Pillow to read its pictures: {install()}") from error

SIDE: Final = 64
_PUBLISHED: dict[Split, int] = {"train": 162_770, "val": 19_867, "test": 19_962}
_PUBLISHED_SIZE = (178, 218)  # width, height of an aligned picture


class CelebASource(DataSource):
    """Faces with 40 yes-or-no attributes.

    `facts` has `attributes`, their number.
    """

    name = "celeba"
    has_validation = True

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.facts = {"attributes": ATTRIBUTES}
        self._lists: tuple[Attributes, Partition] | None = None

    def check(self) -> list[Fault]:
        """Reads both lists and decodes every picture that they name."""
        attributes, partition = self._read_lists()
        faults = attributes.faults + partition.faults + self._list_faults(attributes, partition)
        if not self._images.is_dir():
            return [*faults, Fault(str(self._images), "missing: no such folder")]
        on_disk = {entry.name for entry in self._images.iterdir() if not entry.name.startswith(".")}
        for name, number in partition.lines.items():
            if partition.splits[name] and name not in on_disk:
                faults.append(Fault(str(self._images / name), f"missing: {self._partition}:{number} names it"))
        unused = on_disk - partition.splits.keys()
        faults += [Fault(str(self._images / name), "not used: in no split", fatal=False) for name in sorted(unused)]
        pictures = [self._images / name for name in sorted(on_disk & partition.splits.keys())]
        for found in scan(self.name, pictures, _look):
            faults += found
        return faults

    def dataset(self, split: Split) -> Examples:
        """`image` [3, 64, 64] in [0, 1] with `attributes` float32 [40] of 0 and 1.

        Raises:
            VisionError: for a split that isn't there, or a fault in the lists.
        """
        self._require(split)
        attributes, partition = self._read_lists()
        self._intact(attributes.faults + partition.faults + self._list_faults(attributes, partition))
        if not self._images.is_dir():
            raise VisionError(f"{self._images}: missing: no such folder")
        names = [name for name, where in partition.splits.items() if where == split]
        names = [names[index] for index in self._limited(range(len(names)))]
        rows = [row for name in names if (row := attributes.rows[name]) is not None]
        return Faces(self._images, names, np.stack(rows))

    @property
    def _images(self) -> Path:
        return self.root / "Img" / "img_align_celeba"

    @property
    def _annotations(self) -> Path:
        return self.root / "Anno" / "list_attr_celeba.txt"

    @property
    def _partition(self) -> Path:
        return self.root / "Eval" / "list_eval_partition.txt"

    def _read_lists(self) -> tuple[Attributes, Partition]:
        if self._lists is None:  # a second or two for the published lists, and there are three splits
            self._lists = read_attributes(self._annotations), read_partition(self._partition)
        return self._lists

    def _list_faults(self, attributes: Attributes, partition: Partition) -> list[Fault]:
        """What is wrong between the lists; nothing, where one of them is not there to compare."""
        if not attributes.rows or not partition.splits:
            empty = [] if attributes.rows or attributes.faults else [self._annotations]
            empty += [] if partition.splits or partition.faults else [self._partition]
            return [Fault(str(path), "empty: names no picture") for path in empty]
        faults = [
            Fault(f"{self._partition}:{number}", f"{name} has no line in {self._annotations}")
            for name, number in partition.lines.items()
            if partition.splits[name] and name not in attributes.rows
        ]
        alone = len(attributes.rows.keys() - partition.splits.keys())
        if alone:
            faults.append(Fault(str(self._annotations), f"names {alone:,} pictures that are in no split", fatal=False))
        counts = Counter(partition.splits.values())
        for split, published in _PUBLISHED.items():
            if counts[split] != published:
                what = f"{split} has {counts[split]:,} pictures; published {published:,}"
                faults.append(Fault(str(self._partition), what, fatal=counts[split] == 0))
        return faults


class Faces(Examples):
    """Pictures of one split, decoded when they are asked for.

    Args:
        folder: With the pictures.
        names: Of the pictures, in the order of the indices.
        attributes_NA: bool [N, 40].
    """

    def __init__(self, folder: Path, names: Sequence[str], attributes_NA: npt.NDArray[np.bool_]) -> None:
        self._folder, self._names = folder, np.array(names)  # an array, as workers would copy a list bit by bit
        self._attributes_NA = attributes_NA

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: Place) -> Example:
        """Decodes a picture; see `Examples`."""
        picture = read_picture(self._folder / str(self._names[place.index]))
        resized_HWC = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        image_CHW = torch.from_numpy(np.ascontiguousarray(resized_HWC.transpose(2, 0, 1), dtype=np.float32)) / 255
        return image_CHW, {"attributes": torch.from_numpy(self._attributes_NA[place.index].astype(np.float32))}


def read_picture(path: Path) -> Image.Image:
    """A decoded jpg, as RGB.

    Raises:
        VisionError: with the path, if it is missing or damaged.
    """
    try:
        with Image.open(path, formats=["JPEG"]) as picture:
            return picture.convert("RGB")
    except FileNotFoundError as error:
        raise VisionError(f"{path}: missing") from error
    except Exception as error:  # whatever Pillow's parsers come upon in damaged bytes
        raise VisionError(f"{path}: damaged: {error}") from error


def _look(path: Path) -> list[Fault]:
    try:
        size = read_picture(path).size
    except VisionError as error:
        return [Fault.of(path, error)]
    if size == _PUBLISHED_SIZE:
        return []
    return [
        Fault(str(path), f"is {size[0]}x{size[1]}; published {_PUBLISHED_SIZE[0]}x{_PUBLISHED_SIZE[1]}", fatal=False)
    ]
