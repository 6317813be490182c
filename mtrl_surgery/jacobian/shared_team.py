"""Several processes, each with its shard of the batch: what they tell each other so that all fill the same `.grad`.

Before a step they exchange a report, so that all of them raise what one of them found wrong, and know which tasks and
parameters anyone has. What is added up after that has the same shape everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks
from mtrl_surgery.jacobian.shared_write import Gradients
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
        features: The features' shapes, where given; must be the same everywhere.
        shared: Whether a loss reaches each of the shared parameters.
        own: The same of each of the K tasks' own parameters.
    """

    error: str | None = None
    tasks: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    features: tuple[tuple[int, ...], ...] | None = None
    shared: tuple[bool, ...] = ()
    own: tuple[tuple[bool, ...], ...] = ()


class Team:
    """One process alone: its shard is the whole batch.

    Attributes:
        tasks: Those that a process has.
    """

    alone = True

    def __init__(self, tasks: Sequence[int]) -> None:
        self.tasks = list(tasks)

    def losses(self, losses_K: Tensor) -> Tensor:
        """This process's losses -> the whole batch's, one for each of `tasks`."""
        return losses_K

    def weights(self, weights_K: Tensor) -> Tensor:
        """Weights of `tasks` -> what this process multiplies its own losses or rows with, for sums to be means."""
        return weights_K

    def share(self, blocks: Blocks) -> Blocks:
        """This process's rows -> its addend of the whole batch's rows, for each of `tasks`."""
        return blocks

    def share_own(self, own: Sequence[Gradients]) -> list[Gradients]:
        """The same for the tasks' own gradients."""
        return list(own)

    def sum(self, blocks: Blocks, own: Sequence[Gradients]) -> tuple[Blocks, list[Gradients]]:
        """Adds up all processes' blocks over the shared parameters, and own gradients; takes the blocks."""
        return blocks, list(own)

    def mean_part(self, first: int, part: list[Block], sizes: Sequence[int]) -> list[Block]:
        """The whole batch's rows of some shared parameters, from the number `first` on."""
        return part

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        return tensor

    def gather(self, tensor: Tensor, axis: int) -> Tensor:
        """The processes' tensors behind each other."""
        return tensor

    def mine(self, tensor: Tensor) -> Tensor:
        """This process's part of a vector that was gathered."""
        return tensor


class Processes(Team):
    """Several of them.

    Args:
        group: All of which take the same calls in the same order.
        mine: This process's report.
        own: The K tasks' own parameters.

    Raises:
        MethodError: in every process, if one of them reports an error, or the reports do not fit together.
    """

    alone = False

    def __init__(self, group: dist.ProcessGroup, mine: Report, own: Sequence[Sequence[Tensor]]) -> None:
        reports = agree(group, mine)
        super().__init__(sorted({task for report in reports for task in report.tasks}))
        self._group, self._size = group, len(reports)
        self._counts = [sum(task in report.tasks for report in reports) for task in self.tasks]
        self._rows = [self.tasks.index(task) for task in mine.tasks]
        self._shared = [any(reached) for reached in zip(*(report.shared for report in reports), strict=True)]
        reached = [[any(r) for r in zip(*(report.own[k] for report in reports), strict=True)] for k in range(len(own))]
        self._own = [[p for p, there in zip(own[k], reached[k], strict=True) if there] for k in self.tasks]

    def losses(self, losses_K: Tensor) -> Tensor:
        """See `Team`."""
        whole_K = losses_K.new_zeros(len(self.tasks))
        whole_K[self._rows] = losses_K
        return self.total(whole_K / self._divisors(whole_K))

    def weights(self, weights_K: Tensor) -> Tensor:
        """See `Team`."""
        return (weights_K / self._divisors(weights_K))[self._rows]

    def share(self, blocks: Blocks) -> Blocks:
        """See `Team`."""
        return Blocks([None if block is None else self._spread(block) for block in blocks.blocks], blocks.sizes)

    def share_own(self, own: Sequence[Gradients]) -> list[Gradients]:
        """See `Team`."""
        shares: list[Gradients] = [[] for _ in self.tasks]
        for row, gradients in zip(self._rows, own, strict=True):
            shares[row] = [(tensor, grad / self._counts[row]) for tensor, grad in gradients]
        return shares

    def sum(self, blocks: Blocks, own: Sequence[Gradients]) -> tuple[Blocks, list[Gradients]]:
        """See `Team`; own gradients are those of `tasks`, or of the tasks that this process has."""
        rows = next((len(block) for block in blocks.present), len(self.tasks))
        by_task = own if len(own) == len(self.tasks) else self._placed(own)
        like = next(iter(blocks.present), None)
        filled: list[Tensor] = []
        for block, size, reached in zip(blocks.blocks, blocks.sizes, self._shared, strict=True):
            if reached:
                assert block is not None or like is not None
                filled.append(cast(Tensor, like).new_zeros(rows, size) if block is None else block)
        blocks.blocks.clear()
        for parameters, gradients in zip(self._own, by_task, strict=True):
            found = {id(tensor): grad for tensor, grad in gradients}
            filled += [found[id(p)] if id(p) in found else torch.zeros_like(p) for p in parameters]
        summed = self._summed(filled)
        whole = [next(summed) if reached else None for reached in self._shared]
        return Blocks(whole, blocks.sizes), [[(p, next(summed)) for p in parameters] for parameters in self._own]
