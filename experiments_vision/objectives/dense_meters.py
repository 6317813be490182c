"""Metrics of dense prediction, as the published code of Nash-MTL and FAMO defines them.

`batches` is that code's number. mIoU and pixel accuracy come from one confusion matrix over the split there too; depth
errors and angles are means over batches, and so is the median angle (a mean of the batches' medians). `pooled` is
over all valid pixels of the split. Two things are our choice: a batch without a valid pixel is left out (theirs would
make the epoch NaN), and `pooled` mIoU averages the classes that occur, in the labels or in the predictions (theirs, and
so `batches`, is NaN as soon as one of the classes does not occur).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments_vision.objectives.accumulate import Averages, Histogram, masked_median

ANGLES = (11.25, 22.5, 30.0)
"""Degrees within which a normal counts as found."""

Values = dict[str, float]


class TaskMeter(ABC):
    """The metrics of one task."""

    @abstractmethod
    def update(self, output: Tensor, target: Tensor) -> None:
        """Takes a batch."""

    @abstractmethod
    def compute(self) -> tuple[Values, Values]:
        """By `batches` and `pooled`."""


def defined(target_BCHW: Tensor) -> Tensor:
    """Where a pixel has a label: its channels do not add up to zero; [B, H, W], as published."""
    return target_BCHW.sum(1) != 0


def unit(normal_B3HW: Tensor) -> Tensor:
    """Normals of length 1; a zero vector stays one (the published division has no epsilon and gives NaN there)."""
    return F.normalize(normal_B3HW, dim=1)


class SegmentationMeter(TaskMeter):
    """mIoU and pixel accuracy from a confusion matrix."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._counts: Tensor | None = None  # int64 [classes * classes + 1], truth first; the last are ignored pixels

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Takes scores [B, C, H, W] and labels [B, H, W]; labels outside 0 to C - 1 are ignored."""
        truth_N, guess_N = target.flatten().long(), output.argmax(1).flatten()
        ignored_N = (truth_N < 0) | (truth_N >= self.classes)
        cell_N = (truth_N * self.classes + guess_N).masked_fill(ignored_N, self.classes**2)
        if self._counts is None:
            self._counts = torch.zeros(self.classes**2 + 1, dtype=torch.int64, device=cell_N.device)
        self._counts.scatter_add_(0, cell_N, torch.ones_like(cell_N))

    def compute(self) -> tuple[Values, Values]:
        """Both modes from the one matrix; they differ where a class never occurs."""
        if self._counts is None:
            return ({"miou": math.nan, "pixel_accuracy": math.nan},) * 2
        matrix_CC = self._counts[:-1].cpu().double().view(self.classes, self.classes)
        hits_C = matrix_CC.diagonal()
        iou_C = hits_C / (matrix_CC.sum(0) + matrix_CC.sum(1) - hits_C)
        accuracy = float(hits_C.sum() / matrix_CC.sum())
        published = {"miou": float(iou_C.mean()), "pixel_accuracy": accuracy}
        return published, published | {"miou": float(iou_C.nanmean())}


class DepthMeter(TaskMeter):
    """Absolute and relative error where depth is known."""

    def __init__(self) -> None:
        self._averages = Averages()

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Takes depth and truth, [B, 1, H, W], in the data's own unit."""
        known_B1HW = defined(target).unsqueeze(1)
        absolute = (output.float() - target).abs().masked_fill(~known_B1HW, 0.0)
        relative = absolute / target.masked_fill(~known_B1HW, 1.0)
        sums_2 = torch.stack([absolute.sum(dtype=torch.float64), relative.sum(dtype=torch.float64)])
        self._averages.add(sums_2, known_B1HW.sum())

    def compute(self) -> tuple[Values, Values]:
        """`abs_error` and `rel_error`."""
        batches, pooled = self._averages.compute(2)
        names = ("abs_error", "rel_error")
        return dict(zip(names, batches, strict=True)), dict(zip(names, pooled, strict=True))


class NormalMeter(TaskMeter):
    """Angles between normals, in degrees, and the share of pixels within `ANGLES`.

    The pooled median comes from a histogram of 36,000 bins: it is within 0.0025 degrees of the exact one.
    """

    NAMES = ("mean_angle", "within_11", "within_22", "within_30", "median_angle")

    def __init__(self) -> None:
        self._averages = Averages()
        self._angles = Histogram(0.0, 180.0, 36_000)

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Takes normals of any length and unit normals, [B, 3, H, W]; an angle that is NaN is within nothing."""
        cosine_BHW = (unit(output.float()) * target).sum(1)
        angle_N = cosine_BHW.clamp(-1, 1).acos().rad2deg().flatten()
        known_N = defined(target).flatten()
        sums = [angle_N.masked_fill(~known_N, 0.0).sum(dtype=torch.float64)]
        sums += [((angle_N < angle) & known_N).sum().double() for angle in ANGLES]
        self._angles.add(angle_N, known_N)
        count = known_N.sum()
        means = [total / count for total in sums]
        median = masked_median(angle_N, known_N).double()
        self._averages.add_batch_means(
            torch.stack([*sums, torch.zeros_like(median)]), count, torch.stack([*means, median])
        )

    def compute(self) -> tuple[Values, Values]:
        """The five metrics."""
        batches, pooled = self._averages.compute(len(self.NAMES))
        pooled[-1] = self._angles.median()
        return dict(zip(self.NAMES, batches, strict=True)), dict(zip(self.NAMES, pooled, strict=True))
