"""The data sets by name, and which one a run trains on. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mtrl_surgery.cli.words import PATH


@dataclass
class DataConfig:
    """Which data, from where."""

    name: Annotated[str, "a data set: `python -m experiments_vision datasets` lists them"] = "multidigits"
    data_dir: Annotated[
        str | None, PATH, "the folder with the files in their published layout; multidigits needs none"
    ] = None
    labels: Annotated[
        str, "Cityscapes: folder of the label maps, label_2 | label_7 | label_19 | label (LibMTL's name for 7 classes)"
    ] = "label_7"
    augment: Annotated[bool, "scale, crop and flip NYUv2 and Cityscapes as published; no other set is augmented"] = True
    validation: Annotated[
        float, "held out of training where the set has no validation split: a share below 1, or a count; 0: none"
    ] = 0.0
    limit: Annotated[int | None, "the first n examples of every split, for trials; null: all"] = None
    seed: Annotated[int, "of the augmentation; left out: the run's. What is held out is the same in every run"] = 0


@dataclass(frozen=True)
class DatasetEntry:
    """What to know of a data set before it is loaded.

    `paper` says who made it, and the form of it that is read here; `needs_data_dir`, whether it is read from files that
    one must get first; `source` is `module:class` of its `DataSource`.
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
