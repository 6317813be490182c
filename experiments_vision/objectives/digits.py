"""MultiDigits: two digits in one picture, each a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Objective, Targets
from experiments_vision.delta import mean
from experiments_vision.objectives.accumulate import Averages


class AccuracyMeter(Meter):
    """The share of digits that are told right: the mean over batches, and over examples."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._averages = Averages()

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Takes scores [B, 10] and labels [B] of each digit."""
        pairs = zip(self._tasks, outputs, strict=True)
        right_K = torch.stack([(output.argmax(1) == targets[task]).sum() for task, output in pairs])
        self._averages.add(right_K, torch.full_like(right_K, len(outputs[0])))

    def compute(self) -> dict[str, dict[str, float]]:
        """Both modes; NaN where no example was seen."""
        names = [f"accuracy_{task}" for task in self._tasks]
        batches, pooled = self._averages.compute(len(names))
        return {
            "batches": dict(zip(names, batches, strict=True)),
            "pooled": dict(zip(names, pooled, strict=True)),
        }


class MultiDigits(Objective):
    """Targets `left` and `right`, [B] each, 0 to 9; outputs are two times ten logits."""

    tasks = ("left", "right")
    metrics = (
        MetricSpec("accuracy_left", "left", True, "Left", 100),
        MetricSpec("accuracy_right", "right", True, "Right", 100),
    )

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """Cross entropy of each digit."""
        pairs = zip(self.tasks, outputs, strict=True)
        return [F.cross_entropy(output.float(), targets[task]) for task, output in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        return AccuracyMeter(self.tasks)

    def score(self, values: Mapping[str, float]) -> float:
        """The mean accuracy of the digits that `values` has."""
        return mean(values[metric.name] for metric in self.metrics if metric.name in values)
