"""CAGrad against a conic solver, TorchJD and closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchjd.aggregation import CAGrad as TorchJDCAGrad

from mtrl_surgery.methods._solvers.arrays import NUMPY, TORCH
from mtrl_surgery.methods.cagrad import CagradConfig, solve_cagrad
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import make_method
from tests.methods.jacobians import KINDS, direction, jacobian, jacobians

# The conic solver is asked for more digits than it always reaches, so that it is not the less exact of the two.
pytestmark = pytest.mark.filterwarnings("ignore:Solution may be inaccurate")


def best_gain(gradients: np.ndarray, c: float) -> float:
    """The optimum of max_d min_i g_i.d in CAGrad's ball: its dual, solved by a conic solver.

    Written for unit gradients, as the badly scaled problem is beyond the conic solver's accuracy.
    """
    gramian = gradients @ gradients.T
    norms = np.sqrt(gramian.diagonal())
    mean_norm = np.sqrt(gramian.mean())
    eigenvalues, vectors = np.linalg.eigh(gramian / np.outer(norms, norms))
    root = np.sqrt(eigenvalues.clip(0))[:, None] * vectors.T
    x = cp.Variable(len(norms), nonneg=True)
    gain = x @ (gramian.mean(axis=1) / norms / mean_norm) + c * cp.norm(root @ x)
    problem = cp.Problem(cp.Minimize(gain), [(norms.min() / norms) @ x == 1])
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value) * mean_norm * norms.min()


def check(gradients: np.ndarray, c: float) -> None:
    extra_K, gap = solve_cagrad(NUMPY, gradients @ gradients.T, c)
    mean = gradients.mean(axis=0)
    length = np.linalg.norm(mean)
    assert np.linalg.norm(extra_K @ gradients) <= c * length * (1 + 1e-7)
    gain = (gradients @ (mean + extra_K @ gradients)).min()
    best = best_gain(gradients, c)
    norms = np.linalg.norm(gradients, axis=1)
    # What float64 can tell of a short gradient's gain beside long ones, and what the solver promises near 0.
    rounding = 1e-14 * norms.min() * norms.max() + 1e-10 * norms.min() * length
    assert gain >= best - 1e-6 * abs(best) - rounding
    assert gap < 1e-6 or gap * abs(best) <= rounding


@settings(max_examples=40, deadline=None)
@given(jacobians(least=2), st.sampled_from((0.0, 0.1, 0.4, 0.9)))
def test_the_worst_tasks_gain_is_the_conic_solvers(gradients: np.ndarray, c: float) -> None:
    check(gradients, c)


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_tasks(kind: str) -> None:
    check(jacobian(kind, 50, 100, 0), 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9, 0.99])
@pytest.mark.parametrize("tasks", [2, 3, 10, 25, 50])
def test_many_problems(kind: str, c: float, tasks: int) -> None:
    for seed in range(10):
        check(jacobian(kind, tasks, 2 * tasks, seed), c)


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_for_devices_is_the_form_for_the_host(kind: str) -> None:
    gradients = jacobian(kind, 8, 20, 1)
    gramian = gradients @ gradients.T
    host, _ = solve_cagrad(NUMPY, gramian, 0.4)
    device, gap = solve_cagrad(TORCH, torch.as_tensor(gramian), 0.4)
    assert gap < 1e-6
    scale = np.linalg.norm(gradients.mean(axis=0))
    np.testing.assert_allclose(device.numpy() @ gradients, host @ gradients, atol=1e-3 * scale)
    gains = [(gradients @ (gradients.mean(axis=0) + extra @ gradients)).min() for extra in (host, device.numpy())]
    assert gains[0] == pytest.approx(gains[1], rel=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "aligned", "conflicting"])
@pytest.mark.parametrize("c", [0.2, 0.5])
def test_the_direction_is_torchjds(kind: str, c: float) -> None:
    gradients = torch.as_tensor(jacobian(kind, 6, 20, 5))
    ours = direction(make_method(CagradConfig(c=c), 6, 0), gradients)
    theirs = TorchJDCAGrad(c=c)(gradients)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.norm()))


@settings(max_examples=40, deadline=None)
@given(jacobians(least=2, most=2), st.sampled_from((0.1, 0.4, 0.9)))
def test_two_tasks_against_a_search_of_the_segment(gradients: np.ndarray, c: float) -> None:
    result = direction(make_method(CagradConfig(c=c), 2, 0), gradients).numpy()
    mean = gradients.mean(axis=0)
    share = np.concatenate([np.linspace(0, 1, 2001), np.logspace(-12, -3, 200), 1 - np.logspace(-12, -3, 200)])
    mixed = share[:, None] * gradients[0] + (1 - share[:, None]) * gradients[1]
    upper = (mixed @ mean + c * np.linalg.norm(mean) * np.linalg.norm(mixed, axis=1)).min()
    norms = np.linalg.norm(gradients, axis=1)
    gain = (gradients @ result).min()
    assert upper - gain >= -1e-9 * norms.max() ** 2, "no direction beats the dual"
    assert upper - gain <= 1e-3 * abs(upper) + 1e-5 * norms.min() * np.linalg.norm(mean)


def test_no_radius_is_the_mean_gradient() -> None:
    gradients = jacobian("gaussian", 5, 9, 0)
    result = direction(make_method(CagradConfig(c=0.0), 5, 0), gradients)
    torch.testing.assert_close(result, torch.as_tensor(gradients.mean(axis=0)))


def test_scales() -> None:
    gradients, c = jacobian("gaussian", 5, 9, 0), 0.4
    paper = direction(make_method(CagradConfig(c=c), 5, 0), gradients)
    for options, factor in (({"rescale": 1}, 1 / 1.16), ({"rescale": 2}, 1 / 1.4), ({"reduction": "sum"}, 5.0)):
        other = direction(make_method(CagradConfig(c=c, **options), 5, 0), gradients)  # type: ignore[arg-type]
        torch.testing.assert_close(other, factor * paper)


def test_a_task_without_gradient_is_left_out_of_the_minimum() -> None:
    gradients = jacobian("conflicting", 4, 9, 2)
    gradients[1] = 0
    result = direction(make_method(CagradConfig(), 4, 0), gradients).numpy()
    rest = gradients[[0, 2, 3]]
    mean = gradients.mean(axis=0)
    w = cp.Variable(3, nonneg=True)
    gain = w @ (rest @ mean) + 0.4 * np.linalg.norm(mean) * cp.norm(rest.T @ w)
    best = cp.Problem(cp.Minimize(gain), [cp.sum(w) == 1]).solve(cp.CLARABEL)
    assert (rest @ result).min() == pytest.approx(best, rel=1e-5)


def test_two_opposite_gradients_and_a_third() -> None:
    """No direction helps both opposite tasks, so the best gain is 0 and d must not touch them."""
    gradients = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.1, 2.0, 1.0]])
    result = direction(make_method(CagradConfig(), 3, 0), gradients).numpy()
    mean = gradients.mean(axis=0)
    assert np.linalg.norm(result - mean) <= 0.4 * np.linalg.norm(mean) * (1 + 1e-9)
    assert abs(result[0]) < 1e-8
    assert gradients[2] @ result > 0


def test_float32_gramians_of_cancelling_gradients_stay_finite_and_in_the_ball() -> None:
    for seed in range(20):
        gradients = torch.as_tensor(jacobian("rank_deficient", 10, 4, seed), dtype=torch.float32)
        gradients -= 0.999 * gradients.mean(dim=0)
        result = direction(make_method(CagradConfig(), 10, 0), gradients, dtype=torch.float32)
        mean = gradients.mean(dim=0)
        noise = 1e-3 * gradients.norm(dim=1).max()  # |g_0|, read off a float32 Gramian
        assert (result - mean).norm() <= 0.4 * mean.norm() + noise


def test_a_radius_of_one_or_more_is_refused() -> None:
    with pytest.raises(MethodError, match=r"cagrad\.c=1\.0: must be >= 0 and < 1"):
        CagradConfig(c=1.0)
