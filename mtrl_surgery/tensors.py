"""A nested state of tensors as one of numpy arrays, which a checkpoint holds, and back; and what is no number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


class NonFiniteError(ArithmeticError):
    """A loss or a gradient was NaN or infinite; the message names the task, and when."""


class NanStateError(ArithmeticError):
    """The state of a network holds a NaN, so it is not saved over the last sound checkpoint."""


def to_arrays(state: Any) -> Any:
    """Tensors of a nested state as numpy arrays; everything else as it is."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu().numpy().copy()
    if isinstance(state, Mapping):
        return {key: to_arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_arrays(value) for value in state)
    return state


def to_tensors(state: Any) -> Any:
    """Numpy arrays of a nested state as tensors; everything else as it is."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state)
    if isinstance(state, Mapping):
        return {key: to_tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(to_tensors(value) for value in state)
    return state


def nan_paths(state: Any, path: str) -> Iterator[str]:
    """Where a nested state of arrays and numbers holds a NaN, by dotted path from `path`."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from nan_paths(value, f"{path}.{key}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            yield from nan_paths(value, f"{path}[{index}]")
    elif isinstance(state, float | np.ndarray) and np.asarray(state).dtype.kind == "f" and np.isnan(state).any():
        yield path
