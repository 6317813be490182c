"""MGDA against a QP solver, TorchJD and closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torchjd.aggregation import MGDA as TorchJDMGDA

from mtrl_surgery.methods.mgda import MgdaConfig
from mtrl_surgery.methods.registry import make_method
from tests.methods.exact import distance, shortest
from tests.methods.jacobians import DIRECTIONS, KINDS, direction, jacobian, jacobians, lengths, units


def is_shortest(gradients: np.ndarray, atol: float = 1e-7) -> None:
    """A point d of the hull is its shortest if and only if g_i.d >= |d|^2 for all i."""
    method = make_method(MgdaConfig(), len(gradients), 0)
    result = direction(method, gradients).numpy()
    weights = method.diagnostics()["weights_K"].numpy()
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    norms, length = np.linalg.norm(gradients, axis=1), np.linalg.norm(result)
    assert (gradients @ result - length**2 >= -norms * (1e-6 * length + atol * norms.min())).all()


@settings(max_examples=60, deadline=None)
@given(jacobians())
def test_the_shortest_vector_is_found(gradients: np.ndarray) -> None:
    is_shortest(gradients, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [3, 10, 50])
def test_the_shortest_vector_of_badly_scaled_gradients(kind: str, tasks: int) -> None:
    scale_K1 = np.logspace(-3, 3, tasks)[:, None]
    is_shortest(jacobian(kind, tasks, 2 * tasks, 0) * scale_K1, atol=1e-5)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, pytest.param(50, marks=pytest.mark.slow)])
def test_lengths_of_twenty_orders_of_magnitude_leave_the_shortest_vector_exact(kind: str, tasks: int) -> None:
    """To 9 digits of the shortest gradient, which is 1e-20 of the longest."""
    for seed in range(2 if tasks == 50 else 4):
        gradients = units(jacobian(kind, tasks, 2 * tasks, seed)) * lengths(tasks)
        method = make_method(MgdaConfig(), tasks, 0)
        result = direction(method, gradients).numpy()
        share_K = method.diagnostics()["weights_K"].numpy() * lengths(tasks)[:, 0]
        start_K = np.where(share_K > 1e-6 * share_K.max(), share_K / lengths(tasks)[:, 0], 0)
        expected = shortest(gradients, start_K)
        assert distance(result, expected, lengths(tasks).min()) <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [2, 6, pytest.param(50, marks=pytest.mark.slow)])
def test_the_direction_is_the_qp_solvers(kind: str, tasks: int) -> None:
    gradients = jacobian(kind, tasks, 2 * tasks, 7)
    gradients /= np.linalg.norm(gradients, axis=1).min()
    w = cp.Variable(tasks, nonneg=True)
    cp.Problem(cp.Minimize(cp.norm(gradients.T @ w)), [cp.sum(w) == 1]).solve(cp.CLARABEL)
    result = direction(make_method(MgdaConfig(), tasks, 0), gradients).numpy()
    np.testing.assert_allclose(result, gradients.T @ w.value, atol=2e-4)


@pytest.mark.parametrize("kind", ["gaussian", "aligned"])
def test_the_direction_is_torchjds(kind: str) -> None:
    gradients = torch.as_tensor(jacobian(kind, 4, 20, 5))
    ours = direction(make_method(MgdaConfig(), 4, 0), gradients)
    theirs = TorchJDMGDA(epsilon=1e-8, max_iters=5000)(gradients)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.norm()))


@settings(max_examples=60, deadline=None)
@given(jacobians(least=2, most=2))
def test_two_tasks_in_closed_form(gradients: np.ndarray) -> None:
    one, two = gradients
    difference = one - two
    share = np.clip((difference @ -two) / (difference @ difference), 0, 1)
    result = direction(make_method(MgdaConfig(), 2, 0), gradients).numpy()
    lengths = np.linalg.norm(gradients, axis=1)
    np.testing.assert_allclose(result, share * one + (1 - share) * two, atol=1e-5 * lengths.min() + 1e-12)


@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
def test_normalised_gradients_give_the_weights_for_the_raw_ones(normalization: str) -> None:
    gradients, losses = jacobian("conflicting", 4, 9, 3), np.array([0.5, 2.0, 3.0, 0.1])
    lengths = np.linalg.norm(gradients, axis=1)
    divisor = {"l2": lengths, "loss": losses, "loss+": losses * lengths}[normalization]
    plain = make_method(MgdaConfig(), 4, 0)
    direction(plain, gradients / divisor[:, None])
    method = make_method(MgdaConfig(normalization=normalization), 4, 0)
    direction(method, gradients, losses)
    torch.testing.assert_close(method.diagnostics()["weights_K"], plain.diagnostics()["weights_K"])


def test_a_zero_gradient_is_the_shortest_vector_unless_it_cannot_be_normalised() -> None:
    gradients = jacobian("gaussian", 4, 9, 2)
    gradients[1] = 0
    method = make_method(MgdaConfig(), 4, 0)
    assert (direction(method, gradients) == 0).all()
    assert method.diagnostics()["weights_K"].tolist() == [0, 1, 0, 0]
    normalised = make_method(MgdaConfig(normalization="l2"), 4, 0)
    rest = direction(make_method(MgdaConfig(normalization="l2"), 3, 0), gradients[[0, 2, 3]])
    torch.testing.assert_close(direction(normalised, gradients), rest)


def test_the_sum_is_k_times_the_mean() -> None:
    gradients = jacobian("gaussian", 5, 9, 0)
    one = direction(make_method(MgdaConfig(), 5, 0), gradients)
    torch.testing.assert_close(direction(make_method(MgdaConfig(reduction="sum"), 5, 0), gradients), 5 * one)
