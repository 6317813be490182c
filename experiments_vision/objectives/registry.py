"""Every data set's objective, by the data set's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from experiments_vision.contract import Objective
from experiments_vision.errors import VisionError
from experiments_vision.objectives.dense import Cityscapes, DenseObjective, NYUv2
from experiments_vision.objectives.per_example import QM9, CelebA, MultiDigits

OBJECTIVES: dict[str, type[Objective]] = {
    "nyuv2": NYUv2,
    "cityscapes": Cityscapes,
    "celeba": CelebA,
    "qm9": QM9,
    "multidigits": MultiDigits,
}


def make_objective(dataset: str, facts: Mapping[str, Any] | None = None) -> Objective:
    """The objective of a data set.

    Args:
        dataset: Its name.
        facts: Facts of the data source: `classes` of nyuv2 and cityscapes (left out: the published 13 and 7), and
            `target_std`, 11 standard deviations, which qm9 needs.

    Raises:
        VisionError: An unknown name, or a fact that is missing.
    """
    if dataset not in OBJECTIVES:
        raise VisionError(f"dataset={dataset} is unknown; choices: {', '.join(OBJECTIVES)}")
    kind, known = OBJECTIVES[dataset], facts or {}
    if kind is QM9:
        if "target_std" not in known:
            raise VisionError("dataset=qm9: the facts lack target_std, the standard deviations of the 11 targets")
        return QM9(known["target_std"])
    return kind(known["classes"]) if issubclass(kind, DenseObjective) and "classes" in known else kind()


def judge(dataset: str) -> Objective:
    """An objective for its metrics and its score alone, where no data is at hand."""
    return make_objective(dataset, {"target_std": torch.ones(len(QM9.tasks))})
