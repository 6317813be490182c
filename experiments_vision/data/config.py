"""Which data a run trains on; free of torch, so that a command line can be read without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DataConfig:
    """Which data, from where.

    Attributes:
        name: A data set of the registry.
        data_dir: The folder with the files in their published layout; not needed by `multidigits`.
        labels: Cityscapes only: the folder with the label maps, `label_2`, `label_7`, `label_19`, or `label` (LibMTL's
            name for the 7 classes).
        augment: Scale, crop and flip the training examples of NYUv2 and Cityscapes, as published; no other set is
            augmented.
        validation: Held out of the training split where the published set has no validation split: a share below 1, or
            a count. With 0 there is no `val` split.
        limit: The first n examples of every split, for trials; None for all.
        seed: Of the augmentation; `train` gives the run's. What is held out is the same in every run.
    """

    name: str = "multidigits"
    data_dir: str | None = None
    labels: str = "label_7"
    augment: bool = True
    validation: float = 0.0
    limit: int | None = None
    seed: int = 0
