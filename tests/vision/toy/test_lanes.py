"""Arrays of many problems: each lane is what the code gives for it alone, and what could not be so is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from experiments_vision.toy.lane_functions import solve
from experiments_vision.toy.lanes import LANES, Lanes
from mtrl_surgery.methods._common import magnitude_similarity, pairs
from mtrl_surgery.methods._solvers.arrays import NUMPY, library_of
from mtrl_surgery.methods._solvers.unit_gramian import unit_gramian
from mtrl_surgery.methods.cagrad import solve_cagrad
from mtrl_surgery.methods.nashmtl import solve_nash

S = 5
RNG = np.random.default_rng(0)
MATRIX, VECTOR = RNG.standard_normal((3, 3, S)), RNG.standard_normal((3, S))
PLAIN = torch.tensor([1.5, -2.0, 0.5], dtype=torch.float64)


def running_sum(matrix: Any, vector: Any) -> Any:
    total = vector.clone()
    for row in matrix:
        total += row
        total[0] *= 2
    return total.mul_(0.5).add_(PLAIN).lerp_(vector, 0.25)


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "operators": lambda m, v: 2 - m / (1 + v * v) + abs(-m) ** 2 % 0.7 + 0.5**v,
    "numbers of all lanes": lambda m, v: PLAIN * v - m[:, None, 1] @ PLAIN[None] + PLAIN[:, None],
    "products": lambda m, v: (m @ v) + (v @ m) + (v @ v) + (m @ m.T)[0],
    "comparisons": lambda m, v: torch.where((m > 0) & ~(v < 0.1) | (m <= -1), m, v.clamp(min=0, max=0.5)),
    "sums": lambda m, v: m.sum() + m.sum(dim=1) + v.mean() + m.mean(dim=0) + m.amax() - v.amin() + v.cumsum(dim=0),
    "functions": lambda m, v: v.softmax(dim=0) + v.exp().log1p().sqrt() * v.sign().square() - v.cos() + v.abs().log(),
    "entries": lambda m, v: m[torch.tensor([0, 2]), torch.tensor([1, 1])] + m[1:, 2] - m.diagonal()[:2] + v[0],
    "choice": lambda m, v: v[v.argsort(dim=0)] + v.sort(descending=True).values + m[v.argsort(dim=0)[:1]].sum(dim=0),
    "in place": running_sum,
    "similarity": lambda m, v: pairs(magnitude_similarity(v.abs())),
    "bytes": lambda m, v: (v * 10**6 + m * 10**8).to(torch.int32).view(torch.int16).to(torch.float64),
    "shapes": lambda m, v: torch.cat([m[1:], v[None]]).view(9).view(3, 3) + m.transpose(0, 1) + v.sum().expand(3),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_lane_is_torchs_answer_for_it_alone(name: str) -> None:
    program = PROGRAMS[name]
    together = program(Lanes(MATRIX.copy()), Lanes(VECTOR.copy()))
    for lane in range(S):
        alone = program(torch.from_numpy(MATRIX[..., lane].copy()), torch.from_numpy(VECTOR[..., lane].copy()))
        assert together.shape == tuple(alone.shape)
        np.testing.assert_allclose(together.data[..., lane], alone.numpy(), rtol=1e-13, atol=1e-13)


def gramians(conflict: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[K, K, S] of three gradients; the lanes need 3 to 15 iterations."""
    jacobian = RNG.standard_normal((S, 3, 4)) * np.logspace(0, 3, S)[:, None, None] ** np.array([0, 0.5, 1])[:, None]
    jacobian[:, 2] -= conflict * jacobian[:, :2].sum(axis=1)
    gramian = jacobian @ jacobian.swapaxes(1, 2)
    return np.moveaxis(gramian, 0, -1)


@pytest.mark.parametrize("conflict", [0.0, 1.0])
def test_solvers_that_iterate_leave_the_lanes_that_are_done(conflict: float) -> None:
    gramian = gramians(conflict)
    extra_K, gap = solve_cagrad(LANES, Lanes(gramian), 0.4)
    cosine_KK, _ = unit_gramian(LANES, Lanes(gramian))
    x_K, residual = solve_nash(LANES, cosine_KK, 1e6)
    for lane in range(S):
        one_KK = np.ascontiguousarray(gramian[..., lane])
        alone_K, alone_gap = solve_cagrad(NUMPY, one_KK, 0.4)
        np.testing.assert_allclose(extra_K.data[:, lane], alone_K, rtol=0, atol=1e-9 * np.abs(alone_K).max())
        np.testing.assert_allclose(gap.data[lane], alone_gap, atol=1e-12)
        alone_K, alone_residual = solve_nash(NUMPY, unit_gramian(NUMPY, one_KK)[0], 1e6)
        np.testing.assert_allclose(x_K.data[:, lane], alone_K, rtol=1e-9)
        np.testing.assert_allclose(residual.data[lane], alone_residual, atol=1e-12)


def test_a_singular_lane_spoils_no_other() -> None:
    matrix = np.stack([np.eye(2), np.ones((2, 2)), [[2.0, 1.0], [0.0, 1.0]]], axis=-1)
    found = solve(matrix, np.ones((2, 3)))
    np.testing.assert_allclose(found[:, [0, 2]], [[1, 0], [1, 1]])
    assert np.isnan(found[:, 1]).all()


def test_what_lanes_cannot_do_is_refused() -> None:
    lanes: Any = Lanes(VECTOR)
    with pytest.raises(TypeError, match="branch"):
        bool(lanes[0] > 0)
    with pytest.raises(NotImplementedError, match="logsumexp"):
        torch.logsumexp(lanes, dim=0)


def test_they_bring_their_library_and_leave_as_plain_numbers() -> None:
    lanes: Any = Lanes(VECTOR)
    assert library_of(lanes) == (LANES, lanes)
    np.testing.assert_array_equal(torch.as_tensor(lanes).numpy(), VECTOR)
