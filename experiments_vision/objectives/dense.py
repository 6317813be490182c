"""NYUv2 and Cityscapes: segmentation, depth and surface normals.

Losses and metrics are those of MTAN (Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019), which the
surgery papers took over; `dense_meters` says how each metric is averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Objective, Targets, VisionError
from experiments_vision.delta import BASELINES, delta_m
from experiments_vision.objectives.dense_meters import (
    DepthMeter,
    NormalMeter,
    SegmentationMeter,
    TaskMeter,
    defined,
    unit,
)

SEGMENTATION = (
    MetricSpec("miou", "segmentation", True, "mIoU", 100),
    MetricSpec("pixel_accuracy", "segmentation", True, "Pix Acc", 100),
)
DEPTH = (
    MetricSpec("abs_error", "depth", False, "Abs Err", digits=4),
    MetricSpec("rel_error", "depth", False, "Rel Err", digits=4),
)
NORMAL = (
    MetricSpec("mean_angle", "normal", False, "Mean"),
    MetricSpec("median_angle", "normal", False, "Median"),
    MetricSpec("within_11", "normal", True, "11.25", 100),
    MetricSpec("within_22", "normal", True, "22.5", 100),
    MetricSpec("within_30", "normal", True, "30", 100),
)


def segmentation_loss(output: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of log-probabilities [B, C, H, W] under labels [B, H, W]; -1 is ignored.

    The mean over labelled pixels; 0 if there is none (the published code gives NaN).
    """
    label_BHW = target.long()
    total = F.nll_loss(output.float(), label_BHW, ignore_index=-1, reduction="sum")
    return total / (label_BHW != -1).sum().clamp(min=1)


def depth_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error [B, 1, H, W] where depth is known; 0 if it is nowhere (published: NaN)."""
    known_B1HW = defined(target).unsqueeze(1)
    error = (output.float() - target).abs().masked_fill(~known_B1HW, 0.0)
    return error.sum() / known_B1HW.sum().clamp(min=1)


def normal_loss(output: Tensor, target: Tensor) -> Tensor:
    """1 - mean cosine of normals [B, 3, H, W] where they are known; 1, without a gradient, if nowhere (published: NaN).

    A model that normalises its output already, as the published ones do, loses nothing by the second time.
    """
    known_BHW = defined(target)
    cosine_BHW = (unit(output.float()) * target).sum(1).masked_fill(~known_BHW, 0.0)
    return 1 - cosine_BHW.sum() / known_BHW.sum().clamp(min=1)


class DenseMeter(Meter):
    """A meter for each task."""

    def __init__(self, meters: Mapping[str, TaskMeter], labels: Mapping[str, str]) -> None:
        self._meters, self._labels = meters, labels

    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Takes a batch."""
        for (task, meter), output in zip(self._meters.items(), outputs, strict=True):
            meter.update(output, targets[self._labels[task]])

    def compute(self) -> dict[str, dict[str, float]]:
        """Both modes, all tasks' metrics."""
        batches: dict[str, float] = {}
        pooled: dict[str, float] = {}
        for meter in self._meters.values():
            own_batches, own_pooled = meter.compute()
            batches |= own_batches
            pooled |= own_pooled
        return {"batches": batches, "pooled": pooled}


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "segmentation": segmentation_loss,
    "depth": depth_loss,
    "normal": normal_loss,
}
_LABELS = {"segmentation": "label", "depth": "depth", "normal": "normal"}


class DenseObjective(Objective):
    """What NYUv2 and Cityscapes share."""

    dataset: ClassVar[str]

    def __init__(self, classes: int) -> None:
        """Takes the number of labels of the segmentation.

        Raises:
            VisionError: Fewer than two.
        """
        if classes < 2:
            raise VisionError(f"classes={classes}: a segmentation tells two classes at least")
        self.classes = classes

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """A scalar a task; no two share a node, so that each task's backward meets its own head only."""
        pairs = zip(self.tasks, outputs, strict=True)
        return [_LOSSES[task](output, targets[_LABELS[task]]) for task, output in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        makers: dict[str, Callable[[], TaskMeter]] = {
            "segmentation": lambda: SegmentationMeter(self.classes),
            "depth": DepthMeter,
            "normal": NormalMeter,
        }
        return DenseMeter({task: makers[task]() for task in self.tasks}, _LABELS)

    def score(self, values: Mapping[str, float]) -> float:
        """Minus Delta-m against the published single-task results, over the metrics that `values` has."""
        metrics = [metric for metric in self.metrics if metric.name in values]
        return -delta_m(values, BASELINES[self.dataset], metrics)


class NYUv2(DenseObjective):
    """Targets `label` [B, H, W] (-1 ignored), `depth` [B, 1, H, W], `normal` [B, 3, H, W]."""

    dataset = "nyuv2"
    tasks = ("segmentation", "depth", "normal")
    metrics = (*SEGMENTATION, *DEPTH, *NORMAL)

    def __init__(self, classes: int = 13) -> None:
        super().__init__(classes)


class Cityscapes(DenseObjective):
    """Targets `label` [B, H, W] (-1 ignored) and `depth` [B, 1, H, W], the inverse depth.

    The relative error is not in per cent though the numbers look like it: inverse depths near zero make it large.
    """

    dataset = "cityscapes"
    tasks = ("segmentation", "depth")
    metrics = (*SEGMENTATION, DEPTH[0], MetricSpec("rel_error", "depth", False, "Rel Err"))

    def __init__(self, classes: int = 7) -> None:
        super().__init__(classes)
