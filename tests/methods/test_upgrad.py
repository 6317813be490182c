"""UPGrad against a QP solver, TorchJD and closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mtrl_surgery.methods._solvers.arrays import NUMPY, TORCH
from mtrl_surgery.methods._solvers.nonnegative_qp import solve_nonnegative
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.methods.upgrad import UpgradConfig
from tests.methods.jacobians import DIRECTIONS, KINDS, direction, jacobian, jacobians, lengths, units


def projected(gradients: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The nearest vector that conflicts with no gradient, by a conic solver."""
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    d, scale = cp.Variable(gradients.shape[1]), np.linalg.norm(vector)
    cp.Problem(cp.Minimize(cp.sum_squares(d - vector / scale)), [units @ d >= 0]).solve(cp.CLARABEL)
    return d.value * scale  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [2, 5, pytest.param(50, marks=pytest.mark.slow)])
def test_the_direction_is_the_qp_solvers(kind: str, tasks: int) -> None:
    gradients = jacobian(kind, tasks, 2 * tasks, 3)
    expected = np.mean([projected(gradients, gradient) for gradient in gradients], axis=0)
    result = direction(make_method(UpgradConfig(), tasks, 0), gradients).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.linalg.norm(gradients, axis=1).max())


@pytest.mark.parametrize("kind", ["gaussian", "aligned", "conflicting"])
def test_the_direction_is_torchjds(kind: str) -> None:
    pytest.importorskip("quadprog", reason="torchjd[quadprog_projector]")
    pytest.importorskip("qpsolvers", reason="torchjd[quadprog_projector]")
    from torchjd.aggregation import UPGrad as TorchJDUPGrad
    from torchjd.linalg import QuadprogProjector

    gradients = torch.as_tensor(jacobian(kind, 6, 20, 5))
    ours = direction(make_method(UpgradConfig(), 6, 0), gradients)
    theirs = TorchJDUPGrad(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-10))(gradients)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * float(theirs.norm()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [3, 10, 50])
def test_nothing_conflicts_whatever_the_scales(kind: str, tasks: int) -> None:
    gradients = jacobian(kind, tasks, 2 * tasks, 0)
    method = make_method(UpgradConfig(), tasks, 0)
    result = direction(method, gradients).numpy()
    norms = np.linalg.norm(gradients, axis=1)
    assert (gradients @ result >= -1e-7 * norms * norms.max()).all()
    scale_K = np.logspace(-10, 10, tasks)
    scaled = direction(method, gradients * scale_K[:, None]).numpy()
    assert (gradients @ scaled >= -1e-7 * norms * (norms * scale_K).max()).all()


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50])
def test_each_gradients_projection_is_optimal_beside_others_of_any_length(kind: str, tasks: int) -> None:
    """Relative to that gradient itself, be it 1e-20 of the longest; by the conditions that hold of the projection only.

    r is the nearest point to u_i of the cone {J r >= 0} if r = u_i + sum_j y_j u_j with y >= 0, J r >= 0 and y.J r = 0.
    """
    unit_KP, length_K = units(jacobian(kind, tasks, 2 * tasks, 3)), lengths(tasks)[:, 0]
    for i in range(tasks) if tasks <= 10 else (0, 17, 49):
        method = make_method(UpgradConfig(preference=np.eye(tasks)[i].tolist()), tasks, 0)
        r_P = direction(method, unit_KP * length_K[:, None]).numpy() / length_K[i]
        y_K = method.diagnostics()["weights_K"].numpy() * length_K / length_K[i] - np.eye(tasks)[i]
        slack_K = unit_KP @ r_P
        np.testing.assert_allclose(r_P, unit_KP[i] + y_K @ unit_KP, atol=1e-9)
        assert y_K.min() >= -1e-9
        assert slack_K.min() >= -1e-6
        assert abs(y_K * slack_K).max() <= 1e-6


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("tasks", [2, 5])
def test_each_gradients_projection_is_the_qp_solvers_beside_others_of_any_length(kind: str, tasks: int) -> None:
    unit_KP, length_K1 = units(jacobian(kind, tasks, 2 * tasks, 3)), lengths(tasks)
    for i in range(tasks):
        method = make_method(UpgradConfig(preference=np.eye(tasks)[i].tolist()), tasks, 0)
        result = direction(method, unit_KP * length_K1).numpy() / length_K1[i]
        np.testing.assert_allclose(result, projected(unit_KP, unit_KP[i]), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(jacobians(least=2, most=2))
def test_two_tasks_in_closed_form(gradients: np.ndarray) -> None:
    """Each is projected off the other if they conflict: half of PCGrad's sum."""
    one, two = gradients
    inner = min(one @ two, 0.0)
    expected = (one - inner / (two @ two) * two + two - inner / (one @ one) * one) / 2
    result = direction(make_method(UpgradConfig(), 2, 0), gradients).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6 * np.linalg.norm(gradients, axis=1).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tasks", [1, 4, 20])
def test_both_forms_of_the_solver_meet_the_optimality_conditions(kind: str, tasks: int) -> None:
    gradients = jacobian(kind, tasks, 2 * tasks, 1)
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    q, b = gradients @ gradients.T + 1e-9 * np.eye(tasks), np.random.default_rng(0).standard_normal((3, tasks)) - 0.5
    if kind == "rank_deficient":
        b = -np.abs(b) @ q  # such a minimum isn't as far away as 1e9
    device = solve_nonnegative(TORCH, torch.as_tensor(q), torch.as_tensor(b)).numpy()
    for y in (solve_nonnegative(NUMPY, q, b), device):
        z = y @ q - b
        assert y.min() >= -1e-9
        assert z.min() >= -1e-8
        assert abs(y * z).max() <= 1e-8


def test_gradients_without_conflict_are_averaged() -> None:
    gradients = np.abs(jacobian("gaussian", 5, 9, 0))
    result = direction(make_method(UpgradConfig(), 5, 0), gradients)
    torch.testing.assert_close(result, torch.as_tensor(gradients.mean(axis=0)))


def test_a_preference_weighs_the_projections() -> None:
    gradients = jacobian("conflicting", 3, 9, 0)
    parts = [direction(make_method(UpgradConfig(preference=row), 3, 0), gradients) for row in np.eye(3).tolist()]
    whole = direction(make_method(UpgradConfig(preference=[0.2, 0.5, 3.0]), 3, 0), gradients)
    torch.testing.assert_close(whole, 0.2 * parts[0] + 0.5 * parts[1] + 3 * parts[2])
    with pytest.raises(MethodError, match=r"upgrad\.preference=.*one for each of the 3 tasks"):
        make_method(UpgradConfig(preference=[1.0, 2.0]), 3, 0)


def test_a_task_without_gradient_only_counts_in_the_mean() -> None:
    gradients = jacobian("conflicting", 4, 9, 2)
    gradients[1] = 0
    result = direction(make_method(UpgradConfig(), 4, 0), gradients)
    rest = direction(make_method(UpgradConfig(), 3, 0), gradients[[0, 2, 3]])
    torch.testing.assert_close(result, rest * 3 / 4)
