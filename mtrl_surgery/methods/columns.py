"""Work on a [K, P] matrix a few columns at a time, so that what lies between two operations stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodError

ONE_CORE, MANY_CORES, DEVICE = 2**17, 2**20, 2**26
"""Elements of [K, columns] worked on at a time. One core's cache holds the first; several cores have more cache, and
starting them costs more than a pass through memory saves; a GPU wants few, large kernels."""


def chunk_elements(device: torch.device) -> int:
    """How many elements to work on at a time."""
    if device.type != "cpu":
        return DEVICE
    return ONE_CORE if torch.get_num_threads() == 1 else MANY_CORES


def chunk_width(matrix_KP: Tensor) -> int:
    """Columns of the widest slice of `column_chunks`."""
    tasks, parameters = matrix_KP.shape
    return max(1, min(chunk_elements(matrix_KP.device) // tasks, parameters))


def column_chunks(matrix_KP: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices that cover the columns in order, each with room for what is worked out there.

    The room is the same memory every time, [K, columns of the slice]: to allocate it anew for each slice costs as much
    as the arithmetic.
    """
    tasks, parameters = matrix_KP.shape
    width = chunk_width(matrix_KP)
    room_KC = matrix_KP.new_empty(tasks, width)
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
