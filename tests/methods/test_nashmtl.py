"""Nash-MTL against its equations, a conic solver and closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import linprog
from torchjd.aggregation import NashMTL as TorchJDNashMTL

from mtrl_surgery.methods._solvers.arrays import NUMPY, TORCH
from mtrl_surgery.methods._solvers.unit_gramian import unit_gramian
from mtrl_surgery.methods.nashmtl import NashmtlConfig, solve_nash
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import DIRECTIONS, KINDS, direction, jacobian, jacobians, lengths, units


@pytest.mark.parametrize("kind", [kind for kind in DIRECTIONS if kind != "rank_deficient"])
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50])
def test_weights_times_gains_are_one_whatever_the_scales(kind: str, tasks: int) -> None:
    gradients = units(jacobian(kind, tasks, 2 * tasks, 1)) * lengths(tasks)
    method = make_method(NashmtlConfig(), tasks, 0)
    result = direction(method, gradients).numpy()
    weights = method.diagnostics()["weights_K"].numpy()
    np.testing.assert_allclose(weights * (gradients @ result), 1, atol=1e-6)
    assert np.linalg.norm(result) == pytest.approx(np.sqrt(tasks))
    assert method.diagnostics()["converged"] == 1
    assert method.diagnostics()["residual"] <= 1e-6


@pytest.mark.parametrize("kind", ["gaussian", "conflicting", "aligned"])
@pytest.mark.parametrize("tasks", [2, 5, pytest.param(50, marks=pytest.mark.slow)])
def test_the_direction_is_the_conic_solvers(kind: str, tasks: int) -> None:
    """The paper's problem itself: the product of the gains, over a ball."""
    gradients = units(jacobian(kind, tasks, 2 * tasks, 4))
    d = cp.Variable(2 * tasks)
    cp.Problem(cp.Maximize(cp.sum(cp.log(gradients @ d))), [cp.norm(d) <= 1]).solve(cp.CLARABEL)
    result = direction(make_method(NashmtlConfig(), tasks, 0), gradients).numpy()
    np.testing.assert_allclose(result / np.sqrt(tasks), d.value, atol=1e-4)


@pytest.mark.parametrize("kind", ["gaussian", "aligned", "conflicting"])
@pytest.mark.parametrize("tasks", [2, 10])
@pytest.mark.filterwarnings("ignore")  # cvxpy's, of ECOS
def test_the_direction_is_torchjds(kind: str, tasks: int) -> None:
    gradients = torch.as_tensor(units(jacobian(kind, tasks, 20, 5)))
    ours = direction(make_method(NashmtlConfig(), tasks, 0), gradients)
    theirs = TorchJDNashMTL(tasks, max_norm=0.0, optim_niter=100)(gradients)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def best_gains(unit_KP: np.ndarray) -> np.ndarray | None:
    """The bargaining direction of length 1 by a conic solver, or None where no direction lowers all losses."""
    basis_RP = np.linalg.svd(unit_KP, full_matrices=False)[2][: np.linalg.matrix_rank(unit_KP, rtol=1e-9)]
    inner_KR = unit_KP @ basis_RP.T
    tasks, rank = inner_KR.shape
    if linprog(np.zeros(rank), -inner_KR, -np.ones(tasks), bounds=(None, None)).status == 2:  # J d >= 1 is infeasible
        return None
    d = cp.Variable(rank)
    cp.Problem(cp.Maximize(cp.sum(cp.log(inner_KR @ d))), [cp.norm(d) <= 1]).solve(cp.CLARABEL)
    return np.asarray(d.value @ basis_RP)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, pytest.param(50, marks=pytest.mark.slow)])
def test_dependent_gradients_of_any_lengths_bargain_where_all_can_gain_and_cancel_elsewhere(tasks: int) -> None:
    """Twice as many gradients as dimensions: half of such sets have a direction in which all gain."""
    solvable = []
    for seed in range(6):
        unit_KP = units(jacobian("rank_deficient", tasks, 2 * tasks, seed))
        expected_P = best_gains(unit_KP)
        solvable.append(expected_P is not None)
        for length_K1 in (np.ones((tasks, 1)), lengths(tasks)):
            method = make_method(NashmtlConfig(), tasks, 0)
            result = direction(method, unit_KP * length_K1).numpy()
            weights_K, gains_K = method.diagnostics()["weights_K"].numpy(), unit_KP * length_K1 @ result
            assert method.diagnostics()["converged"] == solvable[-1]
            if expected_P is None:
                assert (weights_K == 0).all()
            else:
                np.testing.assert_allclose(weights_K * gains_K, 1, atol=1e-6)
                np.testing.assert_allclose(result / np.sqrt(tasks), expected_P, atol=3e-4)
    assert set(solvable) == {True, False}


def test_dependent_gradients_are_no_obstacle_where_all_can_gain() -> None:
    gradients = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    method = make_method(NashmtlConfig(), 4, 0)
    result = direction(method, gradients).numpy()
    weights = method.diagnostics()["weights_K"].numpy()
    np.testing.assert_allclose(weights * (gradients @ result), 1, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(jacobians(least=2, most=2))
def test_two_tasks_in_closed_form(gradients: np.ndarray) -> None:
    """Two unit gradients get equal weights 1 / sqrt(1 + cos)."""
    one, two = units(gradients)
    weight = 1 / np.sqrt(1 + one @ two) if one @ two > -1 + 1e-9 else 0.0
    result = direction(make_method(NashmtlConfig(), 2, 0), gradients).numpy()
    np.testing.assert_allclose(result, weight * (one + two), atol=1e-5)


def test_opposite_gradients_say_that_there_is_no_solution() -> None:
    gradients = np.array([[1.0, 2.0], [-2.0, -4.0]])
    method = make_method(NashmtlConfig(), 2, 0)
    assert (direction(method, gradients) == 0).all()
    assert method.diagnostics()["converged"] == 0
    assert method.diagnostics()["residual"] > 0.9


def test_tasks_that_cancel_are_left_alone_and_the_others_bargain() -> None:
    gradients = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    method = make_method(NashmtlConfig(), 4, 0)
    result = direction(method, gradients)
    torch.testing.assert_close(result, torch.tensor([0.0, 1.0, 1.0]).double(), rtol=0, atol=1e-5)
    assert method.diagnostics()["converged"] == 0


def test_a_task_without_gradient_has_no_weight() -> None:
    gradients = jacobian("gaussian", 4, 9, 2)
    gradients[1] = 0
    method = make_method(NashmtlConfig(), 4, 0)
    result = direction(method, gradients)
    assert method.diagnostics()["weights_K"][1] == 0
    rest = direction(make_method(NashmtlConfig(), 3, 0), gradients[[0, 2, 3]])
    torch.testing.assert_close(result, rest)


def test_float32_gramians_of_dependent_gradients_have_bounded_weights() -> None:
    for seed in range(10):
        gradients = torch.as_tensor(jacobian("rank_deficient", 10, 400, seed), dtype=torch.float32)
        method = make_method(NashmtlConfig(), 10, 0)
        result = direction(method, gradients, dtype=torch.float32).double()
        unit_KP = gradients.double() / gradients.double().norm(dim=1, keepdim=True)
        assert result.norm() <= 10**0.5 * (1 + 1e-2)
        assert (unit_KP @ result).min() >= -2e-2
        assert (method.diagnostics()["weights_K"] * gradients.norm(dim=1)).max() < 3e3


def test_weights_are_kept_between_the_steps_that_are_due() -> None:
    every, third = make_method(NashmtlConfig(), 3, 0), make_method(NashmtlConfig(update_every=3), 3, 0)
    for step in range(7):
        gradients = jacobian("gaussian", 3, 8, step)
        direction(every, gradients)
        direction(third, gradients)
        fresh, kept = every.diagnostics()["weights_K"], third.diagnostics()["weights_K"]
        assert torch.equal(fresh, kept) == (step % 3 == 0)
        if step % 3 == 0:
            last = fresh
        assert torch.equal(kept, last)


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_for_devices_is_the_form_for_the_host(kind: str) -> None:
    gradients = jacobian(kind, 8, 20, 1)
    cosine, _ = unit_gramian(NUMPY, gradients @ gradients.T)
    host, residual = solve_nash(NUMPY, cosine, 1e6)
    device, _ = solve_nash(TORCH, torch.as_tensor(cosine), 1e6)
    np.testing.assert_allclose(device.numpy() @ units(gradients), host @ units(gradients), atol=1e-4)
    if residual < 1e-6:
        np.testing.assert_allclose(device.numpy(), host, rtol=1e-7)
