"""What several methods share: Gramians, lengths of gradients, work on a few columns at a time, Adam, preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodError

_COLUMNS = 2048
"""Columns of a block: K rows of it stay in a core's cache."""
_BANDS = 4
"""Bands of rows: what lies below the diagonal of bands is not computed, 3/8 of the work."""
_MANY = 32
"""Tasks from which on the bands save more than the smaller products lose."""


def gramian(matrix_KP: Tensor) -> Tensor:
    """`matrix @ matrix.T`, [K, K], by blocks of columns.

    One product of K x P by P x K is what matrix libraries are worst at: a long sum for few results. A batch of short
    sums is 1.1 to 3 times as fast on a CPU core, and several times as accurate in float32.
    """
    tasks, columns = matrix_KP.shape
    if columns < _COLUMNS and tasks < _MANY:
        return matrix_KP @ matrix_KP.T
    whole = columns - columns % _COLUMNS
    block_CKN = matrix_KP[:, :whole].unflatten(1, (whole // _COLUMNS, _COLUMNS)).transpose(0, 1)
    rest_KN = matrix_KP[:, whole:]
    rows = tasks if tasks < _MANY else -(-tasks // _BANDS)
    gramian_KK = matrix_KP.new_empty(tasks, tasks)
    for first in range(0, tasks, rows):
        band = slice(first, first + rows)
        part = torch.bmm(block_CKN[:, band], block_CKN[:, first:].transpose(1, 2)).sum(0)
        part.addmm_(rest_KN[band], rest_KN[first:].T)
        gramian_KK[band, first:] = part
        gramian_KK[first:, band] = part.T
    return gramian_KK


def gradient_norms(gramian_KK: Tensor) -> Tensor:
    """The norms [K] of the gradients with this Gramian."""
    return gramian_KK.diagonal().clamp(min=0).sqrt()


def magnitude_similarity(norm_K: Tensor) -> Tensor:
    """Pairwise magnitude similarity, [K, K] in [0, 1] (PCGrad's, and SAM-GS's Eq. 3).

    psi_ij = 2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2); 1 where both norms are zero, 0 where exactly one is; NaN
    where one is NaN.
    """
    longer_KK = torch.maximum(norm_K[:, None], norm_K[None, :])
    shorter_KK = torch.minimum(norm_K[:, None], norm_K[None, :])
    # By the ratio, since squares of very long or very short gradients leave the range of floats.
    ratio_KK = torch.where(longer_KK == 0, 1.0, shorter_KK / longer_KK)
    return 2 * ratio_KK / (1 + ratio_KK * ratio_KK)


def pairs(matrix_KK: Tensor) -> Tensor:
    """The entries above the diagonal of a symmetric matrix, row by row: [K (K - 1) / 2]."""
    size = matrix_KK.shape[0]
    rows, columns = torch.triu_indices(size, size, offset=1, device=matrix_KK.device)
    return matrix_KK[rows, columns]


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
    """The method's buffer of the Jacobian's shape and dtype; zeros at the first call.

    Raises:
        MethodError: if it was made for a Jacobian of another shape.
    """
    state_KP: Tensor | None = getattr(method, name)
    if state_KP is None:
        method.to(jacobian_KP.device)
        state_KP = torch.zeros_like(jacobian_KP, memory_format=torch.contiguous_format)
        setattr(method, name, state_KP)
    if state_KP.shape != jacobian_KP.shape:
        made_for, got = tuple(state_KP.shape), tuple(jacobian_KP.shape)
        raise MethodError(
            f"{method.name}: {name} is for a Jacobian of shape {made_for}, got {got}; "
            f"every network needs a method of its own"
        )
    return state_KP


_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # torch.optim.Adam's


def add_adam(method: AnyMethod, size: int) -> None:
    """Gives a method the state of `adam_step`: two moments [size] and the number of steps."""
    for name in ("first_moment_K", "second_moment_K"):
        method.add_state(name, torch.zeros(size, dtype=torch.float64), "task")
    method.add_state("steps", torch.zeros((), dtype=torch.float64))


def adam_step(method: Any, gradient_K: Tensor, lr: float) -> Tensor:
    """Moves Adam's moments in a method's state and gives what to subtract from the numbers that it learns."""
    steps = method.steps.add_(1)
    first_K = method.first_moment_K.lerp_(gradient_K, 1 - _BETA1) / (1 - _BETA1**steps)
    second_K = method.second_moment_K.lerp_(gradient_K * gradient_K, 1 - _BETA2) / (1 - _BETA2**steps)
    move_K: Tensor = lr * first_K / (second_K.sqrt() + _EPS)
    return move_K


def one_a_task(key: str, given: Sequence[float], num_tasks: int, default: float | None = None) -> Tensor:
    """An option's numbers, float64 [K].

    Args:
        key: The option, for the error.
        given: One number for all tasks, or one a task; none, if there is a default.
        num_tasks: K.
        default: Each task's where none is given.

    Raises:
        MethodError: for any other number of them.
    """
    numbers = [default] if not given and default is not None else list(given)
    if len(numbers) not in (1, num_tasks):
        none = "none, " if default is not None else ""
        raise MethodError(f"{key}={list(given)!r}: give {none}1 for all, or one for each of the {num_tasks} tasks")
    return torch.tensor(numbers, dtype=torch.float64).expand(num_tasks).clone()
