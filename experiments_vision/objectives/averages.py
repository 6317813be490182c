"""Sums kept on the device, so that a meter's update never waits for it.

Every quantity is averaged twice. `batches` is the mean over batches of the batch's own mean, as in the papers' code; a
batch with nothing valid in it is left out. `pooled` divides the sum over the whole split by its count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from experiments_vision.contract import Modes


class Averages:
    """The two averages of M quantities, by their names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._state: Tensor | None = None  # float64 [4, M]: sum, count, sum of batch means, batches

    def add(self, sums_M: Tensor, count: Tensor, means_M: Tensor | None = None) -> None:
        """Take a batch's sums [M] and how many valid items they are of (a 0-d tensor, or [M]).

        `means_M` are the batch's own values, where one of them is no mean, such as a median.
        """
        means_M = (sums_M / count if means_M is None else means_M).double()
        sums_M = sums_M.double()
        count_M = count.double().expand_as(sums_M)
        valid_M = count_M > 0
        zero = torch.zeros((), dtype=torch.float64, device=sums_M.device)
        rows = [sums_M.where(valid_M, zero), count_M, means_M.where(valid_M, zero), valid_M.double()]
        batch_4M = torch.stack(rows)
        self._state = batch_4M if self._state is None else self._state + batch_4M

    def compute(self) -> Modes:
        """Both averages; NaN where nothing was valid. Waits for the device."""
        if self._state is None:
            return both_modes(self._names, [math.nan] * len(self._names))
        sums_M, count_M, means_M, batches_M = self._state.cpu()
        return both_modes(self._names, (means_M / batches_M).tolist(), (sums_M / count_M).tolist())


def both_modes(names: Sequence[str], batches: Sequence[float], pooled: Sequence[float] | None = None) -> Modes:
    """The numbers by mode and name; where only one list is given, both modes have the same."""
    values = {"batches": batches, "pooled": batches if pooled is None else pooled}
    return {mode: dict(zip(names, numbers, strict=True)) for mode, numbers in values.items()}


class Histogram:
    """Counts in fixed bins, for the median of more values than anybody wants to keep.

    The median of the binned values is at most half a bin from the median of the values themselves: each of the (one or
    two) middle values is taken at the middle of its own bin.
    """

    def __init__(self, low: float, high: float, bins: int) -> None:
        self.low, self.high, self.bins = low, high, bins
        self._counts: Tensor | None = None  # int64 [bins + 2]: then NaN, then what is not valid

    @property
    def error(self) -> float:
        """The greatest error of `median`."""
        return (self.high - self.low) / self.bins / 2

    def add(self, values_N: Tensor, valid_N: Tensor) -> None:
        """Take values [N] and which of them count [N]; values outside go to the first or last bin."""
        place_N = (values_N - self.low) * (self.bins / (self.high - self.low))
        bin_N = place_N.nan_to_num(0.0).clamp(0, self.bins - 1).long()
        bin_N = bin_N.masked_fill(values_N.isnan(), self.bins).masked_fill(~valid_N, self.bins + 1)
        if self._counts is None:
            self._counts = torch.zeros(self.bins + 2, dtype=torch.int64, device=values_N.device)
        self._counts.scatter_add_(0, bin_N, torch.ones_like(bin_N))

    def median(self) -> float:
        """The median of what was added, NaN if that was nothing or held a NaN. Waits for the device."""
        if self._counts is None:
            return math.nan
        *counts, nans, _ = self._counts.tolist()
        total = sum(counts)
        if total == 0 or nans:
            return math.nan
        below = torch.tensor(counts).cumsum(0)
        middle = torch.tensor([(total - 1) // 2, total // 2])
        bins = torch.searchsorted(below, middle, right=True).double()
        width = (self.high - self.low) / self.bins
        return float(self.low + (bins + 0.5).mean() * width)


def masked_median(values_N: Tensor, valid_N: Tensor) -> Tensor:
    """The median of the valid values, as NumPy's: the mean of the two in the middle; NaN if one is NaN.

    Shapes are fixed and nothing waits for the device. With nothing valid the result means nothing.
    """
    ordered_N = values_N.masked_fill(~valid_N, torch.inf).sort().values
    count = valid_N.sum()
    middle_2 = torch.stack([count - 1, count]).div(2, rounding_mode="floor").clamp(0, len(values_N) - 1)
    median = ordered_N.gather(0, middle_2).mean()
    return median.masked_fill((values_N.isnan() & valid_N).any(), torch.nan)
