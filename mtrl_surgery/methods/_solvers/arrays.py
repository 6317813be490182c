"""K x K work on the host at NumPy's speed, and on a device without waiting for it, from one source.

A Torch call costs microseconds before it computes anything, several times what NumPy's does, and the solvers
here make thousands of calls on tiny matrices. They are written in the operations that both libraries share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

Array = Any
"""A NumPy array or a Torch tensor."""


@dataclass(frozen=True)
class Library:
    """The functions whose place or name differs.

    Attributes:
        np: The module, `numpy` or `torch`.
        at_least: `max(array, number)`, element by element; NaN stays NaN.
        at_most: `min(array, number)`.
        solve: Solves `a x = b`; of a singular matrix it gives anything or raises `SingularError`.
        may_look: Whether a Python branch on a value is free (it makes the host wait for a device).
    """

    np: Any
    at_least: Callable[[Array, float], Array]
    at_most: Callable[[Array, float], Array]
    solve: Callable[[Array, Array], Array]
    may_look: bool


SingularError = np.linalg.LinAlgError


def _torch_solve(a: Tensor, b: Tensor) -> Tensor:
    result: Tensor = torch.linalg.solve_ex(a, b)[0]  # unlike `solve`, it does not look whether it went well
    return result


NUMPY = Library(np, np.maximum, np.minimum, np.linalg.solve, may_look=True)
TORCH = Library(torch, torch.clamp_min, torch.clamp_max, _torch_solve, may_look=False)


@cache
def _numpy_blas() -> ThreadpoolController:
    return ThreadpoolController().select(internal_api="openblas")


def one_blas_thread() -> AbstractContextManager[Any]:
    """NumPy's BLAS on one thread.

    A K x K matrix gains nothing from a second one, which spins for a while after its work, on the core that Torch wants
    next: at K = 50 that cost more than the solver.
    """
    limited: AbstractContextManager[Any] = _numpy_blas().limit(limits=1)
    return limited


_host_may_look: ContextVar[bool] = ContextVar("host_may_look", default=True)


@contextmanager
def without_looking() -> Iterator[None]:
    """Within the block, tensors on the CPU are treated as those on a device: no code may branch on a value."""
    token = _host_may_look.set(False)
    try:
        yield
    finally:
        _host_may_look.reset(token)


def library_of(tensor: Array) -> tuple[Library, Array]:
    """NumPy and a view for a tensor on the CPU; Torch and the tensor itself elsewhere, and `without_looking`."""
    on_host = tensor.device.type == "cpu" and _host_may_look.get()
    return (NUMPY, tensor.numpy()) if on_host else (TORCH, tensor)
