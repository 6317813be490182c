"""The contracts between data, models and objectives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from experiments_vision.errors import VisionError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Targets = dict[str, Tensor]
"""A batch's labels by name: `{"label": [B, H, W], "depth": [B, 1, H, W], ...}`."""

MODES = ("batches", "pooled")
"""The two averages of a metric: over batches, as the papers' code has it, and over all pixels or examples at once."""

Modes = dict[str, dict[str, float]]
"""A split's metrics, by mode and name; NaN where nothing was valid."""


class Place(NamedTuple):
    """The example that a loader asks for. Augmentation depends on it and on the seed alone, never on a worker."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a place


class Outputs(NamedTuple):
    """A model's output for a batch."""

    tasks: list[Tensor]
    """A tensor a task, in the order of the model's `tasks`."""
    features: tuple[Tensor, ...]
    """The end of the trunk, for feature-level surgery; all shared parameters are behind these."""


class MultiTaskModel(nn.Module, ABC):
    """A network with one output a task; VisionError for no task, or one that is there twice."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        if not tasks or len(set(tasks)) < len(tasks):
            raise VisionError(f"tasks={list(tasks)}: give one at least, and each once")
        self.tasks = tuple(tasks)

    @abstractmethod
    def forward(self, inputs: Any) -> Outputs:
        """One pass for all tasks."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric of a task, and how rows and tables show it."""

    name: str  # unique within a benchmark, such as `miou`
    task: str
    higher_is_better: bool
    label: str  # heading of a table's column
    scale: float = 1.0  # a table multiplies the value by it (100 for per cent)
    digits: int = 2  # after the point, in a table


class Meter(ABC):
    """Adds up a split's metrics on the device; only `compute` waits for it."""

    @abstractmethod
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Take a batch's outputs in the order of the tasks."""

    @abstractmethod
    def compute(self) -> Modes:
        """All metrics in both modes."""


class Objective(ABC):
    """A benchmark's losses to train by, and metrics to judge by."""

    tasks: tuple[str, ...]
    metrics: tuple[MetricSpec, ...]

    @abstractmethod
    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """K scalars, one a task."""

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh meter."""

    def score(self, values: Mapping[str, float]) -> float:
        """One number to choose an epoch by, higher is better: the mean of the metrics that `values` has."""
        found = [values[metric.name] for metric in self.metrics if metric.name in values]
        return sum(found) / len(found) if found else math.nan
