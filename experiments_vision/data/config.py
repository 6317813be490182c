"""Which data a run trains on; free of torch, so that a command line can be read without it."""

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
