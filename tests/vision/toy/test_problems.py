"""The problems: closed forms against autograd and against finite differences, and what is published of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments_vision.toy.config import PROBLEMS, SIGNS, ToySettings
from experiments_vision.toy.measures import targets_of
from experiments_vision.toy.problems import LOWER, Problem

coordinates = st.floats(-12, 12, allow_nan=False)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=60, deadline=None)
@example(points=[(0.0, 0.0), (3.0, 0.0)])
@given(points=st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=9))
def test_closed_form_is_autograds(name: str, sign: str, points: list[tuple[float, float]]) -> None:
    problem = Problem.of(ToySettings(problem=name, sign=sign))
    theta_SP = torch.tensor(points, dtype=torch.float64)
    # Where the logarithm meets its floor, a rounding error decides.
    inside_SK = -0.5 * theta_SP[:, :1] + torch.tensor((-3.5, 3.5)) + problem.sign_K * theta_SP[:, 1:].tanh()
    theta_SP = theta_SP[(inside_SK.abs() - LOWER).abs().amin(dim=1) > 1e-9]
    losses_SK, jacobian_SKP = map(torch.from_numpy, problem.losses_and_jacobian(theta_SP.numpy()))

    torch.testing.assert_close(losses_SK, problem.losses(theta_SP), rtol=1e-11, atol=1e-11)
    wanted_SKP = torch.func.vmap(torch.func.jacrev(problem.losses))(theta_SP)
    # Near the logarithm's floor the slope is 1 / (a difference): its relative error is that of the difference.
    torch.testing.assert_close(jacobian_SKP, wanted_SKP, rtol=1e-8, atol=1e-10)


def test_the_start_on_the_axis_moves() -> None:
    """(0, 0) of Nash-MTL's problem lies on the kink, where autograd's slopes of both halves count."""
    problem = Problem.of(ToySettings(problem="nashmtl"))
    leaf_P = torch.zeros(2, dtype=torch.float64)
    jacobian_KP = torch.func.jacrev(problem.losses)(leaf_P)
    np.testing.assert_allclose(problem.losses_and_jacobian(leaf_P.numpy())[1], jacobian_KP, rtol=1e-12)
    assert (jacobian_KP[:, 1] > 0.5).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_closed_form_is_the_difference_of_losses(name: str) -> None:
    problem = Problem.of(ToySettings(problem=name))
    theta_SP = np.random.default_rng(3).uniform(-11, 11, (300, 2))
    inside_SK = -0.5 * theta_SP[:, :1] + (-3.5, 3.5) + problem.sign_K.numpy() * np.tanh(theta_SP[:, 1:])
    theta_SP = theta_SP[(np.abs(inside_SK).min(axis=1) > 0.05) & (np.abs(theta_SP[:, 1]) > 0.01)]
    jacobian_SKP = problem.losses_and_jacobian(theta_SP)[1]
    for axis in range(2):
        shift_P = np.eye(2)[axis] * 1e-5
        high_SK, low_SK = (problem.losses_and_jacobian(theta_SP + sign * shift_P)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian_SKP[..., axis], (high_SK - low_SK) / 2e-5, rtol=1e-5, atol=1e-6)


def test_the_first_loss_by_hand() -> None:
    """At (0, 10), far above the axis: tanh(5) (log |-3.5 - tanh 10| + 6), and by symmetry the same for task 2."""
    losses_K = Problem.of(ToySettings()).losses_and_jacobian(np.array([0.0, 10.0]))[0]
    assert losses_K == pytest.approx([np.tanh(5) * (np.log(3.5 - np.tanh(10)) + 6)] * 2, rel=1e-12)
    printed_K = Problem.of(ToySettings(sign="paper")).losses_and_jacobian(np.array([0.0, 10.0]))[0]
    assert printed_K[1] == pytest.approx(np.tanh(5) * (np.log(3.5 + np.tanh(10)) + 6), rel=1e-12)
    assert printed_K[0] == losses_K[0]


def test_published_code_is_symmetric_and_the_printed_sign_is_not() -> None:
    theta_SP = np.random.default_rng(0).uniform(-11, 11, (50, 2))
    mirrored_SP = theta_SP * (-1, 1)
    for name in ("toy1o", "toy2o", "cagrad"):
        problem = Problem.of(ToySettings(problem=name))
        losses_SK, mirrored_SK = (problem.losses_and_jacobian(points)[0] for points in (theta_SP, mirrored_SP))
        np.testing.assert_allclose(losses_SK, mirrored_SK[:, ::-1], rtol=1e-12, atol=1e-12)
    printed = Problem.of(ToySettings(sign="paper"))
    losses_SK, mirrored_SK = (printed.losses_and_jacobian(points)[0] for points in (theta_SP, mirrored_SP))
    assert np.abs(losses_SK - mirrored_SK[:, ::-1]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "optima", "losses"),
    [
        ("toy1o", [(0.0, -8.36)], [(-15.09, -15.09)]),
        ("cagrad", [(0.0, -8.36)], [(-15.09, -15.09)]),
        ("toy2o", [(-5.45, -10.84), (5.45, -10.84)], [(-50.29, -23.84), (-23.84, -50.29)]),
    ],
)
def test_minima_are_the_published_ones(
    name: str, optima: list[tuple[float, float]], losses: list[tuple[float, float]]
) -> None:
    problem = Problem.of(ToySettings(problem=name))
    found = targets_of(problem)
    np.testing.assert_allclose(found.optima_NP, optima, atol=0.006)
    losses_NK = problem.losses_and_jacobian(found.optima_NP)[0]
    np.testing.assert_allclose(losses_NK, losses, atol=0.006)
    gradient_NP = problem.losses_and_jacobian(found.optima_NP)[1].sum(axis=1)
    assert np.abs(gradient_NP).max() < 1e-5


@pytest.mark.parametrize("name", PROBLEMS)
def test_pareto_set_is_where_no_direction_helps_both(name: str) -> None:
    problem = Problem.of(ToySettings(problem=name))
    found = targets_of(problem)
    jacobian_MKP = problem.losses_and_jacobian(found.pareto_MP[5:-5])[1]
    unit_MKP = jacobian_MKP / np.linalg.norm(jacobian_MKP, axis=-1, keepdims=True)
    np.testing.assert_allclose(unit_MKP.sum(axis=1), 0.0, atol=1e-6)
    # Along it one loss rises and the other falls, and no random point is better in both.
    assert (np.diff(found.front_MK, axis=0).prod(axis=1) < 0).all()
    losses_RK = problem.losses_and_jacobian(np.random.default_rng(1).uniform(-12, 12, (3000, 2)))[0]
    middle_K = found.front_MK[len(found.front_MK) // 2]
    assert not (losses_RK < middle_K).all(axis=1).any()
    # Where the minimum of the sum is unique, it lies on the set.
    if name != "toy2o":
        assert found.from_pareto(found.optima_NP).max() < 0.02


def test_scale_multiplies_the_first_loss() -> None:
    theta_SP = np.random.default_rng(2).uniform(-11, 11, (20, 2))
    plain = Problem.of(ToySettings()).losses_and_jacobian(theta_SP)
    for settings_, factors in (
        (ToySettings(scale=0.3), (0.3, 1.0)),
        (ToySettings(problem="nashmtl"), (0.1, 1.0)),
        (ToySettings(problem="aligned", scale=0.3), (0.3, 0.7)),
    ):
        losses_SK, jacobian_SKP = Problem.of(settings_).losses_and_jacobian(theta_SP)
        np.testing.assert_allclose(losses_SK, plain[0] * factors, rtol=1e-12)
        np.testing.assert_allclose(jacobian_SKP, plain[1] * np.array(factors)[:, None], rtol=1e-12)


def test_distances() -> None:
    found = targets_of(Problem.of(ToySettings()))
    assert found.from_optima(np.array([[[3.0, -8.3551], [0.0, -4.3551]]])) == pytest.approx(
        np.array([[3.0, 4.0]]), abs=1e-3
    )
    assert found.from_pareto(np.array([3.0, -5.0])) == pytest.approx(3.36, abs=0.02)
