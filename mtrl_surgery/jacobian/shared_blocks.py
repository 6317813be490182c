"""A Jacobian in one block a parameter, which need not be put together to be used, and the way from it to `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from mtrl_surgery.jacobian.shared_graph import edge_of
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


Gradients: TypeAlias = list[tuple[Tensor, Tensor]]
"""Parameters with their gradients."""


@torch.no_grad()
def write_shared(
    parameters: Sequence[Tensor], direction: Blocks, max_norm: float | None, scale: Tensor | None
) -> Tensor:
    """Adds a direction, one row over the parameters, to their `.grad`; a parameter that is not reached keeps its own.

    Args:
        parameters: In the order of the blocks.
        direction: Unscaled.
        max_norm: Clips the direction to this norm.
        scale: What is written is multiplied with it.

    Returns:
        The direction's norm before clipping.
    """
    norm = torch.nn.utils.get_total_norm(direction.present)
    factor = None if max_norm is None else (max_norm / (norm + 1e-6)).clamp(max=1.0)
    if scale is not None:
        factor = scale if factor is None else factor * scale
    for parameter, block in zip(parameters, direction.blocks, strict=True):
        if block is not None:
            _add(parameter, block if factor is None else block * factor)
    return norm


@torch.no_grad()
def write_own(gradients: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Adds gradients to their parameters' `.grad`."""
    for parameter, gradient in gradients:
        _add(parameter, gradient)


def summed(first: Gradients, second: Gradients) -> Gradients:
    """The sums of the gradients, a parameter once."""
    total: dict[int, tuple[Tensor, Tensor]] = {}
    for parameter, gradient in [*first, *second]:
        _, before = total.get(id(parameter), (parameter, None))
        total[id(parameter)] = (parameter, gradient if before is None else before + gradient)
    return list(total.values())


def _add(parameter: Tensor, gradient: Tensor) -> None:
    """As a backward pass does at its end: `.grad` is added to, and the parameter's post-accumulate hooks are called."""
    accumulate = cast(Callable[[Tensor], None], edge_of(parameter)[0])  # its type does not say that it can be called
    accumulate(gradient.reshape(parameter.shape).to(parameter.dtype))
