"""CelebA: 40 binary attributes, each a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Objective, Targets
from experiments_vision.delta import mean
from experiments_vision.tasks import TASKS


class F1Meter(Meter):
    """Every attribute's F1 at probability 0.5, from counts over the whole split.

    The published code (FAMO) counts over the split too, so the modes agree up to its 1e-8 in each denominator. Without
    a positive label and without a positive guess F1 is 0, as theirs.
    """

    def __init__(self, metrics: Sequence[MetricSpec]) -> None:
        self._names = [metric.name for metric in metrics]
        self._counts: Tensor | None = None  # int64 [3, K]: true positives, false positives, false negatives

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Takes K logits [B] and labels [B, K] of 0 and 1."""
        guess_BK = torch.stack([output.flatten() for output in outputs], 1) > 0
        truth_BK = targets["attributes"] > 0.5
        counts = torch.stack([guess_BK & truth_BK, guess_BK & ~truth_BK, ~guess_BK & truth_BK]).sum(1)
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> dict[str, dict[str, float]]:
        """Both modes; NaN where no example was seen."""
        if self._counts is None:
            nothing = dict.fromkeys(self._names, float("nan"))
            return {"batches": nothing, "pooled": dict(nothing)}
        hits_K, alarms_K, misses_K = self._counts.cpu().double()
        precision_K, recall_K = hits_K / (hits_K + alarms_K + 1e-8), hits_K / (hits_K + misses_K + 1e-8)
        published_K = 2 * precision_K * recall_K / (precision_K + recall_K + 1e-8)
        exact_K = (2 * hits_K / (2 * hits_K + alarms_K + misses_K)).nan_to_num(0.0)
        return {
            "batches": dict(zip(self._names, published_K.tolist(), strict=True)),
            "pooled": dict(zip(self._names, exact_K.tolist(), strict=True)),
        }


class CelebA(Objective):
    """Targets `attributes` [B, 40] of 0 and 1; outputs are 40 logits [B]."""

    tasks = TASKS["celeba"]
    metrics = tuple(MetricSpec(f"f1_{name}", name, True, name, 100) for name in TASKS["celeba"])

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """Binary cross entropy of each attribute; no two share a node, so that each backward meets its own head."""
        truth_KB = targets["attributes"].float().unbind(1)
        pairs = zip(outputs, truth_KB, strict=True)
        return [F.binary_cross_entropy_with_logits(output.flatten().float(), truth) for output, truth in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        return F1Meter(self.metrics)

    def score(self, values: Mapping[str, float]) -> float:
        """The mean F1 of the attributes that `values` has."""
        return mean(values[metric.name] for metric in self.metrics if metric.name in values)
