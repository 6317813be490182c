"""CelebA, MultiDigits and QM9: tasks that ask for one number or one choice of every example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Modes, Objective, Targets
from experiments_vision.delta import BASELINES, delta_m
from experiments_vision.errors import VisionError
from experiments_vision.objectives.averages import Averages, both_modes
from experiments_vision.tasks import TASKS

IN_EV = ("homo", "lumo", "zpve", "u0_atom", "u298_atom", "h298_atom", "g298_atom")
"""Properties of QM9 in eV; their errors are reported in meV."""

_DIGITS = {"mu": 4, "alpha": 4, "r2": 4, "cv": 5}


class F1Meter(Meter):
    """Every attribute's F1 at probability 0.5, from counts over the whole split.

    The published code (FAMO) counts over the split too, so the modes agree up to its 1e-8 in each denominator. Without
    a positive label and without a positive guess F1 is 0, as theirs.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # int64 [3, K]: true positives, false positives, false negatives

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Take K logits [B] and labels [B, K] of 0 and 1."""
        guess_BK = torch.stack([output.flatten() for output in outputs], 1) > 0
        truth_BK = targets["attributes"] > 0.5
        counts = torch.stack([guess_BK & truth_BK, guess_BK & ~truth_BK, ~guess_BK & truth_BK]).sum(1)
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> Modes:
        """Both modes; NaN where no example was seen."""
        names = [metric.name for metric in CelebA.metrics]
        if self._counts is None:
            return both_modes(names, [float("nan")] * len(names))
        hits_K, alarms_K, misses_K = self._counts.cpu().double()
        precision_K, recall_K = hits_K / (hits_K + alarms_K + 1e-8), hits_K / (hits_K + misses_K + 1e-8)
        published_K = 2 * precision_K * recall_K / (precision_K + recall_K + 1e-8)
        exact_K = (2 * hits_K / (2 * hits_K + alarms_K + misses_K)).nan_to_num(0.0)
        return both_modes(names, published_K.tolist(), exact_K.tolist())


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
        return F1Meter()


class AccuracyMeter(Meter):
    """The share of digits that are told right: the mean over batches, and over examples."""

    def __init__(self) -> None:
        self._averages = Averages([metric.name for metric in MultiDigits.metrics])

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Take scores [B, 10] and labels [B] of each digit."""
        pairs = zip(MultiDigits.tasks, outputs, strict=True)
        right_K = torch.stack([(output.argmax(1) == targets[task]).sum() for task, output in pairs])
        self._averages.add(right_K, torch.full_like(right_K, len(outputs[0])))

    def compute(self) -> Modes:
        """Both modes; NaN where no example was seen."""
        return self._averages.compute()


class MultiDigits(Objective):
    """Targets `left` and `right`, [B] each, 0 to 9; outputs are two times ten logits."""

    tasks = TASKS["multidigits"]
    metrics = tuple(MetricSpec(f"accuracy_{task}", task, True, task.capitalize(), 100) for task in TASKS["multidigits"])

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """Cross entropy of each digit."""
        pairs = zip(self.tasks, outputs, strict=True)
        return [F.cross_entropy(output.float(), targets[task]) for task, output in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        return AccuracyMeter()


class AbsoluteErrorMeter(Meter):
    """Mean absolute errors in the properties' own units, meV for eV.

    The published code (Nash-MTL) adds up over examples, so both modes are the mean over examples.
    """

    def __init__(self, unit_K: Tensor) -> None:
        self._unit_K, self._averages = unit_K, Averages([metric.name for metric in QM9.metrics])

    @torch.no_grad()
    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Take K standardised predictions [B] and truths [B, K]."""
        truth_BK = targets["targets"]
        guess_BK = torch.stack([output.flatten() for output in outputs], 1)
        error_K = (guess_BK.float() - truth_BK).abs().sum(0, dtype=torch.float64)
        # The count is known to the host already: full_like is a fill, not a copy to the device.
        self._averages.add(error_K, torch.full_like(error_K, len(truth_BK)))

    def compute(self) -> Modes:
        """Both modes; NaN where no example was seen."""
        pooled = self._averages.compute()["pooled"]
        values = torch.tensor(list(pooled.values()), dtype=torch.float64) * self._unit_K
        return both_modes(list(pooled), values.tolist())


class QM9(Objective):
    """Targets `targets` [B, 11], standardised; outputs are 11 predictions [B] of them."""

    tasks = TASKS["qm9"]
    metrics = tuple(MetricSpec(f"mae_{name}", name, False, name, digits=_DIGITS.get(name, 2)) for name in TASKS["qm9"])

    def __init__(self, target_std_K: Tensor) -> None:
        """Take the standard deviations [11] that the targets were divided by, in the data's units; all above 0."""
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
        return AbsoluteErrorMeter(self._unit_K)

    def score(self, values: Mapping[str, float]) -> float:
        """Minus Delta-m against the published single-task results, over the metrics that `values` has."""
        metrics = [metric for metric in self.metrics if metric.name in values]
        return -delta_m(values, BASELINES["qm9"], metrics)
