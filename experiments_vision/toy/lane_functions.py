"""Torch's and NumPy's functions for arrays whose last axis is the lane: the axes before it are those of one problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Data = NDArray[Any]
_add_up = np.add.reduce


def matmul(left: Data, right: Data) -> Data:
    """`left @ right` of vectors and matrices."""
    if left.ndim == 2:
        terms = left * right if right.ndim == 2 else left[:, None] * right
        return _add_up(terms, axis=0)  # type: ignore[no-any-return]
    if right.ndim == 2:
        return _add_up(left * right, axis=1)  # type: ignore[no-any-return]
    return _add_up(left[:, :, None] * right, axis=1)  # type: ignore[no-any-return]


def clamp(data: Data, min: float | None = None, max: float | None = None) -> Data:
    """Between numbers; NaN stays NaN."""
    data = data if min is None else np.maximum(data, min)
    return data if max is None else np.minimum(data, max)


def softmax(data: Data, dim: int) -> Data:
    """Shares that add up to 1 along an axis."""
    power = np.exp(data - np.maximum.reduce(data, axis=dim, keepdims=True))
    return power / _add_up(power, axis=dim, keepdims=True)  # type: ignore[no-any-return]


def mean(data: Data, axis: int) -> Data:
    """Along an axis."""
    return _add_up(data, axis=axis) / data.shape[axis]  # type: ignore[no-any-return]


def lerp(start: Data, end: Data, share: Any) -> Data:
    """From start to end."""
    return start + share * (end - start)  # type: ignore[no-any-return]


def addcmul(data: Data, first: Data, second: Data, value: float = 1.0) -> Data:
    """`data + value first second`."""
    return data + (first * second if value == 1.0 else value * first * second)


def vector_norm(data: Data, dim: int) -> Data:
    """Of the vectors along an axis."""
    return np.sqrt(_add_up(data * data, axis=dim))  # type: ignore[no-any-return]


def diag(vector: Data) -> Data:
    """A diagonal matrix."""
    matrix = np.zeros((len(vector), *vector.shape))
    np.einsum("kks->ks", matrix)[...] = vector
    return matrix


def cat(parts: Sequence[Data]) -> Data:
    """One after the other, along the first axis."""
    return np.concatenate(parts)


def full_like(data: Data, value: float, **_: Any) -> Data:
    """Of data's shape."""
    return np.full(data.shape, value, data.dtype)


def eigh(matrix: Data) -> tuple[Data, Data]:
    """Eigenvalues, rising, and eigenvectors as columns."""
    values, vectors = np.linalg.eigh(matrix.transpose(2, 0, 1))
    return values.T, vectors.transpose(1, 2, 0)


def svd(matrix: Data) -> tuple[Data, Data, Data]:
    """As of `numpy.linalg.svd`."""
    left, sigma, right = np.linalg.svd(matrix.transpose(2, 0, 1))
    return left.transpose(1, 2, 0), sigma.T, right.transpose(1, 2, 0)


def solve(matrix: Data, right: Data) -> Data:
    """`x` of `matrix x = right`; not a number in a lane whose matrix is singular."""
    matrices, columns = matrix.transpose(2, 0, 1), right.reshape(len(right), -1, right.shape[-1]).transpose(2, 0, 1)
    try:
        solved = np.linalg.solve(matrices, columns)
    except np.linalg.LinAlgError:
        solved = np.full(columns.shape, np.nan)
        for lane, (one, column) in enumerate(zip(matrices, columns, strict=True)):
            if np.isfinite(one).all() and np.linalg.matrix_rank(one) == len(one):
                solved[lane] = np.linalg.solve(one, column)
    return solved.transpose(1, 2, 0).reshape(right.shape)


FUNCTIONS: dict[str, Callable[..., Data]] = {
    "where": np.where, "maximum": np.maximum, "minimum": np.minimum, "copysign": np.copysign, "abs": np.abs,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power, "eq": np.equal,
    "rsub": lambda right, left: left - right, "bitwise_and": np.bitwise_and, "bitwise_xor": np.bitwise_xor,
    "bitwise_right_shift": np.right_shift, "matmul": matmul, "mv": matmul, "clamp": clamp, "softmax": softmax,
    "lerp": lerp, "addcmul": addcmul, "addmv": lambda data, matrix, vector: data + matmul(matrix, vector),
    "copy": lambda _, other: other, "linalg_vector_norm": vector_norm, "cat": cat,
    "zeros_like": lambda data, **kinds: full_like(data, 0), "empty_like": lambda data, **kinds: np.empty_like(data),
    "full_like": full_like,
}  # fmt: skip
"""By the name that Torch calls them."""
