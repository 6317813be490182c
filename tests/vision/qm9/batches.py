"""Batches of a small tree, as a loader makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments_vision.contract import Place, Split, Targets
from experiments_vision.data.qm9 import QM9Source
from experiments_vision.data.registry import DataConfig


def source(root: Path, **options: Any) -> QM9Source:
    return QM9Source(DataConfig("qm9", str(root), **options))


def batch(found: QM9Source, size: int, split: Split = "train") -> tuple[Any, Targets]:
    examples = found.dataset(split)
    return found.collate([examples[Place(0, index)] for index in range(size)])
