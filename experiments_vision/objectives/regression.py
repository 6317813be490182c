"""QM9: 11 properties of molecules, each a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Objective, Targets, VisionError
from experiments_vision.delta import BASELINES, delta_m
from experiments_vision.objectives.accumulate import Averages
from experiments_vision.tasks import TASKS

IN_EV = ("homo", "lumo", "zpve", "u0_atom", "u298_atom", "h298_atom", "g298_atom")
"""Properties in eV; their errors are reported in meV."""

_DIGITS = {"mu": 4, "alpha": 4, "r2": 4, "cv": 5}


class AbsoluteErrorMeter(Meter):
    """Mean absolute errors in the properties' own units, meV for eV.

    The published code (Nash-MTL) adds up over examples, so both modes are the mean over examples.
    """

    def __init__(self, names: Sequence[str], unit_K: Tensor) -> None:
        self._names = names
        self._unit_K = unit_K
        self._averages = Averages()

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Takes K standardised predictions [B] and truths [B, K]."""
        truth_BK = targets["targets"]
        guess_BK = torch.stack([output.flatten() for output in outputs], 1)
        error_K = (guess_BK.float() - truth_BK).abs().sum(0, dtype=torch.float64)
        # The count is known to the host already: full_like is a fill, not a copy to the device.
        self._averages.add(error_K, torch.full_like(error_K, len(truth_BK)))

    def compute(self) -> dict[str, dict[str, float]]:
        """Both modes; NaN where no example was seen."""
        _, pooled = self._averages.compute(len(self._names))
        values = (torch.tensor(pooled, dtype=torch.float64) * self._unit_K).tolist()
        named = dict(zip(self._names, values, strict=True))
        return {"batches": named, "pooled": dict(named)}


class QM9(Objective):
    """Targets `targets` [B, 11], standardised; outputs are 11 predictions [B] of them."""

    tasks = TASKS["qm9"]
    metrics = tuple(MetricSpec(f"mae_{name}", name, False, name, digits=_DIGITS.get(name, 2)) for name in TASKS["qm9"])

    def __init__(self, target_std_K: Tensor) -> None:
        """Takes the standard deviations [11] that the targets were divided by, in the data's units.

        Raises:
            VisionError: Not 11 positive numbers.
        """
        std_K = torch.as_tensor(target_std_K).detach().double().flatten().cpu()
        if len(std_K) != len(self.tasks) or not bool((std_K > 0).all() and std_K.isfinite().all()):
            raise VisionError(f"target_std={std_K.tolist()}: expected {len(self.tasks)} positive numbers")
        scale_K = [1000.0 if name in IN_EV else 1.0 for name in self.tasks]
        self._unit_K = std_K * torch.tensor(scale_K, dtype=torch.float64)

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """The mean squared error of each standardised target; no two share a node."""
        pairs = zip(outputs, targets["targets"].unbind(1), strict=True)
        return [F.mse_loss(output.flatten().float(), truth) for output, truth in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        return AbsoluteErrorMeter([metric.name for metric in self.metrics], self._unit_K)

    def score(self, values: Mapping[str, float]) -> float:
        """Minus Delta-m against the published single-task results, over the metrics that `values` has."""
        metrics = [metric for metric in self.metrics if metric.name in values]
        return -delta_m(values, BASELINES["qm9"], metrics)
