"""The data sets by name. A set's module is loaded when it is asked for, so listing them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from experiments_vision.errors import VisionError

if TYPE_CHECKING:
    from experiments_vision.data.config import DataConfig
    from experiments_vision.data.source import DataSource


@dataclass(frozen=True)
class DatasetEntry:
    """What to know of a data set before it is loaded.

    Attributes:
        name: As in `dataset=...`.
        summary: In one line.
        paper: Who made it, and the form of it that is read here.
        licence: What its makers allow.
        needs_data_dir: Whether it is read from files that one must get first.
        source: `module:class` of its `DataSource`.
    """

    name: str
    summary: str
    paper: str
    licence: str
    needs_data_dir: bool
    source: str


_ENTRIES = (
    DatasetEntry(
        "nyuv2",
        "indoor scenes 288x384: 13 classes, depth, surface normals",
        "Silberman et al., ECCV 2012; as .npy files by the authors of MTAN (Liu et al., CVPR 2019)",
        "research; see the pages of its makers",
        True,
        "experiments_vision.data.dense:NYUv2Source",
    ),
    DatasetEntry(
        "cityscapes",
        "street scenes 128x256: 7 classes (or 2, 19), inverse depth",
        "Cordts et al., CVPR 2016; as .npy files by the authors of MTAN (Liu et al., CVPR 2019)",
        "non-commercial, after registration with its makers",
        True,
        "experiments_vision.data.dense:CityscapesSource",
    ),
    DatasetEntry(
        "celeba",
        "202,599 faces at 64x64: 40 attributes",
        "Liu et al., ICCV 2015",
        "non-commercial research",
        True,
        "experiments_vision.data.celeba:CelebASource",
    ),
    DatasetEntry(
        "qm9",
        "small molecules: 11 properties",
        "Ramakrishnan et al., Scientific Data 2014; the 11 properties of Nash-MTL (Navon et al., ICML 2022)",
        "see docs/vision_data.md",
        True,
        "experiments_vision.data.qm9:QM9Source",
    ),
    DatasetEntry(
        "multidigits",
        "two overlaid handwritten digits 12x12: left and right; needs no download",
        "Alpaydin and Kaynak, UCI 1998, from scikit-learn; overlaid like MultiMNIST (Sabour et al., NeurIPS 2017)",
        "CC BY 4.0",
        False,
        "experiments_vision.data.multidigits:MultiDigitsSource",
    ),
)

DATASETS: dict[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a name.

    Raises:
        VisionError: for an unknown one.
    """
    if name not in DATASETS:
        raise VisionError(f"dataset={name}: unknown; choose from {', '.join(DATASETS)}")
    return DATASETS[name]


def make_source(config: DataConfig) -> DataSource:
    """The source of `config.name`.

    Raises:
        VisionError: for an unknown name, a `data_dir` that is missing, or another value that makes no sense.
    """
    entry = find_dataset(config.name)
    if entry.needs_data_dir and config.data_dir is None:
        raise VisionError(
            f"data_dir=null: {entry.name} is read from files; give their folder (see docs/vision_data.md)"
        )
    if not entry.needs_data_dir and config.data_dir is not None:
        raise VisionError(f"data_dir={config.data_dir}: {entry.name} is read from no folder; leave it out")
    module, _, class_name = entry.source.partition(":")
    return cast("DataSource", getattr(import_module(module), class_name)(config))
