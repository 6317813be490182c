"""A Jacobian that is kept in one block a parameter, so that it need not be put together to be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mtrl_surgery.methods._common import gramian

Block: TypeAlias = Tensor | None
"""One parameter's columns, [rows, n]; None where no task reaches it."""


class Blocks:
    """A matrix [rows, P] over the shared parameters.

    Args:
        blocks: One a parameter; all of them with the same rows, dtype and device.
        sizes: Columns of each.
    """

    def __init__(self, blocks: Sequence[Block], sizes: Sequence[int]) -> None:
        self.blocks = list(blocks)
        self.sizes = list(sizes)

    @property
    def present(self) -> list[Tensor]:
        """The blocks that are not zero for sure."""
        return [block for block in self.blocks if block is not None]

    def gramian(self, losses_K: Tensor) -> Tensor:
        """`jacobian @ jacobian.T`, [K, K], on the losses' device and in their dtype."""
        gramian_KK = losses_K.new_zeros(len(losses_K), len(losses_K))
        for block in self.present:
            gramian_KK += gramian(block)
        return gramian_KK

    def matrix(self, losses_K: Tensor) -> Tensor:
        """The whole Jacobian, [K, P], with zeros where no task reaches a parameter."""
        whole = [
            losses_K.new_zeros(len(losses_K), size) if block is None else block
            for block, size in zip(self.blocks, self.sizes, strict=True)
        ]
        return whole[0] if len(whole) == 1 else torch.cat(whole, dim=1)

    def weighted(self, weights_K: Tensor) -> Blocks:
        """`weights @ jacobian`, as one row."""
        rows = [None if block is None else (weights_K.to(block.dtype) @ block)[None] for block in self.blocks]
        return Blocks(rows, self.sizes)

    def products(self, row: Blocks, losses_K: Tensor) -> Tensor:
        """The rows' inner products with one row over the same columns, [K] in float64, on the losses' device."""
        products_K = losses_K.new_zeros(len(losses_K), dtype=torch.float64)
        for block, part in zip(self.blocks, row.blocks, strict=True):
            if block is not None and part is not None:
                products_K += block @ part[0]
        return products_K

    def split(self, direction_P: Tensor) -> Blocks:
        """A vector over all columns as one row; nothing where no task reaches the parameter."""
        parts = direction_P.split(self.sizes)
        rows = [None if block is None else part[None] for block, part in zip(self.blocks, parts, strict=True)]
        return Blocks(rows, self.sizes)

    def add_(self, other: Blocks, tasks: Sequence[int], num_tasks: int) -> None:
        """Adds the rows of some of the K tasks."""
        for place, block in enumerate(other.blocks):
            if block is None:
                continue
            mine = self.blocks[place]
            if mine is None:
                mine = self.blocks[place] = block.new_zeros(num_tasks, block.shape[1])
            for row, task in enumerate(tasks):
                mine[task] += block[row]

    def rows(self, tasks: Sequence[int]) -> Blocks:
        """Those of some tasks only."""
        return Blocks([None if block is None else block[list(tasks)] for block in self.blocks], self.sizes)


def added(first: Block, second: Block) -> Block:
    """The sum of two blocks of the same shape."""
    return second if first is None else first if second is None else first + second
