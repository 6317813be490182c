"""NYUv2 and Cityscapes: segmentation, depth and surface normals.

Losses and metrics are those of MTAN (Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019), which the
surgery papers took over, as the published code of Nash-MTL and FAMO has them: `batches` is that code's number. mIoU and
pixel accuracy come from one confusion matrix over the split there too; depth errors and angles are means over batches,
and so is the median angle (a mean of the batches' medians). `pooled` is over all valid pixels of the split. Two things
are our choice: a batch without a valid pixel is left out (theirs would make the epoch NaN), and `pooled` mIoU averages
the classes that occur, in the labels or in the predictions (theirs, and so `batches`, is NaN as soon as one does not).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.contract import Meter, MetricSpec, Modes, Objective, Targets
from experiments_vision.delta import BASELINES, delta_m
from experiments_vision.errors import VisionError
from experiments_vision.objectives.averages import Averages, Histogram, both_modes, masked_median
from experiments_vision.tasks import TASKS

ANGLES = (11.25, 22.5, 30.0)
"""Degrees within which a normal counts as found."""

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


def defined(target_BCHW: Tensor) -> Tensor:
    """True for pixels with a label, [B, H, W]: their channels do not add up to zero, as published."""
    return target_BCHW.sum(1) != 0


def unit(normal_B3HW: Tensor) -> Tensor:
    """Normals of length 1; a zero vector stays one (the published division has no epsilon and gives NaN there)."""
    return F.normalize(normal_B3HW, dim=1)


class SegmentationMeter:
    """mIoU and pixel accuracy from a confusion matrix."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._counts: Tensor | None = None  # int64 [classes * classes + 1], truth first; the last are ignored pixels

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Take scores [B, C, H, W] and labels [B, H, W]; labels outside 0 to C - 1 are ignored."""
        truth_N, guess_N = target.flatten().long(), output.argmax(1).flatten()
        ignored_N = (truth_N < 0) | (truth_N >= self.classes)
        cell_N = (truth_N * self.classes + guess_N).masked_fill(ignored_N, self.classes**2)
        if self._counts is None:
            self._counts = torch.zeros(self.classes**2 + 1, dtype=torch.int64, device=cell_N.device)
        self._counts.scatter_add_(0, cell_N, torch.ones_like(cell_N))

    def compute(self) -> Modes:
        """Both modes from the one matrix; they differ where a class never occurs."""
        names = [spec.name for spec in SEGMENTATION]
        if self._counts is None:
            return both_modes(names, [math.nan, math.nan])
        matrix_CC = self._counts[:-1].cpu().double().view(self.classes, self.classes)
        hits_C = matrix_CC.diagonal()
        iou_C = hits_C / (matrix_CC.sum(0) + matrix_CC.sum(1) - hits_C)
        accuracy = float(hits_C.sum() / matrix_CC.sum())
        return both_modes(names, [float(iou_C.mean()), accuracy], [float(iou_C.nanmean()), accuracy])


class DepthMeter(Averages):
    """Absolute and relative error where depth is known."""

    def __init__(self) -> None:
        super().__init__([spec.name for spec in DEPTH])

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Take depth and truth, [B, 1, H, W], in the data's own unit."""
        known_B1HW = defined(target).unsqueeze(1)
        absolute = (output.float() - target).abs().masked_fill(~known_B1HW, 0.0)
        relative = absolute / target.masked_fill(~known_B1HW, 1.0)
        sums_2 = torch.stack([absolute.sum(dtype=torch.float64), relative.sum(dtype=torch.float64)])
        self.add(sums_2, known_B1HW.sum())


class NormalMeter:
    """Angles between normals, in degrees, and the share of pixels within `ANGLES`.

    The pooled median comes from a histogram of 36,000 bins: it is within 0.0025 degrees of the exact one.
    """

    def __init__(self) -> None:
        self._averages = Averages(("mean_angle", "within_11", "within_22", "within_30", "median_angle"))
        self._angles = Histogram(0.0, 180.0, 36_000)

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Take normals of any length and unit normals, [B, 3, H, W]; an angle that is NaN is within nothing."""
        cosine_BHW = (unit(output.float()) * target).sum(1)
        angle_N = cosine_BHW.clamp(-1, 1).acos().rad2deg().flatten()
        known_N = defined(target).flatten()
        sums = [angle_N.masked_fill(~known_N, 0.0).sum(dtype=torch.float64)]
        sums += [((angle_N < angle) & known_N).sum().double() for angle in ANGLES]
        self._angles.add(angle_N, known_N)
        count = known_N.sum()
        means = [total / count for total in sums]
        median = masked_median(angle_N, known_N).double()
        self._averages.add(torch.stack([*sums, torch.zeros_like(median)]), count, torch.stack([*means, median]))

    def compute(self) -> Modes:
        """The five metrics."""
        found = self._averages.compute()
        found["pooled"]["median_angle"] = self._angles.median()
        return found


class DenseMeter(Meter):
    """A meter for each task."""

    def __init__(self, tasks: Sequence[str], classes: int) -> None:
        meters: dict[str, SegmentationMeter | DepthMeter | NormalMeter] = {
            "segmentation": SegmentationMeter(classes),
            "depth": DepthMeter(),
            "normal": NormalMeter(),
        }
        self._meters = {task: meters[task] for task in tasks}

    def update(self, outputs: Sequence[Tensor], targets: Targets) -> None:
        """Take a batch."""
        for (task, meter), output in zip(self._meters.items(), outputs, strict=True):
            meter.update(output, targets[_LABELS[task]])

    def compute(self) -> Modes:
        """Both modes, all tasks' metrics."""
        found: Modes = {"batches": {}, "pooled": {}}
        for meter in self._meters.values():
            for mode, values in meter.compute().items():
                found[mode] |= values
        return found


_LOSSES = {"segmentation": segmentation_loss, "depth": depth_loss, "normal": normal_loss}
_LABELS = {"segmentation": "label", "depth": "depth", "normal": "normal"}


class DenseObjective(Objective):
    """The losses, meters and score of NYUv2 and Cityscapes."""

    dataset: ClassVar[str]

    def __init__(self, classes: int) -> None:
        """Take the number of labels of the segmentation, two at least."""
        if classes < 2:
            raise VisionError(f"classes={classes}: a segmentation tells two classes at least")
        self.classes = classes

    def losses(self, outputs: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """A scalar a task; no two share a node, so that each task's backward meets its own head only."""
        pairs = zip(self.tasks, outputs, strict=True)
        return [_LOSSES[task](output, targets[_LABELS[task]]) for task, output in pairs]

    def meter(self) -> Meter:
        """A fresh meter."""
        return DenseMeter(self.tasks, self.classes)

    def score(self, values: Mapping[str, float]) -> float:
        """Minus Delta-m against the published single-task results, over the metrics that `values` has."""
        metrics = [metric for metric in self.metrics if metric.name in values]
        return -delta_m(values, BASELINES[self.dataset], metrics)


class NYUv2(DenseObjective):
    """Targets `label` [B, H, W] (-1 ignored), `depth` [B, 1, H, W], `normal` [B, 3, H, W]."""

    dataset = "nyuv2"
    tasks = TASKS["nyuv2"]
    metrics = (*SEGMENTATION, *DEPTH, *NORMAL)

    def __init__(self, classes: int = 13) -> None:
        super().__init__(classes)


class Cityscapes(DenseObjective):
    """Targets `label` [B, H, W] (-1 ignored) and `depth` [B, 1, H, W], the inverse depth.

    The relative error is not in per cent though the numbers look like it: inverse depths near zero make it large.
    """

    dataset = "cityscapes"
    tasks = TASKS["cityscapes"]
    metrics = (*SEGMENTATION, DEPTH[0], MetricSpec("rel_error", "depth", False, "Rel Err"))

    def __init__(self, classes: int = 7) -> None:
        super().__init__(classes)
