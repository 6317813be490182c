"""Jacobians to test methods on, and what the tests ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from mtrl_surgery.methods.base import AnyMethod, GramianWeighting, JacobianMethod, LossWeighting

KINDS = ("gaussian", "rank_deficient", "conflicting", "aligned", "badly_scaled")
DIRECTIONS = KINDS[:4]
"""The kinds that differ in more than their rows' lengths."""


def jacobian(kind: str, tasks: int, parameters: int, seed: int) -> np.ndarray:
    """A float64 Jacobian of that kind, [tasks, parameters]."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((tasks, parameters))
    if kind == "rank_deficient":
        rank = max(1, tasks // 2)
        matrix = rng.standard_normal((tasks, rank)) @ rng.standard_normal((rank, parameters))
    elif kind == "conflicting":
        matrix -= 0.97 * matrix.mean(axis=0)
    elif kind == "aligned":
        matrix += 1
    elif kind == "badly_scaled":
        matrix *= 10 ** rng.uniform(-3, 3, (tasks, 1))
    return matrix


def units(matrix: np.ndarray) -> np.ndarray:
    """The rows, each of length 1."""
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)  # type: ignore[no-any-return]


def lengths(tasks: int, orders: float = 10) -> np.ndarray:
    """Lengths from 10^-orders to 10^orders, spread evenly and in a mixed order, [tasks, 1]."""
    spread_K = np.logspace(-orders, orders, tasks) if tasks > 1 else np.ones(1)
    return np.random.default_rng(tasks).permutation(spread_K)[:, None]


@st.composite
def jacobians(draw: Any, least: int = 1, most: int = 10) -> np.ndarray:
    """Strategy: Jacobians of every kind."""
    tasks = draw(st.integers(least, most))
    parameters = draw(st.sampled_from((2, 5, 24)))
    return jacobian(draw(st.sampled_from(KINDS)), tasks, parameters, draw(st.integers(0, 2**31)))


def direction(method: AnyMethod, matrix: Any, losses: Any = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """What the engine would hand to the optimizer."""
    jacobian_KP = torch.as_tensor(matrix).to(dtype)
    losses_K = torch.ones(len(jacobian_KP), dtype=dtype) if losses is None else torch.as_tensor(losses).to(dtype)
    gramian_KK = jacobian_KP @ jacobian_KP.T
    if isinstance(method, LossWeighting):
        return method.weights(losses_K) @ jacobian_KP
    if isinstance(method, GramianWeighting):
        return method.weights(gramian_KK, losses_K) @ jacobian_KP
    assert isinstance(method, JacobianMethod)
    return method.direction(jacobian_KP, gramian_KK, losses_K)


def turn(method: AnyMethod, step: int, tasks: int, parameters: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """One step of a run that depends on nothing but the step's number and the method."""
    rng = np.random.default_rng((7, step))
    matrix = rng.standard_normal((tasks, parameters)) * (1 + 4 * rng.random((tasks, 1)) * (step % 3 == 0))
    losses = rng.random(tasks) + 0.1
    result = direction(method, matrix, losses, dtype)
    if method.needs_losses_after_step:
        method.observe(torch.as_tensor(losses * rng.random(tasks)).to(dtype))
    return result
