"""The loss weightings of one formula, and where all of them, and GradNorm, end on a convex two-task problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd.scalarization import Constant

from mtrl_surgery.methods.base import Stochastic
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.dwa import DwaConfig
from mtrl_surgery.methods.gradnorm import GradnormConfig
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.methods.rlw import RLW, RlwConfig
from mtrl_surgery.methods.scaleinvls import ScaleInvariantLS, ScaleinvlsConfig
from mtrl_surgery.methods.stl import STL, StlConfig
from mtrl_surgery.methods.uw import UwConfig
from tests.methods.jacobians import direction


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_scaleinvls_is_the_gradient_of_the_log_losses(reduction: str) -> None:
    losses = torch.tensor([1e-6, 0.3, 7.0, 1e9], dtype=torch.float64, requires_grad=True)
    logs = (losses + 1e-8).log()
    (expected,) = torch.autograd.grad(logs.sum() if reduction == "sum" else logs.mean(), losses)
    torch.testing.assert_close(
        ScaleInvariantLS(4, ScaleinvlsConfig(reduction=reduction)).weights(losses.detach()), expected
    )


def test_scaleinvls_does_not_see_the_scale_of_a_loss() -> None:
    method, losses = ScaleInvariantLS(2, ScaleinvlsConfig(eps=1e-30)), torch.tensor([0.5, 2.0], dtype=torch.float64)
    gradients = torch.tensor([[1.0, -2.0, 0.3], [0.4, 1.0, 3.0]], dtype=torch.float64)
    units = torch.tensor([1e-10, 1e10], dtype=torch.float64)
    torch.testing.assert_close(
        direction(method, units[:, None] * gradients, units * losses), direction(method, gradients, losses)
    )


def test_scaleinvls_of_a_solved_task_is_finite_and_of_a_negative_loss_is_not_a_number() -> None:
    weights = ScaleInvariantLS(3, ScaleinvlsConfig(eps=1e-3)).weights(torch.tensor([0.0, -1e-9, 1.0]))
    assert weights[0] == pytest.approx(1e3)
    assert weights.isnan().tolist() == [False, True, False]


def test_stl_is_torchjds_constant() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    Constant(torch.tensor([0.0, 0.0, 1.0]))(losses).backward()
    assert torch.equal(STL(3, StlConfig(task=2)).weights(losses.detach()), losses.grad)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"stl\.task=3: choose one of 0 to 2"):
        STL(3, StlConfig(task=3))


@pytest.mark.parametrize("distribution", ["normal", "uniform", "dirichlet"])
def test_rlws_weights_have_the_published_distribution(distribution: str) -> None:
    """Against NumPy's own sampling: the quantiles of one weight, and the mean of a product of two."""
    calls, tasks, rng = 4000, 3, np.random.default_rng(0)
    method = RLW(tasks, RlwConfig(distribution=distribution), seed=1)
    ours = torch.stack([method.weights(torch.zeros(tasks, dtype=torch.float64)) for _ in range(calls)]).numpy()
    size = (200_000, tasks)
    draws = rng.standard_normal(size) if distribution == "normal" else rng.random(size)
    theirs = np.exp(draws) / np.exp(draws).sum(axis=1, keepdims=True)
    if distribution == "dirichlet":
        theirs = rng.dirichlet(np.ones(tasks), size[0])
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    np.testing.assert_allclose(ours.sum(axis=1), 1)
    for task in range(tasks):
        np.testing.assert_allclose(np.quantile(ours[:, task], levels), np.quantile(theirs[:, 0], levels), atol=0.025)
    assert (ours[:, 0] * ours[:, 1]).mean() == pytest.approx((theirs[:, 0] * theirs[:, 1]).mean(), abs=0.004)


# L_k = a_k (1/2 + |theta - p_k|^2 / 2), one ten times the other; the Pareto set is the segment between the centres.
SCALES = torch.tensor([1.0, 10.0], dtype=torch.float64)
CENTRES = torch.tensor([[0.0, 0.0], [1.2, 0.5]], dtype=torch.float64)
START = torch.tensor([-1.0, 1.0], dtype=torch.float64)


def losses_at(theta: Tensor) -> Tensor:
    return SCALES * (0.5 + 0.5 * (theta - CENTRES).square().sum(dim=1))


def along(share: float) -> Tensor:
    return CENTRES[0] + share * (CENTRES[1] - CENTRES[0])


def equal_progress() -> Tensor:
    """The Pareto-optimal point where both losses have come down to the same share of their first value."""
    ratios = torch.stack([losses_at(along(x)) / losses_at(START) for x in torch.linspace(0, 1, 10_001).tolist()])
    return along(float((ratios[:, 0] - ratios[:, 1]).abs().argmin()) / 10_000)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # The weighted gradient vanishes where the log-losses' sum is least: half-way, whatever the scales.
        pytest.param(ScaleinvlsConfig(), along(0.5), id="scaleinvls"),
        # At its optimum in s, UW's loss is that same sum of logarithms.
        pytest.param(UwConfig(), along(0.5), id="uw"),
        # Rates tend to 1, so the weights become equal: the minimum of the plain sum.
        pytest.param(DwaConfig(epoch_updates=20), along(10 / 11), id="dwa"),
        # The expected weights are equal: the same point, with steps that shrink.
        pytest.param(RlwConfig(), along(10 / 11), id="rlw"),
        pytest.param(StlConfig(task=0), along(0.0), id="stl"),
        # Two weighted gradients that cancel have equal norms, so both rates are 1.
        pytest.param(GradnormConfig(lr=0.005), equal_progress(), id="gradnorm"),
    ],
)
def test_where_gradient_descent_ends_on_two_quadratics(config: MethodConfig, expected: Tensor) -> None:
    method, theta = make_method(config, 2, 0), START.clone()
    for step in range(1500):
        jacobian = SCALES[:, None] * (theta - CENTRES)
        theta = theta - 0.05 / (1 + step / 100) * direction(method, jacobian, losses_at(theta))
    torch.testing.assert_close(theta, expected, rtol=0, atol=0.03)
    if not isinstance(method, Stochastic):
        weights_K = method.diagnostics()["weights_K"]
        weighted = weights_K @ (SCALES[:, None] * (theta - CENTRES))
        assert weighted.norm() < 0.02 * SCALES.max(), "the weighted gradient vanishes"
