"""Several learners, one update: each sees a share of every task's batch and moves a slice of the parameters.

Surgery isn't linear, so directions can't be averaged. What can be averaged is the Jacobian, and a method works on any
slice of its columns once it is shown the Gramian of the whole. So N learners

1. make the Jacobian [K, P] of their own shares,
2. exchange it so that each holds the mean of one slice of the columns, [K, P / N]    (`scatter`),
3. add up their slices' Gramians, K x K numbers                                       (`total`),
4. run the method, the clip and Adam on their slice,
5. pass the moved parameters round                                                    (`gather`).

A learner sends about (K + 1) P numbers an update; adding up whole Jacobians would send 2 K P, and every learner would
hold all of the method's and the optimizer's state.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor


class Whole:
    """One learner: its share is the batch, its slice all columns.

    Attributes:
        size: Learners, N.
        rank: The number of this one.
    """

    size = 1
    rank = 0

    def columns(self, parameters: int) -> slice:
        """This learner's slice of P columns; slices of the learners follow each other, and the last may be shorter."""
        return slice(0, parameters)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the learners; the same bits for all of them."""
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the learners; the same bits for all of them."""
        return tensor

    def norm(self, slice_C: Tensor) -> Tensor:
        """The length of the vector that the learners hold slices of."""
        norm: Tensor = torch.linalg.vector_norm(slice_C)
        return norm

    def scatter(self, rows: Tensor) -> Tensor:
        """Each learner's rows [..., P] -> their mean over the learners at this one's columns, [..., C].

        The answer may be memory that the next call of the same shape takes again.
        """
        return rows

    def gather(self, slices: Tensor, parameters: int) -> Tensor:
        """The learners' slices [..., C] -> [..., P]."""
        return slices


class Sharded(Whole):
    """N learners in a process group, which must all make the same calls.

    Sums are made in the order of the ranks, whatever arrives first, so that an update is a function of its inputs.

    Args:
        group: The processes; gloo for CPU tensors, NCCL for CUDA ones.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)
        self._group = group
        self._rooms: dict[tuple[torch.Size, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def columns(self, parameters: int) -> slice:
        """See `Whole`."""
        return columns_of(self.rank, self.size, parameters)

    def total(self, tensor: Tensor) -> Tensor:
        """See `Whole`."""
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tensor, group=self._group)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """See `Whole`."""
        return self.total(tensor) / self.size

    def norm(self, slice_C: Tensor) -> Tensor:
        """See `Whole`."""
        return self.total(torch.linalg.vector_norm(slice_C).square()).sqrt()

    def scatter(self, rows: Tensor) -> Tensor:
        """See `Whole`."""
        parameters = rows.shape[-1]
        out, came = self._room(rows)
        for rank, part in enumerate(out):
            columns = columns_of(rank, self.size, parameters)
            part[..., : columns.stop - columns.start].copy_(rows[..., columns])
        dist.all_to_all_single(came, out, group=self._group)
        # Not `came.sum(0)`: that may add in another order for another shape.
        mean = came[0]
        for part in came[1:]:
            mean += part
        mean /= self.size
        own = self.columns(parameters)
        return mean[..., : own.stop - own.start]

    def gather(self, slices: Tensor, parameters: int) -> Tensor:
        """See `Whole`."""
        width = _width(self.size, parameters)
        padded = slices.new_zeros(*slices.shape[:-1], width)
        padded[..., : slices.shape[-1]].copy_(slices)
        parts = list(padded.new_empty(self.size, *padded.shape).unbind())
        dist.all_gather(parts, padded, group=self._group)
        return torch.cat(parts, dim=-1)[..., :parameters]

    def _room(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What is sent and what comes, [N, ..., width] each; fresh pages would cost as much as filling them."""
        key = rows.shape, rows.dtype, rows.device
        if key not in self._rooms:
            shape = (self.size, *rows.shape[:-1], _width(self.size, rows.shape[-1]))
            self._rooms[key] = rows.new_zeros(shape), rows.new_empty(shape)
        return self._rooms[key]


def columns_of(rank: int, size: int, parameters: int) -> slice:
    """One learner's slice of P columns: all of one width, but for the last ones."""
    width = _width(size, parameters)
    return slice(min(rank * width, parameters), min((rank + 1) * width, parameters))


def _width(size: int, parameters: int) -> int:
    return math.ceil(parameters / size)
