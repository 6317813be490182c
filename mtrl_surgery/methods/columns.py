"""Work on a [K, P] matrix a few columns at a time, so that what lies between two operations stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodError

CHUNK_ELEMENTS = {"cpu": 2**17}
"""Elements of [K, columns] worked on at a time, by device type: what stays in a core's cache."""
CHUNK_ELEMENTS_ELSEWHERE = 2**26
"""A GPU wants few, large kernels."""


def chunk_width(matrix_KP: Tensor) -> int:
    """Columns of the widest slice of `column_chunks`."""
    tasks, parameters = matrix_KP.shape
    elements = CHUNK_ELEMENTS.get(matrix_KP.device.type, CHUNK_ELEMENTS_ELSEWHERE)
    return max(1, min(elements // tasks, parameters))


def column_chunks(matrix_KP: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices that cover the columns in order, each with room for what is worked out there.

    The room is the same memory every time, [K, columns of the slice]: to allocate it anew for each slice costs as much
    as the arithmetic.
    """
    tasks, parameters = matrix_KP.shape
    width = chunk_width(matrix_KP)
    room_KC = torch.empty((tasks, width), dtype=matrix_KP.dtype, device=matrix_KP.device)
    for start in range(0, parameters, width):
        columns = slice(start, min(start + width, parameters))
        yield columns, room_KC[:, : columns.stop - start]


def tracked(method: AnyMethod, name: str, jacobian_KP: Tensor) -> Tensor:
    """The method's state of the Jacobian's shape and dtype; zeros at the first call.

    Raises:
        MethodError: if it was made for a Jacobian of another shape.
    """
    if name not in method.state:
        method.to(jacobian_KP.device)
        method.state[name] = torch.zeros_like(jacobian_KP, memory_format=torch.contiguous_format)
    state_KP = method.state[name]
    if state_KP.shape != jacobian_KP.shape:
        made_for, got = tuple(state_KP.shape), tuple(jacobian_KP.shape)
        raise MethodError(
            f"{method.name}: {name} is for a Jacobian of shape {made_for}, got {got}; "
            f"every network needs a method of its own"
        )
    return state_KP


def track(tracked_KP: Tensor, gradient_KC: Tensor, part: slice, keep: Tensor, gain_K1: Tensor) -> Tensor:
    """`y <- keep y + gain_k g_k` on some columns of y, in place; returns those columns."""
    return tracked_KP[:, part].mul_(keep).addcmul_(gradient_KC, gain_K1)
