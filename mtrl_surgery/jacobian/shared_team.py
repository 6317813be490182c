"""Several processes, each with its shard of the batch: what they tell each other so that all fill the same `.grad`.

Before a step they exchange a report, so that all of them raise what one of them found wrong, and know which tasks and
parameters anyone has. What is added up after that has the same shape everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks, Gradients, summed
from mtrl_surgery.methods.config import MethodError

BUCKET_BYTES = 2**28
"""Tensors are added up together to about this size: few collectives, and no second copy of a whole Jacobian."""


@dataclass(frozen=True)
class Report:
    """What a process says of its shard.

    Attributes:
        error: What is wrong with it, or None.
        tasks: Those that have a loss, in increasing order.
        shapes: Of the shared parameters; must be the same everywhere.
        features: The features' shapes, where they are gathered; must be the same everywhere.
        shared: Whether a loss reaches each of the shared parameters.
        own: The same of each of the K tasks' own parameters.
    """

    error: str | None = None
    tasks: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    features: tuple[tuple[int, ...], ...] = ()
    shared: tuple[bool, ...] = ()
    own: tuple[tuple[bool, ...], ...] = ()


class Team:
    """One process alone: its shard is the whole batch.

    Attributes:
        tasks: Those that a process has.
        size: Processes.
    """

    size = 1

    def __init__(self, tasks: Sequence[int]) -> None:
        self.tasks = list(tasks)

    def losses(self, losses_K: Tensor) -> Tensor:
        """This process's losses -> the whole batch's, one for each of `tasks`."""
        return losses_K

    def weights(self, weights_K: Tensor) -> Tensor:
        """Weights of `tasks` -> what this process multiplies its own losses or rows with, for sums to be means."""
        return weights_K

    def share(self, blocks: Blocks) -> Blocks:
        """This process's rows, in place -> what it adds to the whole batch's rows, one for each of `tasks`."""
        return blocks

    def share_own(self, own: Sequence[Gradients]) -> Sequence[Gradients]:
        """The same for the tasks' own gradients, which stay a list a task of this process."""
        return own

    def sum(self, blocks: Blocks, own: Sequence[Gradients], rows: int = 1) -> tuple[Blocks, Sequence[Gradients]]:
        """Adds up all processes' blocks, which are emptied, and own gradients: a list for each of `tasks` then."""
        return blocks, own

    def sum_part(self, first: int, part: list[Block], sizes: Sequence[int]) -> list[Block]:
        """The whole batch's rows of some shared parameters, from the number `first` on."""
        return part

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        return tensor

    def gather(self, tensor: Tensor, axis: int) -> Tensor:
        """All processes' tensors, behind each other."""
        return tensor

    def mine(self, tensor: Tensor) -> Tensor:
        """This process's part of a vector that is gathered."""
        return tensor


class Processes(Team):
    """Several of them.

    Args:
        group: Of processes that all make the same calls.
        mine: This process's report.
        own: The K tasks' own parameters.
        like: A tensor on the Jacobian's device, in its dtype.

    Raises:
        MethodError: in every process, if one of them reports an error, or the reports do not fit together.
    """

    def __init__(
        self, group: dist.ProcessGroup, mine: Report, own: Sequence[Sequence[Tensor]] = (), like: Tensor | None = None
    ) -> None:
        reports = agree(group, mine)
        super().__init__(sorted({task for report in reports for task in report.tasks}))
        self.size = len(reports)
        self._group, self._rank = group, dist.get_rank(group)
        self._like = torch.zeros(()) if like is None else like
        self._counts = [sum(task in report.tasks for report in reports) for task in self.tasks]
        self._rows = [self.tasks.index(task) for task in mine.tasks]
        self._shared = [any(reached) for reached in zip(*(report.shared for report in reports), strict=True)]
        self._own: list[list[Tensor]] = []
        for task in self.tasks if own else ():
            reached = zip(*(report.own[task] for report in reports), strict=True)
            self._own.append([p for p, there in zip(own[task], reached, strict=True) if any(there)])

    def losses(self, losses_K: Tensor) -> Tensor:
        """See `Team`."""
        return self.total(self._spread(losses_K))

    def weights(self, weights_K: Tensor) -> Tensor:
        """See `Team`."""
        return torch.stack([weights_K[row] / self._counts[row] for row in self._rows])

    def share(self, blocks: Blocks) -> Blocks:
        """See `Team`."""
        for place, block in enumerate(blocks.blocks):
            blocks.blocks[place] = None if block is None else self._spread(block)
        return blocks

    def share_own(self, own: Sequence[Gradients]) -> Sequence[Gradients]:
        """See `Team`."""
        counts = [self._counts[row] for row in self._rows]
        return [[(p, grad / n) for p, grad in gradients] for n, gradients in zip(counts, own, strict=True)]

    def sum(self, blocks: Blocks, own: Sequence[Gradients], rows: int = 1) -> tuple[Blocks, Sequence[Gradients]]:
        """See `Team`; a parameter that only others reach gets zeros from here."""
        by_parameter = {id(p): grad for gradients in own for p, grad in summed(gradients, [])}
        everyones = [p for parameters in self._own for p in parameters]
        addends = [grad if (grad := by_parameter.get(id(p))) is not None else torch.zeros_like(p) for p in everyones]
        own_sums = iter(self._summed(addends))
        whole = Blocks(self._sum_blocks(0, blocks.blocks, blocks.sizes, rows), blocks.sizes)
        return whole, [[(p, next(own_sums)) for p in parameters] for parameters in self._own]

    def sum_part(self, first: int, part: list[Block], sizes: Sequence[int]) -> list[Block]:
        """See `Team`."""
        shares = self.share(Blocks(part, sizes)).blocks
        part.clear()
        return self._sum_blocks(first, shares, sizes, len(self.tasks))

    def total(self, tensor: Tensor) -> Tensor:
        """See `Team`."""
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tensor, group=self._group)
        return tensor

    def gather(self, tensor: Tensor, axis: int) -> Tensor:
        """See `Team`."""
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor, group=self._group)
        return torch.cat(parts, dim=axis)

    def mine(self, tensor: Tensor) -> Tensor:
        """See `Team`."""
        return tensor.chunk(self.size)[self._rank]

    def _spread(self, rows: Tensor) -> Tensor:
        """Rows of this process's tasks -> of `tasks`, each divided by how many processes have it."""
        if self._rows == list(range(len(self.tasks))) and len(set(self._counts)) == 1:
            return rows / self._counts[0]
        whole = rows.new_zeros(len(self.tasks), *rows.shape[1:])
        for place, row in enumerate(self._rows):
            whole[row] = rows[place] / self._counts[row]
        return whole

    def _sum_blocks(self, first: int, blocks: list[Block], sizes: Sequence[int], rows: int) -> list[Block]:
        reached = self._shared[first : first + len(sizes)]
        pairs = zip(blocks, sizes, reached, strict=True)
        addends = [self._like.new_zeros(rows, n) if block is None else block for block, n, there in pairs if there]
        blocks.clear()
        sums = iter(self._summed(addends))
        return [next(sums) if there else None for there in reached]

    def _summed(self, addends: list[Tensor]) -> list[Tensor]:
        """The sums over the processes; the addends are let go of on the way."""
        sums: list[Tensor] = []
        addends.reverse()
        while addends:
            bucket = [addends.pop()]
            room = BUCKET_BYTES - bucket[0].nbytes
            while addends and addends[-1].nbytes <= room and _same_kind(addends[-1], bucket[0]):
                bucket.append(addends.pop())
                room -= bucket[-1].nbytes
            shapes = [tensor.shape for tensor in bucket]
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            bucket.clear()
            dist.all_reduce(flat, group=self._group)
            parts = flat.split([shape.numel() for shape in shapes])
            sums += [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return sums


def _same_kind(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and first.device == second.device


def agree(group: dist.ProcessGroup, mine: Report) -> list[Report]:
    """Every process's report, in the order of their ranks.

    Raises:
        MethodError: in every process, if one of them reports an error, or the reports do not fit together.
    """
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, mine, group=group)
    reports: list[Report] = gathered
    if mine.error is not None:
        raise MethodError(mine.error)
    for rank, report in enumerate(reports):
        if report.error is not None:
            raise MethodError(f"process {rank} of {len(reports)}: {report.error}")
    for what in ("shapes", "features"):
        values = [getattr(report, what) for report in reports]
        for rank, value in enumerate(values):
            if value != values[0]:
                name = "the shared parameters" if what == "shapes" else "the features"
                raise MethodError(
                    f"{name} have the shapes {values[0]} in process 0 and {value} in process {rank} of {len(reports)}: "
                    "they must be the same everywhere"
                )
    own = [[len(reached) for reached in report.own] for report in reports]
    for rank, lengths in enumerate(own):
        if lengths != own[0]:
            raise MethodError(
                f"the tasks have {own[0]} own parameters in process 0 and {lengths} in process {rank} of "
                f"{len(reports)}: they must be the same everywhere"
            )
    return reports
