"""The data sets by name, and which one a run trains on. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mtrl_surgery.cli.words import PATH


@dataclass
class DataConfig:
    """The data set, and the folder of its files."""

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
    """The facts of a data set before it is loaded."""

    summary: str
    paper: str  # who made it, and the form of it that is read here
    licence: str
    source: str  # `module:class` in this room, of its `DataSource`
    needs_data_dir: bool = True  # it is read from files that one must get first


DATASETS: dict[str, DatasetEntry] = {
    "nyuv2": DatasetEntry(
        "indoor scenes 288x384: 13 classes, depth, surface normals",
        "Silberman et al., ECCV 2012; as .npy files by the authors of MTAN (Liu et al., CVPR 2019)",
        "research; see the pages of its makers",
        "dense:NYUv2Source",
    ),
    "cityscapes": DatasetEntry(
        "street scenes 128x256: 7 classes (or 2, 19), inverse depth",
        "Cordts et al., CVPR 2016; as .npy files by the authors of MTAN (Liu et al., CVPR 2019)",
        "non-commercial, after registration with its makers",
        "dense:CityscapesSource",
    ),
    "celeba": DatasetEntry(
        "202,599 faces at 64x64: 40 attributes",
        "Liu et al., ICCV 2015",
        "non-commercial research",
        "celeba:CelebASource",
    ),
    "qm9": DatasetEntry(
        "small molecules: 11 properties",
        "Ramakrishnan et al., Scientific Data 2014; the 11 properties of Nash-MTL (Navon et al., ICML 2022)",
        "see docs/vision_data.md",
        "qm9:QM9Source",
    ),
    "multidigits": DatasetEntry(
        "two overlaid handwritten digits 12x12: left and right; needs no download",
        "Alpaydin and Kaynak, UCI 1998, from scikit-learn; overlaid like MultiMNIST (Sabour et al., NeurIPS 2017)",
        "CC BY 4.0",
        "multidigits:MultiDigitsSource",
        needs_data_dir=False,
    ),
}
