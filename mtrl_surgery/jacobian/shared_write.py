"""From directions to `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Blocks
from mtrl_surgery.jacobian.shared_graph import edge_of

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
