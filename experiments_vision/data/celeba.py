"""CelebA: faces and 40 attributes (Liu et al., ICCV 2015), at 64x64 as in FAMO (Liu et al., NeurIPS 2023).

`Img/img_align_celeba/*.jpg`, `Anno/list_attr_celeba.txt` (a count, the names of the attributes, then a picture a line
with 40 times 1 or -1), `Eval/list_eval_partition.txt` (a picture a line with 0 (train), 1 (val) or 2 (test)).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from experiments_vision.contract import Place, Split
from experiments_vision.data.source import DataSource, Example, Examples, Fault, scan
from experiments_vision.errors import VisionError
from experiments_vision.tasks import TASKS
from mtrl_surgery.shell import install

try:
    from PIL import Image
except ImportError as error:
    raise VisionError(f"celeba needs Pillow to read its pictures: {install()}") from error

SIDE: Final = 64
ATTRIBUTES = len(TASKS["celeba"])
_PUBLISHED: dict[Split, int] = {"train": 162_770, "val": 19_867, "test": 19_962}
_PUBLISHED_SIZE = (178, 218)  # width, height of an aligned picture
_PARTITION: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}
_SIGNS = {"1": True, "-1": False}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a plain file name: no way out of the folder

Value = TypeVar("Value")


class PictureList(Generic[Value]):
    """A text file that names a picture a line, below some lines of heading; `faults` has all that is wrong with it.

    `parse` gives the value that a line's words stand for, or raises a ValueError that says what is wrong with them.

    Attributes:
        heading: Those lines; empty ones where the file has none.
        values: By picture; None where its line is wrong.
        lines: Where a picture is named.
        pictures: Lines with a picture, right or wrong.
    """

    def __init__(self, path: Path, heading: int, parse: Callable[[list[str]], Value]) -> None:
        self.path, self.faults = path, list[Fault]()
        self.values: dict[str, Value | None] = {}
        self.lines: dict[str, int] = {}
        self.pictures = 0
        lines: list[str] = []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")  # strange bytes are strange words
        except FileNotFoundError:
            self.faults.append(Fault(str(path), "missing"))
        except OSError as error:
            self.faults.append(Fault(str(path), f"cannot be read: {error.strerror}"))
        self.heading = [*lines, *[""] * heading][:heading]
        for number, line in enumerate(lines[heading:], heading + 1):
            if line.strip():
                self.pictures += 1
                self._take(number, *line.split(), parse=parse)

    def _take(self, number: int, name: str, *words: str, parse: Callable[[list[str]], Value]) -> None:
        value: Value | None = None
        problem = None if _NAME.fullmatch(name) else f"{name[:40]!r} is no file name"
        if problem is None and name in self.values:
            problem = f"{name} is named twice"
        if problem is None:
            try:
                value = parse(list(words))
            except ValueError as error:
                problem = f"{name} {error}"
        if problem is not None:
            self.faults.append(Fault(f"{self.path}:{number}", problem))
        self.values.setdefault(name, value)
        self.lines.setdefault(name, number)


def _signs(words: list[str]) -> npt.NDArray[np.bool_]:
    if len(words) != ATTRIBUTES:
        raise ValueError(f"has {len(words)} attributes; expected {ATTRIBUTES}")
    strange = next((word for word in words if word not in _SIGNS), None)
    if strange is not None:
        raise ValueError(f"has an attribute {strange[:20]!r}; expected 1 or -1")
    return np.array([_SIGNS[word] for word in words])


def _split(words: list[str]) -> Split:
    if len(words) != 1 or words[0] not in _PARTITION:
        raise ValueError(f"is in {' '.join(words)[:20]!r}; expected 0 (train), 1 (val) or 2 (test)")
    return _PARTITION[words[0]]


class CelebASource(DataSource):
    """Faces with 40 yes-or-no attributes: `image` [3, 64, 64] in [0, 1] with `attributes` float32 [40] of 0 and 1."""

    name = "celeba"
    has_validation = True

    def check(self) -> list[Fault]:
        """Read both lists and decode every picture that they name."""
        splits, faults = self._partition.values, self._list_faults()
        if not self._images.is_dir():
            return [*faults, Fault(str(self._images), "missing: no such folder")]
        on_disk = {entry.name for entry in self._images.iterdir() if not entry.name.startswith(".")}
        for name, number in self._partition.lines.items():
            if splits[name] and name not in on_disk:
                faults.append(Fault(str(self._images / name), f"missing: {self._partition.path}:{number} names it"))
        unused = sorted(on_disk - splits.keys())
        faults += [Fault(str(self._images / name), "not used: in no split", fatal=False) for name in unused]
        for found in scan(self.name, [self._images / name for name in sorted(on_disk & splits.keys())], _look):
            faults += found
        return faults

    def _examples(self, split: Split) -> Examples:
        self._intact(self._list_faults())
        if not self._images.is_dir():
            raise VisionError(f"{self._images}: missing: no such folder")
        names = [name for name, where in self._partition.values.items() if where == split]
        names = [names[index] for index in self._limited(range(len(names)))]
        rows = [row for name in names if (row := self._attributes.values[name]) is not None]
        return Faces(self._images, names, np.stack(rows))

    @property
    def _images(self) -> Path:
        return self.root / "Img" / "img_align_celeba"

    @cached_property  # a second or two for the published lists, and there are three splits
    def _attributes(self) -> PictureList[npt.NDArray[np.bool_]]:
        found = PictureList(self.root / "Anno" / "list_attr_celeba.txt", 2, _signs)
        if not found.faults or found.pictures:
            count, names = found.heading[0].strip(), found.heading[1].split()
            if len(names) != ATTRIBUTES:
                found.faults.append(Fault(f"{found.path}:2", f"names {len(names)} attributes; expected {ATTRIBUTES}"))
            elif tuple(names) != TASKS["celeba"]:  # the tables would give the wrong names to the tasks
                what = "names other attributes than the published, or in another order"
                found.faults.append(Fault(f"{found.path}:2", what))
            if count != str(found.pictures):
                what = f"counts {count[:20]!r} pictures; {found.pictures} lines follow"
                found.faults.append(Fault(f"{found.path}:1", what))
        return found

    @cached_property
    def _partition(self) -> PictureList[Split]:
        return PictureList(self.root / "Eval" / "list_eval_partition.txt", 0, _split)

    def _list_faults(self) -> list[Fault]:
        """The faults of the two lists, and between them if both are there to compare."""
        attributes, partition = self._attributes, self._partition
        faults = attributes.faults + partition.faults
        if not attributes.values or not partition.values:
            empty = [found.path for found in (attributes, partition) if not found.values and not found.faults]
            return faults + [Fault(str(path), "empty: names no picture") for path in empty]
        faults += [
            Fault(f"{partition.path}:{number}", f"{name} has no line in {attributes.path}")
            for name, number in partition.lines.items()
            if partition.values[name] and name not in attributes.values
        ]
        alone = len(attributes.values.keys() - partition.values.keys())
        if alone:
            faults.append(Fault(str(attributes.path), f"names {alone:,} pictures that are in no split", fatal=False))
        counts = Counter(partition.values.values())
        for split, published in _PUBLISHED.items():
            if counts[split] != published:
                what = f"{split} has {counts[split]:,} pictures; published {published:,}"
                faults.append(Fault(str(partition.path), what, fatal=counts[split] == 0))
        return faults


class Faces(Examples):
    """The named pictures of a folder, decoded when they are asked for, with their attributes (bool [N, 40])."""

    def __init__(self, folder: Path, names: Sequence[str], attributes_NA: npt.NDArray[np.bool_]) -> None:
        self._folder, self._names = folder, np.array(names)  # an array, as workers would copy a list bit by bit
        self._attributes_NA = attributes_NA

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: Place) -> Example:
        """Decode a picture."""
        picture = read_picture(self._folder / str(self._names[place.index]))
        resized_HWC = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        image_CHW = torch.from_numpy(np.ascontiguousarray(resized_HWC.transpose(2, 0, 1), dtype=np.float32)) / 255
        return image_CHW, {"attributes": torch.from_numpy(self._attributes_NA[place.index].astype(np.float32))}


def read_picture(path: Path) -> Image.Image:
    """A decoded jpg, as RGB; VisionError names one that is missing or damaged."""
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
